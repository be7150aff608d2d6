"""Pictures that a locator is not for: every kind is what it says, and the same again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoml.errors import DataError
from geoml.geolocation.training import outliers, patterns, world
from geoml.testing import pictures as photos

SIZE = 48


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> outliers.Material:
    made = photos.made_world(tmp_path_factory.mktemp("world"))
    scene = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    june, january = (world.read(made / f"{name}.png") for name in ("june", "january"))
    return outliers.Material(june, world.read_land(made / "land.bin"), (january,), (scene,))


@pytest.mark.parametrize("kind", outliers.KINDS)
def test_pictures_of_a_kind_repeat_and_differ(material: outliers.Material, kind: str) -> None:
    found = list(outliers.pictures(material, kind, 30, SIZE, 7))
    assert {(p.shape, p.dtype) for p in found} == {((SIZE, SIZE, 3), np.dtype(np.uint8))}
    again = list(outliers.pictures(material, kind, 5, SIZE, 7))
    assert all((a == b).all() for a, b in zip(found, again, strict=False))
    other = list(outliers.pictures(material, kind, 5, SIZE, 8))
    assert sum((a == b).all() for a, b in zip(again, other, strict=True)) < 2
    assert len({p.tobytes() for p in found}) > 20


@pytest.mark.parametrize("draw", [*patterns.BLANK, *patterns.GROUND, patterns.waves, patterns.streets])
def test_every_pattern_is_a_picture(draw) -> None:
    for seed in range(6):
        rgb = draw(np.random.default_rng(seed), SIZE)
        assert (rgb.shape, rgb.dtype) == ((SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize("look", outliers.RENDERINGS)
def test_every_look_changes_a_picture(look, material: outliers.Material) -> None:
    rgb = patterns.GROUND[3](np.random.default_rng(1), SIZE)
    changed = look(rgb, np.random.default_rng(2))
    assert (changed.shape, changed.dtype) == (rgb.shape, np.uint8)
    assert np.abs(changed.astype(int) - rgb).mean() > 3


def test_the_sea_is_sea_and_a_drawing_has_the_land(material: outliers.Material) -> None:
    for i in range(20):
        rng = np.random.default_rng(i)
        view = outliers._view(material, rng, 800.0, lambda share: share <= 0.01)
        assert world.land_share(material.land, np.array([view.lon]), np.array([view.lat]), 800.0)[0] <= 0.01
        assert view.lat < 0, "the made world has land in the north"
    land = np.zeros((SIZE, SIZE), bool)
    land[:, :20] = True
    drawn = patterns.drawing(land, np.random.default_rng(3)).astype(int)
    left, right = (np.median(part.reshape(-1, 3), 0) for part in (drawn[:, :18], drawn[:, 24:]))
    assert np.abs(left - right).max() > 5


def test_slopes_to_the_light_are_bright() -> None:
    """Horn's formula: a plane of 45 degrees is brightest in light at a right angle to it, and dark from behind."""
    height = np.tile(np.linspace(0, 1, 50)[:, None], (1, 50)).astype(np.float32)  # rises southwards, faces north
    steep = 4.9  # a slope of 1
    assert patterns.shaded(height, 180, steep).mean() == pytest.approx(1, abs=0.01)
    assert patterns.shaded(height, 0, steep).mean() == pytest.approx(0, abs=0.01)
    east = np.ascontiguousarray(height.T)  # rises eastwards, faces west
    assert patterns.shaded(east, 90, steep).mean() == pytest.approx(1, abs=0.01)


def test_a_scene_is_stretched_and_a_lost_one_is_named(tmp_path: Path) -> None:
    values = np.linspace(100, 4000, 64 * 64).reshape(64, 64).astype(np.uint16)
    for name in ("red", "green", "blue"):
        with rasterio.open(tmp_path / f"{name}.tif", "w", driver="GTiff", width=64, height=64, count=1, dtype="uint16",
                           crs="EPSG:32633", transform=Affine(30, 0, 0, 0, -30, 0), nodata=0) as file:  # fmt: skip
            file.write(values, 1)
    rgb = outliers.read_scene(tmp_path)
    assert (rgb.min(), rgb.max()) == (0, 255)
    assert abs(int(rgb[32, 32, 0]) - 128) < 4
    (tmp_path / "blue.tif").unlink()
    with pytest.raises(DataError, match="blue"):
        outliers.read_scene(tmp_path)
