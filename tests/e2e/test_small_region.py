"""A region that is small beside its block: its pictures have the detail of the data and cover what the map covers."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image

from geoml import testing
from tests.e2e.test_map import data_of

RNG = np.random.default_rng(8)
SCENE = testing.Scene(
    id="fine",
    data=RNG.integers(1000, 3000, (2, 137, 141), dtype=np.uint16),
    bands=("red", "nir"),
    origin=(600_010, 7_000_050),
)
"""No pixel is like its neighbour, and the edges lie on no cell of several pixels."""


def pictures(page: str) -> list[NDArray[np.uint8]]:
    """RGBA of those of a page, in their order."""
    coded = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(c))).convert("RGBA")) for c in coded]


@pytest.mark.parametrize("size", [2048, 64, 512])
def test_it_is_seen_as_sharp_as_its_data(
    threshold: str, tmp_path: Path, predict: Callable[..., Path], size: int
) -> None:
    catalog = testing.write_catalog(tmp_path / "made", [SCENE])
    out = predict(threshold, catalog, SCENE.bbox(), block_size=size)
    image, classes = pictures((out / "report.html").read_text())[:2]
    known, seen = (p[..., 3] == 255 for p in (classes, image))
    grey = [208, 212, 218, 255]
    known, seen = known & (classes != grey).any(-1), seen & (image != grey).any(-1)
    np.testing.assert_array_equal(seen, known)
    assert seen.sum() == 137 * 141
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    shown = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, 0].astype(float)
    assert np.corrcoef(shown.ravel(), SCENE.data[0].ravel())[0, 1] > 0.99
    page = data_of(out)
    assert {p["key"] for p in page["pictures"]} == {"image"}
    with rasterio.open(out / "layers" / "image.vrt") as mosaic:
        alpha, left, top = mosaic.read(4), *(mosaic.transform.c, mosaic.transform.f)
        assert mosaic.res == (10.0, 10.0)
    where = np.argwhere(alpha)
    (first, west), (last, east) = where.min(0), where.max(0)
    assert (left + 10 * west, top - 10 * first) == SCENE.origin
    assert (last - first + 1, east - west + 1) == (137, 141)
