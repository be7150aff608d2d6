"""A run beside files as Satlas publishes them: points, polygons, months, tree cover; not against Satlas itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine

import geoml
from geoml import testing
from geoml.data import label_file
from geoml.io.cog.read import header, read
from geoml.io.stac.bands import BandSpec
from tests.e2e.printed import Cli, prints, said, wide
from tests.unit.io.cog.test_shards import shard

__all__ = ["said", "wide"]  # fixtures

GEOD = pyproj.Geod(ellps="WGS84")


@pytest.fixture(scope="module")
def run(threshold: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of June 2024 with polygons of classes."""
    root = tmp_path_factory.mktemp("satlas")
    image = shard(root / "s2_20240615.tif", testing.smooth((2, 200, 300), seed=5), 0, 0, nodata=0)
    geoml.predict({"model": threshold, "image": str(image), "scale": 1e-4}, root / "out")
    return root / "out"


def feature(geometry: Any, category: str = "wind_turbine", **more: str) -> dict[str, Any]:
    properties = {"category": category, **more}
    return {"type": "Feature", "geometry": shapely.geometry.mapping(geometry), "properties": properties}


def geojson(path: Path, features: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def moved(point: shapely.Point, metres: float) -> shapely.Point:
    return shapely.Point(*GEOD.fwd(point.x, point.y, 90, metres)[:2])


@pytest.fixture
def polygons(run: Path) -> geopandas.GeoDataFrame:
    """Those of one class, the largest first."""
    frame = geopandas.read_parquet(run / "features.parquet")
    name = frame.groupby("name")["area_m2"].count().idxmax()
    return frame[frame["name"] == name].sort_values("area_m2", ascending=False)


@prints("compare")
def test_a_run_beside_published_features(
    said: Callable[..., str], run: Path, polygons: geopandas.GeoDataFrame, tmp_path: Path
) -> None:
    name, inside = polygons["name"].iloc[0], polygons.geometry.iloc[:5].representative_point()
    found = [feature(p, start="2021-05", end="2024-06") for p in inside]
    found += [feature(inside.iloc[0], start="2020-01")]  # a second one in the same polygon, without an end
    found += [feature(shapely.Point(10, 50), start="2020-01", end="2025-01")]
    found += [
        feature(p, start=s, end=e)
        for p, s, e in zip(inside, ("2016-01", "2024-07"), ("2024-05", "2025-01"), strict=False)
    ]
    found += [feature(p, "solar_farm", start="2016-01", end="2025-01") for p in inside]
    found += [{**feature(inside.iloc[0]), "geometry": None}]
    file = geojson(tmp_path / "renewable.geojson", found)
    words = ("compare", run, file, "--class", name, "--field", "category", "--value", "wind_turbine", "--within", "0")
    told = said(*words)
    assert told.splitlines() == [
        f"{len(polygons)} features in the run, 6 in the file within the run's area;"
        " 5 pairs match (median distance 0.0 m)",
        f"{100 * 5 / len(polygons):.1f} % of the run's features have a match in the file",
        "83.3 % of the file's features have a match in the run",
        "ignored in the file: 1 outside the area, 2 of other months, 1 without a geometry",
    ]
    assert json.loads(said(*words, "--json"))["of_file"] == pytest.approx(5 / 6)


def test_features_apart_are_one_up_to_a_distance(
    run: Path, polygons: geopandas.GeoDataFrame, said: Callable[..., str], tmp_path: Path
) -> None:
    """Truth: a point east of each of the outermost polygons, off the image's edge by a known distance."""
    ground = shapely.union_all([shapely.geometry.shape(i.geometry) for i in geoml.open(run).items])
    one = polygons.geometry.iloc[0].representative_point()
    assert shapely.contains(ground, one)
    name = polygons["name"].iloc[0]
    mine = geopandas.read_parquet(run / "features.parquet")
    off = next(
        p
        for metres in range(100, 3000, 7)
        if shapely.contains(ground, p := moved(one, metres)) and not shapely.intersects(polygons.geometry, p).any()
    )
    reps = shapely.get_coordinates(shapely.point_on_surface(polygons.geometry.to_numpy()))
    nearest = min(GEOD.inv(x, y, off.x, off.y)[2] for x, y in reps)
    file = geojson(tmp_path / "latest.geojson", [feature(off, "offshore_platform")])
    assert len(mine) > 0
    for within, both in ((nearest - 0.01, 0), (nearest + 0.01, 1)):
        told = json.loads(said("compare", run, file, "--class", name, "--within", f"{within:.4f}", "--json"))
        assert (told["both"], told["in_file"]) == (both, 1)
        assert told["median_m"] == (pytest.approx(nearest, abs=1e-6) if both else None)


def test_what_is_not_there_is_named(cli: Cli, run: Path, tmp_path: Path) -> None:
    file = geojson(tmp_path / "latest.geojson", [feature(shapely.Point(0, 0))])
    for words, says in (
        (("--class", "ship"), "class: no name is 'ship'; expected one of"),
        (("--field", "kind", "--value", "x"), "field: 'kind' is no column; expected one of category"),
        (("--field", "category", "--value", "x"), "value: no category is 'x'; expected one of wind_turbine"),
        (("--field", "category"), "value: missing; expected a value of category"),
        (("--within", "-1"), "within: -1.0; expected metres"),
    ):
        found = cli("compare", run, file, *words)
        assert found.exit_code == 2
        assert says in found.output


def test_published_points_are_labels(tmp_path: Path) -> None:
    kinds = ("offshore_wind_turbine", "offshore_platform")
    file = geojson(tmp_path / "2023-01.geojson", [feature(shapely.Point(11 + k, 48), kinds[k]) for k in (0, 1)])
    labels = label_file.read(str(file), "category")
    assert sorted(labels.classes) == sorted(kinds)


def test_a_raster_of_tree_cover_is_a_scene(said: Callable[..., str], tmp_path: Path) -> None:
    """Zoom 7, web Mercator, one band of bytes without names, 0 where nothing is known."""
    cover = np.arange(64, dtype=np.uint8).reshape(1, 8, 8) % 6
    size = {"count": 1, "height": 8, "width": 8, "dtype": "uint8"}
    place = {"crs": "EPSG:3857", "transform": Affine(10, 0, -13_775_786, 0, -10, 6_261_721)}
    with rasterio.open(tmp_path / "20_44.tif", "w", driver="GTiff", **size, **place) as file:
        file.write(cover)
    words = ("--bands", "tree_cover", "--nodata", "0", "--datetime", "2022-07-01")
    assert "tree_cover" in said("catalogs", "new", tmp_path / "20_44.tif", *words, "--out", tmp_path / "cover")
    (item,) = geoml.search({"catalog": f"{tmp_path}/cover/catalog.yaml", "bbox": (-180, 0, 0, 80), "datetime": "2022"})
    band = item.assets["image"].extra_fields["bands"][0]
    assert (band["name"], band["nodata"]) == ("tree_cover", 0.0)
    spec = BandSpec("cover", "image", item.assets["image"].href, "tree_cover", nodata=0.0, remote=False)
    assert np.array_equal(read([spec], header(spec).geobox)[1], cover > 0)
