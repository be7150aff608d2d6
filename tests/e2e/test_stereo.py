"""Heights of a made pair: roofs where they were made, any cut, a stated datum, and pairs that are refused."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from geoml import pipeline
from geoml.elevation import steps
from geoml.elevation.recipe import ElevationRecipe
from geoml.elevation.run.pair import sampled
from geoml.engine.packages import cards
from geoml.errors import DataError, InputError
from geoml.io.cards.map_card import MapCard
from geoml.recipe import parse
from geoml.settings import settings
from geoml.testing.stereo import MadePair, made_pair, town

HEIGHTS = (288.0, 322.0)


@pytest.fixture(scope="module")
def made() -> MadePair:
    return made_pair(town(1, side=100.0, count=5), size=200, parallax=-3.0)


@pytest.fixture(scope="module")
def pictures(made: MadePair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made.write(tmp_path_factory.mktemp("pair"))


def run(pictures: tuple[Path, Path], out: Path, **changes: Any) -> dict[str, Any]:
    given = {"stereo": [str(p) for p in pictures], "heights": HEIGHTS, "res": 0.5, "block_size": 400, **changes}
    asked = parse(ElevationRecipe, given, "elevation")
    pipeline.predict(steps.elevation_run(asked, out), out)
    return steps.finish(asked, out)


def cells(out: Path, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Rows, columns and values of the plane where a layer is known, sorted."""
    parts = []
    for path in out.glob(f"cogs/*/{name}.tif"):
        with rasterio.open(path) as file:
            values = file.read(1)
            row, column = np.nonzero(np.isfinite(values) & (values != file.nodata))
            top, left = round(-file.transform.f / 0.5), round(file.transform.c / 0.5)
            parts.append((row + top, column + left, values[row, column]))
    row, column, values = (np.concatenate(c) for c in zip(*parts, strict=True))
    order = np.lexsort((column, row))
    return row[order], column[order], values[order]


