"""Vector files of the usual formats give the same features, and what only looks like one leads nowhere."""

from __future__ import annotations

import zipfile
from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from geoml.errors import DataError, GeomlError, InputError
from geoml.io.tables import kml, vectors
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
        with pytest.raises(InputError, match=r"labels: .* not a plain path"):
            vectors.read(text)
    (tmp_path / "a.kml").write_text('<?xml version="1.0"?><!DOCTYPE kml [<!ENTITY a "b">]><kml/>', encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        vectors.read(tmp_path / "a.kml")


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.kml", "<gpx><kml/></gpx>", "root of its XML is gpx"),
        ("a.kml", "<a:list xmlns:a='x'><kml/></a:list>", "root of its XML is list"),
        ("a.kml", "<kml><Document>", "cannot be read as vectors"),
        ("a.json", '{"type": "Table", "features": []}', "its type is 'Table'"),
        ("a.json", '{"note": {"type": "FeatureCollection"}}', "its type is 'None'"),
        ("a.geojson", '{"type": ["FeatureCollection"]}', "expected GeoJSON"),
        ("a.geojson", "[1]", "expected GeoJSON"),
        ("a.geojson", '{"type": "FeatureCollection", "features": [', "cannot be read as vectors"),
    ],
)
def test_a_text_of_another_type_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, why: str
) -> None:
    monkeypatch.setattr(vectors, "_layer", lambda *_: pytest.fail("GDAL opened it"))
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=why):
        vectors.read(tmp_path / name)


def test_gdal_sees_places_of_kml_and_nothing_else(tmp_path: Path) -> None:
    point = "<k:Point><k:coordinates>14,46</k:coordinates></k:Point>"
    (tmp_path / "a.kml").write_text(
        "<?xml version='1.0'?><!-- <other> --><k:kml xmlns:k='http://www.opengis.net/kml/2.2' k:href='x'><k:Document>"
        "<k:NetworkLink><k:name>lost</k:name></k:NetworkLink><k:Placemark id='p'><k:name>a/b &lt; c</k:name>"
        f"<k:styleUrl>s</k:styleUrl><other><k:name>no</k:name></other>{point}</k:Placemark></k:Document></k:kml>",
        encoding="utf-8",
    )
    copy = kml.copied(tmp_path / "a.kml", tmp_path / "copy.kml").read_text(encoding="utf-8")
    plain = point.replace("k:", "")
    assert copy == (
        '<kml xmlns="http://www.opengis.net/kml/2.2"><Document><Placemark id="p"><name>a&#47;b &lt; c</name>'
        f"{plain}</Placemark></Document></kml>"
    )
    found = vectors.read(tmp_path / "a.kml")
    assert found["Name"].tolist() == ["a/b < c"]
    assert shapely.equals(shapely.force_2d(found.geometry[0]), shapely.Point(14, 46))


def test_extended_data_of_kml_are_columns(tmp_path: Path) -> None:
    frame().assign(crop=["rye", "oat"]).to_file(tmp_path / "a.kml", driver="LIBKML")
    assert vectors.read(tmp_path / "a.kml")["crop"].tolist() == ["rye", "oat"]


def test_a_reader_that_the_name_does_not_say_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame().to_file(tmp_path / "a.gpkg")
    assert len(vectors.read(tmp_path / "a.gpkg")) == 2
    monkeypatch.setitem(vectors.READERS, ".gpkg", ("FlatGeobuf",))
    with pytest.raises(DataError, match="it is one of GPKG, which its name does not say"):
        vectors.read(tmp_path / "a.gpkg")


def test_an_archive_holds_one_shapefile(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"region: .* holds 2 shapefiles; expected one"):
        vectors.read(zipped(tmp_path, "one", "two"), field="region")


@pytest.mark.parametrize("kind", ["cut short", "locked", "other method", "no points"])
def test_a_damaged_file_is_an_error_of_ours(tmp_path: Path, kind: str) -> None:
    path = zipped(tmp_path, "fields")
    whole = path.read_bytes()
    if kind == "cut short":
        path = tmp_path / "b.fgb"
        frame().to_file(path, driver="FlatGeobuf")
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "locked":  # the flag of an archive with a password, at each file and in the directory
        path.write_bytes(
            whole.replace(b"PK\x03\x04\x14\0\0\0", b"PK\x03\x04\x14\0\1\0").replace(
                b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0"
            )
        )
    elif kind == "other method":
        path.write_bytes(
            whole.replace(b"PK\x03\x04\x14\0\0\0\0\0", b"PK\x03\x04\x14\0\0\0\x63\0").replace(
                b"PK\x01\x02\x14\x03\x14\0\0\0\0\0", b"PK\x01\x02\x14\x03\x14\0\0\0\x63\0"
            )
        )
    else:
        path = tmp_path / "c.geojson"
        line = '{"type": "Feature", "properties": {}, "geometry": {"type": "LineString", "coordinates": [[1, 2]]}}'
        path.write_text(f'{{"type": "FeatureCollection", "features": [{line}]}}', encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read as vectors"):
        vectors.read(path)


@pytest.mark.parametrize("name", ["a.geojson", "a.parquet"])
def test_a_layer_of_a_file_without_layers_is_refused(tmp_path: Path, name: str) -> None:
    frame().to_parquet(tmp_path / name) if name == "a.parquet" else frame().to_file(tmp_path / name)
    with pytest.raises(InputError, match="layer: no 'nonsense' in"):
        load_region(f"{tmp_path / name}:nonsense")
    with pytest.raises(InputError, match="layer: no 'nonsense' in"):
        vectors.read(f"{tmp_path / name}:nonsense")
