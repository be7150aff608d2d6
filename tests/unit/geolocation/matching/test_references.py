"""Grounds: wide maps in degrees over the antimeridian, and thresholds that are chosen once and kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import shapely
from affine import Affine

from geoml.cube.keypoints import Keypoints
from geoml.errors import DataError, InputError, NothingFound
from geoml.geolocation.matching import references
from geoml.geolocation.matching.acceptance import Acceptance
from geoml.geolocation.matching.frames import FrameReference
from geoml.geolocation.matching.match import locate
from geoml.geolocation.matching.references import IndexedReference, acceptance_path, files, of_files
from geoml.geolocation.matching.rows import HOW, footprint
from geoml.geolocation.training.world import View, World
from geoml.grid import sphere
from geoml.testing import write_cog

RES = 0.2


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(0)
    total = np.zeros((900, 1800))
    for sigma in (1.0, 2.5, 6.0):
        noise = scipy.ndimage.gaussian_filter(rng.normal(size=total.shape), sigma)
        total += 22 * noise / noise.std()
    return World(np.clip(np.stack([120 + total, 110 + 0.9 * total, 90 + 0.8 * total], -1), 1, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def pacific(world: World, tmp_path_factory: pytest.TempPathFactory) -> IndexedReference:
    """Two files of 30 degrees that meet at the antimeridian, from 40 to 70 degrees north."""
    folder = tmp_path_factory.mktemp("pacific")
    for name, lon in (("east", 150), ("west", -180)):
        x = round((lon + 180) / RES)
        data = np.moveaxis(world.rgb[100:250, x : x + 150], -1, 0)
        write_cog(folder / f"{name}.tif", data, crs="EPSG:4326", transform=Affine(RES, 0, lon, 0, -RES, 70))
    return of_files(files([folder]), folder / "cache")


def test_a_map_in_degrees_is_seen_without_its_stretch_over_the_antimeridian(
    world: World, pacific: IndexedReference
) -> None:
    """Pixels at 60 degrees north are half as wide as high, which no keypoint survives."""
    assert "laea" in str(pacific.index.crs)
    view = View(179.0, 57.0, 2000.0, 70.0)
    image = world.crop(view, 110)
    found = locate(image, pacific.index, Acceptance(5.0, -15.0, 20), options=HOW)
    assert found.status == "ok", found.reason
    assert sphere.distance(found.lon, found.lat, view.lon, view.lat) < 12, "half a pixel of the map"
    assert (found.heading - view.heading + 180) % 360 - 180 == pytest.approx(0, abs=1)
    assert pacific.piece(found.lon, found.lat) == "east"
    shape = footprint(found, image)
    assert isinstance(shape, shapely.MultiPolygon)
    assert shape.is_valid
    assert (shape.bounds[0], shape.bounds[2]) == (-180.0, 180.0)
    assert shape.contains(shapely.Point(found.lon, found.lat))


def test_a_threshold_is_chosen_once_for_a_size(pacific: IndexedReference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "TRIES", 3)
    chosen = pacific.acceptance(70)
    assert (chosen.true, chosen.false > 3) == (3, True)
    assert chosen.threshold > chosen.highest
    path = acceptance_path(pacific.folder, 80)
    assert json.loads(path.read_text())["threshold"] == chosen.threshold
    again = IndexedReference(pacific.index, pacific.folder)
    monkeypatch.setattr(references, "of_map", None)  # it would be called
    assert again.acceptance(80) == chosen
    path.write_text("{}")
    with pytest.raises(DataError, match="damaged acceptance"):
        IndexedReference(pacific.index, pacific.folder).acceptance(80)


def test_what_is_no_reference(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    assert files([tmp_path, tmp_path / "a.tif"]) == [str(tmp_path / "a.tif")]
    with pytest.raises(NothingFound):
        files([tmp_path / "empty"])
    with pytest.raises(InputError, match="does not exist"):
        files([tmp_path / "none.tif"])
    with pytest.raises(InputError, match="one of them"):
        files([tmp_path, "https://example.org/a.tif"])


def test_frames_over_the_antimeridian_are_where_they_are() -> None:
    """Three places on the equator, 111 metres apart, on either side of 180 degrees."""
    lonlat = np.array([[179.9995, 0.0], [-179.9995, 0.0], [-179.9985, 0.0]])
    none = [Keypoints.none()] * 3
    x, y = FrameReference(["a", "b", "c"], none, [(10, 10)] * 3, lonlat, 5.0, []).positions.T
    assert np.allclose(np.diff(x), 111.32, atol=0.01)
    assert np.allclose(y, 0, atol=1e-6)