@pytest.fixture(scope="module")
def heights(pictures: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("heights") / "run"
    record = run(pictures, out)
    assert any("3.0" in w and "tie points" in w for w in record["warnings"])
    return out


def test_roofs_lie_where_they_were_made(made: MadePair, heights: Path) -> None:
    row, column, z = cells(heights, "dsm")
    x, y = (column + 0.5) * 0.5, -(row + 0.5) * 0.5
    off = z - made.scene.z(x, y)
    pixel = made.gsd / made.ratio
    for roof in made.scene.roofs:
        on = off[roof.inside(x, y, 1.5)]
        assert len(on) > 100
        assert 1.4826 * np.median(np.abs(on - np.median(on))) < 0.25 * pixel
        assert abs(np.median(on)) < 0.25 * pixel
    assert cells(heights, "count")[2].max() >= 1
    assert (cells(heights, "spread")[2] > 0).all()


def test_any_blocks_give_the_same_cells(pictures: tuple[Path, Path], heights: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "run", block_size=64)
    for name in ("dsm", "spread", "count"):
        for once, again in zip(cells(heights, name), cells(tmp_path / "run", name), strict=True):
            assert once.tobytes() == again.tobytes()


def test_heights_say_what_they_are_above(heights: Path) -> None:
    with rasterio.open(next(heights.glob("cogs/*/dsm.tif"))) as file:
        assert file.units == ("metre",)
        assert np.isnan(file.nodata)
        assert "32631" in file.crs.to_wkt()


def test_a_crs_on_another_ellipsoid_is_refused(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    """Heights of an RPC are above WGS 84, tens of metres from Bessel's ellipsoid in the Netherlands."""
    for datum in (None, "ellipsoid", "EPSG:5709"):
        refused(pictures, tmp_path / "x", InputError, r"Bessel.*another --crs", crs="EPSG:28992", datum=datum)
    asked = parse(
        ElevationRecipe,
        {"stereo": [str(p) for p in pictures], "heights": HEIGHTS, "crs": "EPSG:25831", "datum": "ellipsoid"},
        "elevation",
    )
    steps.elevation_run(asked, tmp_path / "like")
    said = cards.read(tmp_path / "like/.geoml/surfaces", MapCard).made
    assert said["vertical_name"] == "the ellipsoid of ETRS89"
    assert "shift" not in said


def test_items_name_their_picture_and_its_rpc(
    pictures: tuple[Path, Path], heights: Path, made: MadePair, tmp_path: Path
) -> None:
    items = []
    for path in pictures:
        item = pystac.Item(path.stem, None, None, datetime(2020, 1, 1, tzinfo=UTC), {})
        item.add_asset("pan", pystac.Asset(str(path), media_type="image/tiff; application=geotiff", roles=["data"]))
        items.append(tmp_path / f"{path.stem}.json")
        items[-1].write_text(json.dumps(item.to_dict(include_self_link=False)))
    run((items[0], items[1]), tmp_path / "run")
    assert cells(tmp_path / "run", "dsm")[2].tobytes() == cells(heights, "dsm")[2].tobytes()
    (tmp_path / "other.json").write_text("{}")
    refused((items[0], tmp_path / "other.json"), tmp_path / "x", DataError, r"other\.json: no STAC item")


@pytest.mark.data
def test_ventoux_lies_on_srtm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real pair with .geom files, 4.8 pixels of parallax and heights above the geoid."""
    folder = Path(os.environ["GEOML_DATA"]) / "elevation" / "stereo_ventoux"
    monkeypatch.setenv("GEOML_GRIDS", str(folder))
    settings.cache_clear()
    dem = folder / "srtm_crop_egm96.tif"
    pair = (folder / "left_image.tif", folder / "right_image.tif")
    given = {"heights": None, "dem": str(dem), "vertical": "EPSG:5773", "datum": "EPSG:5773"}
    record = run(pair, tmp_path / "run", **given)
    assert any("4.8" in w or "4.7" in w for w in record["warnings"])
    row, column, z = cells(tmp_path / "run", "dsm")
    to = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    off = z - sampled(str(dem), *to.transform((column + 0.5) * 0.5, -(row + 0.5) * 0.5))
    assert abs(np.median(off)) < 5
    assert len(z) > 0.85 * 73_378  # cells of half a metre; so many pixels of half a metre both show
    settings.cache_clear()


def refused(pictures: tuple[Path, Path], out: Path, kind: type[Exception], says: str, **changes: Any) -> None:
    with pytest.raises(kind, match=says):
        run(pictures, out, **changes)


def test_pairs_that_tell_nothing_are_refused(pictures: tuple[Path, Path], made: MadePair, tmp_path: Path) -> None:
    left, right = pictures
    refused((left, left), tmp_path / "same", InputError, "the same RPC")
    with rasterio.open(left) as file:
        profile, rpcs, values = file.profile, file.rpcs, file.read(1)
    plain = tmp_path / "plain.tif"
    with rasterio.open(plain, "w", **profile) as file:
        file.write(values, 1)
    refused((plain, right), tmp_path / "a", InputError, r"plain\.tif.*has none")
    moved = tmp_path / "moved.tif"
    with rasterio.open(moved, "w", **{**profile, "transform": Affine.translation(90_000, 3000)}) as file:
        file.write(values, 1)
        file.rpcs = rpcs
    refused((moved, right), tmp_path / "b", DataError, r"moved\.tif.*another crop")
    refused((tmp_path / "none.tif", right), tmp_path / "c", InputError, r"none\.tif does not exist")
    refused(pictures, tmp_path / "d", InputError, "disparities", heights=(-500.0, 900.0))
    refused(pictures, tmp_path / "e", InputError, "lower one first", heights=(9.0, 3.0))
    refused(pictures, tmp_path / "f", InputError, "dem, heights", heights=None)
    refused(
        pictures, tmp_path / "g", InputError, "check_points: .* does not exist", check_points=str(tmp_path / "g.tif")
    )
    refused(pictures, tmp_path / "h", InputError, "crs: 'nonsense' is none", crs="nonsense")
    refused(pictures, tmp_path / "i", InputError, "crs: EPSG:2257 is in US survey foot", crs="EPSG:2257")
    assert not list((tmp_path / "g").glob("items/*"))


def test_a_dem_bounds_what_is_searched(
    pictures: tuple[Path, Path], made: MadePair, heights: Path, tmp_path: Path
) -> None:
    """Of another CRS; its heights are said to be above the ellipsoid."""
    dem = tmp_path / "dem.tif"
    profile = {"driver": "GTiff", "width": 30, "height": 30, "count": 1, "dtype": "float32", "nodata": -9999}
    transform = Affine(20.0, 0, 499_700.0, 0, -20.0, 4_900_300.0)
    with rasterio.open(dem, "w", crs="EPSG:32631", transform=transform, **profile) as file:
        x, y = np.meshgrid(499_710 + 20.0 * np.arange(30), 4_900_290 - 20.0 * np.arange(30))
        file.write(made.scene.ground(x, y).astype(np.float32), 1)
    run(pictures, tmp_path / "run", heights=None, dem=str(dem), vertical="ellipsoid", margin=22.0)
    row, column, z = cells(tmp_path / "run", "dsm")
    off = z - made.scene.z((column + 0.5) * 0.5, -(row + 0.5) * 0.5)
    assert 1.4826 * np.median(np.abs(off - np.median(off))) < 0.25 * made.gsd / made.ratio
    assert len(z) > 0.9 * len(cells(heights, "dsm")[2])
    refused(pictures, tmp_path / "x", InputError, "vertical: not given", heights=None, dem=str(dem))


def test_a_dem_is_read_in_its_unit(tmp_path: Path) -> None:
    """Of the band, else of --vertical; places that it does not reach have none."""
    profile = {"driver": "GTiff", "width": 30, "height": 30, "count": 1, "dtype": "int16"}
    place = Affine(20.0, 0, 499_700.0, 0, -20.0, 4_900_300.0)
    lon, lat = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform(
        np.array([500_000.0, 800_000.0]), np.array([4_900_000.0, 4_900_000.0])
    )
    for name, unit in (("none", None), ("feet", "ft")):
        with rasterio.open(tmp_path / f"{name}.tif", "w", crs="EPSG:32631", transform=place, **profile) as file:
            file.write(np.full((1, 30, 30), 1000, np.int16))
            file.scales, file.units = (0.5,), (unit,)
    for name, vertical, metres in (("none", "egm96", 500), ("none", "EPSG:8228", 152.4), ("feet", "egm96", 152.4)):
        found = sampled(str(tmp_path / f"{name}.tif"), lon, lat, vertical)
        assert found[0] == pytest.approx(metres)
        assert np.isnan(found[1])
