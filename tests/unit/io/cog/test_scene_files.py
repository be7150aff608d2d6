"""What the headers of somebody's files say: true metres, ground around a pole, one date for a scene."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geoml.cube.footprint import footprint as grid_footprint
from geoml.data.own_labels import _grid
from geoml.engine.images.catalog import _crs
from geoml.errors import InputError
from geoml.io.cog.scene_fields import SceneFields
from geoml.io.cog.scene_files import scenes_of
from geoml.io.cog.scene_items import footprint
from geoml.io.crs import stretch, true_metres
from geoml.io.cubes.catalog import outline_of

ONE = SceneFields(bands=("grey",))
TWO = SceneFields(bands=("red", "nir"))


def tif(path: Path, crs: str, x: float, y: float, res: float, side: int = 8, **tags: str) -> str:
    """A square image of one band around a place in its CRS."""
    half = side * res / 2
    place: dict[str, Any] = {"crs": crs, "transform": Affine(res, 0, x - half, 0, -res, y + half)}
    with rasterio.open(path, "w", driver="GTiff", count=1, height=side, width=side, dtype="uint8", **place) as file:
        file.write(np.ones((1, side, side), np.uint8))
        file.update_tags(**tags)
    return str(path)


@pytest.mark.parametrize("latitude", [0.0, 45.0, 60.0, -70.0])
def test_pixels_of_web_mercator_have_their_size_on_the_ground(tmp_path: Path, latitude: float) -> None:
    x, y = pyproj.Transformer.from_crs(4326, 3857, always_xy=True).transform(10.0, latitude)
    (scene,) = scenes_of([tif(tmp_path / "a_20240601.tif", "EPSG:3857", x, y, 1.0)], ONE)
    box = scene.files[0].box
    line = pyproj.Geod(ellps="WGS84")
    lon, lat = pyproj.Transformer.from_crs(3857, 4326, always_xy=True).transform(
        [x - 0.5, x + 0.5, x, x], [y, y, y - 0.5, y + 0.5]
    )
    wide, high = (line.inv(lon[k], lat[k], lon[k + 1], lat[k + 1])[2] for k in (0, 2))
    assert scene.gsd == pytest.approx(math.sqrt(wide * high), rel=0.01)
    assert true_metres(box) == (latitude == 0)
    crs, gsd, _ = _grid([scene])
    assert crs == ("EPSG:3857" if latitude == 0 else f"EPSG:{32632 if latitude > 0 else 32732}")
    assert gsd == pytest.approx(scene.gsd, rel=0.01)
    assert _crs([scene]) == ("data" if latitude == 0 else "utm")


@pytest.mark.parametrize(
    ("crs", "x", "y", "much"),
    [
        ("EPSG:32633", 500_000.0, 5e6, 0.9996),
        ("EPSG:3035", 4_321_000.0, 3_210_000.0, 1.0),
        ("EPSG:4326", 10.0, 60.0, 1.0),
        ("EPSG:3857", 0.0, 8_399_737.89, 2.0),
        ("EPSG:2263", 984_250.0, 194_305.0, 1.0),
    ],
)
def test_how_much_a_map_is_stretched(crs: str, x: float, y: float, much: float) -> None:
    assert stretch(GeoBox((2, 2), Affine(1, 0, x - 1, 0, -1, y + 1), crs)) == pytest.approx(much, rel=1e-4)


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90), ("EPSG:3031", -90), ("EPSG:32661", 90)])
@pytest.mark.parametrize("off", [0.0, 3_000_000.0])
def test_an_image_around_a_pole_has_all_of_its_ground(tmp_path: Path, crs: str, pole: int, off: float) -> None:
    middle = 2e6 if crs == "EPSG:32661" else 0.0
    path = tif(tmp_path / "a_20240601.tif", crs, middle + off, middle, 250_000.0, side=16)
    ground = footprint(scenes_of([path], ONE))
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 4000), pole - math.copysign(1, pole) * rng.uniform(0, 40, 4000)
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    from_edge = np.maximum(np.abs(x - middle - off), np.abs(y - middle)) - 2_000_000
    sure = np.abs(from_edge) > 30_000  # edges are lines between points on the map
    assert np.array_equal(shapely.contains_xy(ground, lon, lat)[sure], (from_edge < 0)[sure])
    assert bool(shapely.contains_xy(ground, 17.0, pole * 0.99999)) == (off == 0)


def test_grids_of_cubes_and_of_chips_have_their_ground_around_a_pole_too() -> None:
    box = GeoBox((16, 16), Affine(250_000, 0, -2e6, 0, -250_000, 2e6), "EPSG:3413")
    for found in (outline_of(box), grid_footprint(box)):
        assert found is not None
        assert shapely.contains_xy(found, [0.0, 179.0, -90.0], [89.9, 88.0, 80.0]).all()
        assert not shapely.contains_xy(found, 0.0, 60.0)


def test_files_of_one_scene_are_of_one_date(tmp_path: Path) -> None:
    there = ("EPSG:32633", 500_000.0, 5e6, 10.0)
    apart = [tif(tmp_path / f"a_{d}_{b}.tif", *there) for d, b in (("20230101", "B04"), ("20240601", "B08"))]
    with pytest.raises(InputError, match=r"image: files of one scene say 2023-01-01 and 2024-06-01; expected"):
        scenes_of(apart, TWO, field="image")
    (told,) = scenes_of(apart, TWO, ["2024-06-01"])
    assert (told.when.year, told.dated_by) == (2024, "--datetime")
    named = tif(tmp_path / "b_20240601_B04.tif", *there)
    tagged = tif(tmp_path / "b_B08.tif", *there, ACQUISITION_DATE="2024-06-03")
    with pytest.raises(InputError, match=r"scenes: files of one scene say 2024-06-01 and 2024-06-03"):
        scenes_of([named, tagged], TWO)
    assert [s.when.day for s in scenes_of([named, tagged], SceneFields(bands=("grey",)))] == [1, 3], "two scenes"
    night = [
        tif(tmp_path / f"c_{b}.tif", *there, ACQUISITION_DATE=t)
        for b, t in (("B04", "2024-06-01T23:59:58Z"), ("B08", "2024-06-02T00:00:01Z"))
    ]
    assert scenes_of(night, TWO)[0].dated_by == "tag acquisition_date"
    second = [tif(tmp_path / "d_B04.tif", *there), tif(tmp_path / "d_B08.tif", *there, ACQUISITION_DATE="2024-06-03")]
    assert scenes_of(second, TWO)[0].when.day == 3


@pytest.mark.parametrize(
    ("tag", "text", "when"),
    [
        ("DATETIME", "20240601123045", "2024-06-01T12:30:45"),
        ("SENSING_TIME", "202406011230", "2024-06-01T12:30:00"),
        ("TIFFTAG_DATETIME", "2024:06:01 12:30:45", "2024-06-01T12:30:45"),
        ("start_time", "2022-07-24T10:45:26", "2022-07-24T10:45:26"),
        ("DATETIME", "20240601", "2024-06-01T00:00:00"),
        ("DATETIME", "1717245045000", "2023-05-05T12:00:00"),  # no date: that of the name
        ("system:time_start", "1717245045000", "2024-06-01T12:30:45"),
        ("system:time_start", "86400000.0", "1970-01-02T00:00:00"),
    ],
)
def test_digits_of_a_tag_are_a_date_but_those_of_earth_engine(tmp_path: Path, tag: str, text: str, when: str) -> None:
    path = tif(tmp_path / "a_20230505.tif", "EPSG:32633", 500_000.0, 5e6, 10.0, **{tag: text})
    if tag.startswith("TIFFTAG"):
        path = str(Path(path).rename(tmp_path / "a.tif"))
    (scene,) = scenes_of([path], ONE)
    assert f"{scene.when:%Y-%m-%dT%H:%M:%S}" == when


def test_a_vrt_is_no_scene_as_nobody_sees_its_files_change(tmp_path: Path) -> None:
    (tmp_path / "a_20240601.vrt").write_text("<VRTDataset>")
    for place in (str(tmp_path / "a_20240601.vrt"), "https://example.org/a_20240601.VRT"):
        with pytest.raises(InputError, match=r"scenes: 1 of 1 files cannot be used: .*: a VRT; expected its files"):
            scenes_of([place], ONE)
