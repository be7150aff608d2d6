"""How much of an outline had data: made valid counts, counted again pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray

from geoml import testing
from geoml.errors import DataError
from geoml.grid.plane import Block, Plane
from geoml.io.cog import looked
from geoml.io.cog.looked import looked_share

PLANE = Plane("EPSG:32633", 10.0)
SIZE = 64
TOP, LEFT = -78_000 * 8, 64 * 1000
"""Of the counts, in pixels of the plane; whole blocks."""
OUTSIDE = 255


@pytest.fixture
def counts() -> NDArray[np.uint8]:
    """(128, 192), three blocks beside three: clouds in the middle, nothing asked for in the last columns."""
    made = np.full((2 * SIZE, 3 * SIZE), 2, np.uint8)
    made[50:80, 40:100] = 0
    made[:, 180:] = OUTSIDE
    return made


def degrees(top: float, left: float, bottom: float, right: float) -> shapely.Geometry:
    """A box in pixels of the counts."""
    x, y = np.array([left, right]) + LEFT, np.array([bottom, top]) + TOP
    ground = shapely.box(x[0] * 10, -y[0] * 10, x[1] * 10, -y[1] * 10)
    to = pyproj.Transformer.from_crs(PLANE.crs, "EPSG:4326", always_xy=True).transform
    return shapely.transform(ground, to, interleaved=False)


def written(counts: NDArray[np.uint8], folder: Path) -> dict[tuple[int, int], Path]:
    files = {}
    for iy in range(2):
        for ix in range(3):
            part = counts[None, iy * SIZE : (iy + 1) * SIZE, ix * SIZE : (ix + 1) * SIZE]
            place = Affine(10, 0, (LEFT + ix * SIZE) * 10, 0, -10, -(TOP + iy * SIZE) * 10)
            path = folder / f"{iy}-{ix}.tif"
            testing.write_cog(path, part, crs=PLANE.crs, transform=place, nodata=OUTSIDE)
            files[TOP // SIZE + iy, LEFT // SIZE + ix] = path
    return files


BOXES = {
    "clear, over four blocks": ((48, 120, 80, 140), 1.0),
    "under the cloud": ((55, 45, 70, 90), 0.0),
    "half under it": ((60, 90, 70, 110), 0.5),
    "half outside the region": ((10, 170, 20, 190), 1.0),
    "outside": ((10, 184, 20, 190), 0.0),
    "smaller than a pixel, between centres": ((10.6, 10.6, 10.9, 10.9), 1.0),
    "beyond the blocks": ((-20, 10, -10, 20), 0.0),
}


@pytest.mark.parametrize("batch", [1, 4096])
def test_shares_are_those_of_the_pixels(
    counts: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(looked, "BATCH", batch)
    files = written(counts, tmp_path)
    boxes = np.array([degrees(*box) for box, _ in BOXES.values()], object)
    region = degrees(-40, -40, 128, 192)
    share = looked_share(boxes, [(PLANE, region)], SIZE, lambda block: files.get((block.iy, block.ix)))
    assert dict(zip(BOXES, share.tolist(), strict=True)) == {name: share for name, (_, share) in BOXES.items()}


def test_a_block_that_was_not_done_was_not_looked_at(counts: NDArray[np.uint8], tmp_path: Path) -> None:
    files = written(counts, tmp_path)

    def some(block: Block) -> Path | None:
        return files[block.iy, block.ix] if block.ix == LEFT // SIZE + 2 else None

    share = looked_share(np.array([degrees(10, 118, 20, 138)], object), [(PLANE, degrees(0, 0, 128, 192))], SIZE, some)
    assert share == pytest.approx([0.5])


def test_ground_outside_the_region_does_not_count(counts: NDArray[np.uint8], tmp_path: Path) -> None:
    """The region ends where the cloud begins."""
    files = written(counts, tmp_path)
    region = degrees(0, 0, 50, 192)
    share = looked_share(
        np.array([degrees(40, 60, 60, 70)], object), [(PLANE, region)], SIZE, lambda b: files[b.iy, b.ix]
    )
    assert share == pytest.approx([1.0])


def test_two_zones_share_an_outline(counts: NDArray[np.uint8], tmp_path: Path) -> None:
    files = written(counts, tmp_path)
    parts = [(PLANE, degrees(0, 0, 128, 95)), (PLANE, degrees(0, 95, 128, 192))]
    share = looked_share(np.array([degrees(60, 90, 70, 110)], object), parts, SIZE, lambda b: files[b.iy, b.ix])
    assert share == pytest.approx([0.5])


def test_a_damaged_count_is_named(counts: NDArray[np.uint8], tmp_path: Path) -> None:
    files = written(counts, tmp_path)
    for path in files.values():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"\d-\d\.tif: the count of valid observations cannot be read"):
        looked_share(
            np.array([degrees(10, 10, 20, 20)], object),
            [(PLANE, degrees(0, 0, 99, 99))],
            SIZE,
            lambda b: files[b.iy, b.ix],
        )
