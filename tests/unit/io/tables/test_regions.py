"""Region files made in code; the same ground from every format and CRS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely
from pyproj import Geod
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box, mapping

from geoml.errors import InputError
from geoml.io.tables.regions import load_region

TWO = [box(-54.6, -25.6, -54.5, -25.5), box(-54.4, -25.6, -54.3, -25.5)]


def write(path: Path, value: Any) -> str:
    path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)


def collection(*shapes: Any) -> dict[str, Any]:
    return {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": {"a": 1}, "geometry": mapping(s) if s else None} for s in shapes
        ],
    }


def test_every_dialect_of_geojson(tmp_path: Path) -> None:
    both = MultiPolygon(TWO)
    path = tmp_path / "r.geojson"
    for value in (
        mapping(both),
        {"type": "Feature", "properties": None, "geometry": mapping(both)},
        collection(*TWO),
        collection(TWO[0], None, TWO[1]),
        {"type": "GeometryCollection", "geometries": [mapping(p) for p in TWO]},
        collection(shapely.force_3d(both, 5)),
    ):
        region = load_region(write(path, value))
        assert region.equals(both)
        assert not region.has_z


def test_geopackage_and_geoparquet(tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame({"a": [1, 2]}, geometry=TWO, crs="EPSG:4326")
    frame.to_file(tmp_path / "r.gpkg", layer="fields")
    frame.to_parquet(tmp_path / "r.parquet")
    for name in ("r.gpkg", "r.parquet"):
        assert load_region(str(tmp_path / name)).equals(MultiPolygon(TWO))


@pytest.mark.parametrize("name", ["r.gpkg", "r.parquet", "r.geojson"])
def test_other_crs_are_brought_to_degrees_and_edges_bend(tmp_path: Path, name: str) -> None:
    square = box(300_000, 7_000_000, 700_000, 7_200_000)
    frame = gpd.GeoDataFrame(geometry=[square], crs="EPSG:32721")
    if name.endswith("gpkg"):
        frame.to_file(tmp_path / name)
    elif name.endswith("parquet"):
        frame.to_parquet(tmp_path / name)
    else:
        value = {**collection(square), "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32721"}}}
        write(tmp_path / name, value)
    region = load_region(str(tmp_path / name))
    area = abs(Geod(ellps="WGS84").geometry_area_perimeter(region)[0])
    dense = gpd.GeoSeries([shapely.segmentize(square, 500)], crs="EPSG:32721").to_crs("EPSG:4326").iloc[0]
    assert region.symmetric_difference(dense).area < 1e-4 * dense.area
    assert area == pytest.approx(400_000 * 200_000, rel=2e-3)


def test_over_the_antimeridian(tmp_path: Path) -> None:
    past = load_region(write(tmp_path / "a.json", mapping(box(179, -1, 181, 1))))
    assert past.bounds == (-180, -1, 180, 1)
    assert past.area == pytest.approx(4)
    assert len(past.geoms) == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.geojson", "", "cannot be read"),
        ("a.geojson", "[1, 2]", "not a GeoJSON object"),
        ("a.geojson", "{}", "cannot be read"),
        ("a.geojson", '{"type": "FeatureCollection", "features": []}', "contains no polygon"),
        ("a.geojson", '{"type": "FeatureCollection", "features": 3}', "cannot be read"),
        ("a.geojson", json.dumps(mapping(Point(1, 2))), "contains a Point"),
        ("a.geojson", json.dumps(collection(TWO[0], LineString([(0, 0), (1, 1)]))), "contains a LineString"),
        ("a.geojson", json.dumps(mapping(Polygon([(0, 0), (600_000, 0), (600_000, 9)]))), "longitude and latitude"),
        ("a.geojson", json.dumps({**collection(*TWO), "crs": {"properties": {"name": "EPSG:0"}}}), "unknown CRS"),
        ("a.gpkg", "not a database", "cannot be read"),
        ("a.parquet", "not a table", "cannot be read"),
        ("a.shp", "", "cannot be read"),
        ("a.tif", "", "expected a .geojson"),
    ],
)
def test_bad_files_are_input_errors(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_region(str(tmp_path / name))
    assert str(caught.value).startswith("region")


def test_missing_files_missing_crs_and_many_layers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a file"):
        load_region(str(tmp_path / "nothing.geojson"))
    frame = gpd.GeoDataFrame(geometry=TWO, crs="EPSG:4326")
    frame.set_crs(None, allow_override=True).to_parquet(tmp_path / "r.parquet")
    with pytest.raises(InputError, match="no CRS"):
        load_region(str(tmp_path / "r.parquet"))
    frame.to_file(tmp_path / "r.gpkg", layer="a")
    frame.to_file(tmp_path / "r.gpkg", layer="b")
    with pytest.raises(InputError, match="has 2 layers: a, b; choose one"):
        load_region(str(tmp_path / "r.gpkg"))
