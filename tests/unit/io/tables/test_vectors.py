"""Vector files of the usual formats give the same features, and what only looks like one leads nowhere."""

from __future__ import annotations

import zipfile
from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from geoml.errors import DataError, GeomlError, InputError
from geoml.io.tables import vectors
from geoml.io.tables.regions import load_region
from geoml.io.tables.vector_files import file_and_layer

SQUARES = [shapely.box(14, 46, 14.1, 46.1), shapely.box(14.2, 46, 14.3, 46.1)]
DRIVERS = {"a.gpkg": "GPKG", "a.shp": "ESRI Shapefile", "a.fgb": "FlatGeobuf", "a.kml": "KML", "a.geojson": "GeoJSON"}


def frame() -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"Name": ["field", "wood"]}, geometry=SQUARES, crs="EPSG:4326")


def zipped(folder: Path, *names: str) -> Path:
    """Shapefiles as one archive."""
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for name in names:
            frame().to_file(folder / f"{name}.shp")
            for part in folder.glob(f"{name}.*"):
                archive.write(part, f"layers/{part.name}")
    return folder / "a.zip"


@pytest.mark.parametrize("name", [*DRIVERS, "a.parquet", "a.zip"])
def test_every_format_gives_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.zip":
        zipped(tmp_path, "fields")
    elif name == "a.parquet":
        frame().to_parquet(path)
    else:
        frame().to_file(path, driver=DRIVERS[name])
    found = vectors.read(path)
    order = found.assign(west=found.geometry.bounds["minx"]).sort_values("west")  # FlatGeobuf sorts by place
    assert order["Name"].tolist() == ["field", "wood"]
    assert found.crs == "EPSG:4326"
    assert shapely.equals(shapely.force_2d(shapely.union_all(found.geometry)), shapely.union_all(SQUARES))
    assert shapely.equals(load_region(str(path)), shapely.union_all(SQUARES))


def test_a_layer_is_named_behind_a_colon(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    frame().to_file(path, layer="first")
    frame().iloc[:1].to_file(path, layer="second")
    assert len(vectors.read(f"{path}:second")) == 1
    assert load_region(f"{path}:second").area == pytest.approx(SQUARES[0].area)
    with pytest.raises(InputError, match=r"layer: .* has 2 layers: first, second; choose one"):
        vectors.read(path)
    with pytest.raises(InputError, match=r"layer: no 'third'"):
        load_region(f"{path}:third")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.gpkg:fields", ("a.gpkg", "fields")),
        ("a.gpkg", ("a.gpkg", None)),
        ("C:/a.gpkg", ("C:/a.gpkg", None)),
        ("https://host.example:8080/a.gpkg", ("https://host.example:8080/a.gpkg", None)),
        ("https://host.example/a.gpkg:fields", ("https://host.example/a.gpkg", "fields")),
        ("a.tif:fields", ("a.tif:fields", None)),
    ],
)
def test_files_and_layers(text: str, parts: tuple[str, str | None]) -> None:
    assert file_and_layer(text) == parts


VRT = "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>{}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.fgb", "a.kml", "a.geojson", "a.zip"])
def test_a_virtual_layer_under_another_name_leads_to_no_other_file(tmp_path: Path, name: str) -> None:
    frame().to_file(tmp_path / "secret.gpkg")
    (tmp_path / name).write_text(VRT.format(tmp_path / "secret.gpkg"), encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read as vectors"):
        vectors.read(tmp_path / name)
    with pytest.raises(GeomlError):
        load_region(str(tmp_path / name))


def test_paths_of_gdal_and_entities_are_refused(tmp_path: Path) -> None:
    for text in ("/vsizip/a.zip/a.shp", "/vsicurl/https://host.example/a.gpkg"):
        with pytest.raises(InputError, match=r"labels: .* no plain path"):
            vectors.read(text)
    (tmp_path / "a.kml").write_text('<?xml version="1.0"?><!DOCTYPE kml [<!ENTITY a "b">]><kml/>', encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        vectors.read(tmp_path / "a.kml")


def test_an_archive_holds_one_shapefile(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds 2 shapefiles; expected one"):
        vectors.read(zipped(tmp_path, "one", "two"))
