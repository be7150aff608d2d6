"""Arrays as they stand in the page: values exactly as stored, pictures as WebP."""

from __future__ import annotations

import base64
import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoml.io.webmap.leaflet import data_uri

QUALITY = 80
"""Of a picture; a value is never lossy."""


def values_text(values: NDArray[Any]) -> str:
    """(y, x) values as base64 of zlib: differences along each row of the first bytes of all, then of the second bytes.

    Little-endian; the script of the page turns it back. Smooth layers take a third of what they would as they are.
    """
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    planes = little.view(np.uint8).reshape(*values.shape, values.dtype.itemsize)
    planes = np.moveaxis(planes, -1, 0)
    steps = np.diff(planes, axis=2, prepend=np.uint8(0))
    return base64.b64encode(zlib.compress(steps.tobytes(), 6)).decode()


def picture_uri(picture: NDArray[np.uint8]) -> str:
    """(y, x, 4) colours as ``data:image/webp``, clear where they are clear."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "WEBP", quality=QUALITY, method=3)
    return data_uri("image/webp", file.getvalue())
