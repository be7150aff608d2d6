"""Values in the page come back as they were, by a decoder that is not the page's."""

from __future__ import annotations

import base64
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from geoml.io.webmap.encode import picture_uri, values_text


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64", ">i2"])
def test_values_come_back(dtype: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 250, (7, 11)).astype(dtype)
    if np.dtype(dtype).kind == "f":
        values[2, 3] = np.nan
    raw = np.frombuffer(zlib.decompress(base64.b64decode(values_text(values))), np.uint8)
    planes = np.cumsum(raw.reshape(-1, 7, 11), axis=2, dtype=np.uint8)
    little = np.dtype(dtype).newbyteorder("<")
    back = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view(little)[..., 0]
    assert np.array_equal(back, values, equal_nan=np.dtype(dtype).kind == "f")


def test_smooth_layers_are_small() -> None:
    y, x = np.mgrid[:300, :300]
    smooth = (100 + 3 * np.sin(x / 60) + y / 50).astype(np.float32)
    assert len(values_text(smooth)) < 0.6 * len(base64.b64encode(zlib.compress(smooth.tobytes(), 6)))


def test_a_picture_is_clear_where_it_was() -> None:
    picture = np.zeros((40, 60, 4), np.uint8)
    picture[:, 30:] = (200, 30, 60, 255)
    uri = picture_uri(picture)
    assert uri.startswith("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        back = np.asarray(image.convert("RGBA")).astype(int)
    assert np.array_equal(back[..., 3], picture[..., 3])
    assert np.abs(back[5:-5, 35:-5, :3] - picture[5:-5, 35:-5, :3]).max() < 12
