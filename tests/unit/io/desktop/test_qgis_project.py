"""The project as an archive of XML; that QGIS opens it is shown in tests/integration/test_qgis.py."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pyproj
import pytest

from geoml.grid.plane import Block, Plane
from geoml.io.desktop.map_layer import MapClass, MapLayer, Mosaic
from geoml.io.desktop.qgis_project import ProjectPolygons, ProjectRaster, project
from geoml.io.desktop.qgis_style import qml, raster_pipe
from geoml.io.desktop.vrt import write_vrt

EDGES = ("xmin", "ymin", "xmax", "ymax")
CLASSES = (MapClass(1, 'water & "ice"', "#2b6fb3"), MapClass(2, "<tree>", "#1f6b35"))
CLASS = MapLayer(key="class", title="class of <each> pixel", group="map", file="class.tif", classes=CLASSES)
SURE = MapLayer(key="confidence", title="confidence", group="doubt", file="confidence.tif", scales=(0.004,))


def rasters(*zones: int) -> list[ProjectRaster]:
    made = []
    for zone in zones:
        plane = Plane(f"EPSG:{zone}", 10.0)
        block = Block(plane, 64, -46, 11)
        suffix = f"_{plane.code}" if len(zones) > 1 else ""
        of = Mosaic(plane, suffix, [block.id], [block.window])
        made += [ProjectRaster(f"layers/{x.key}{suffix}.vrt", x, of) for x in (CLASS, SURE)]
    return made


def opened(body: bytes) -> Element:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.namelist() == ["map.qgs"]
        return ElementTree.fromstring(archive.read("map.qgs"))


def shown(root: Element) -> dict[str, dict[str, bool]]:
    groups = root.findall("layer-tree-group/layer-tree-group")
    return {g.get("name", ""): {e.get("name", ""): e.get("checked") == "Qt::Checked" for e in g} for g in groups}


def test_groups_styles_and_relative_names() -> None:
    polygons = [ProjectPolygons("features.gpkg", "features", CLASSES, "name")]
    root = opened(project("a & b", rasters(32621), polygons))
    assert root.get("projectname") == "a & b"
    assert shown(root) == {
        "polygons": {"features": False}, "map": {"class of <each> pixel": True}, "doubt": {"confidence": False},
    }  # fmt: skip
    sources = [e.text or "" for e in root.iter("datasource")]
    assert sources == ["./features.gpkg", "./layers/class.vrt", "./layers/confidence.vrt"]
    assert [(e.get("value"), e.get("label"), e.get("color")) for e in root.iter("paletteEntry")] == [
        ("1", 'water & "ice"', "#2b6fb3"), ("2", "<tree>", "#1f6b35"),
    ]  # fmt: skip
    assert [e.get("value") for e in root.iter("category")] == [c.name for c in CLASSES]
    ids = [e.text for e in root.findall("projectlayers/maplayer/id")]
    assert sorted(ids) == sorted(e.get("id") for e in root.iter("layer-tree-layer"))
    assert len(set(ids)) == 3
    assert root.findtext("projectCrs/spatialrefsys/authid") == "EPSG:32621"


def test_what_xml_cannot_hold_is_escaped(tmp_path: Path) -> None:
    """Control characters and halves of a pair of UTF-16; others, such as of names in French, stay as they are."""
    odd, escaped = "lac\u00a0de \x01\ud800\uffff", "lac\u00a0de \\x01\\ud800\\uffff"
    classes = (MapClass(0, odd, "#2b6fb3"),)
    layer = MapLayer(key="class", title=odd, group="map", file="a.tif", bands=(odd,), unit=odd, classes=classes)
    mosaic = rasters(32621)[0].mosaic
    polygons = ProjectPolygons("features.gpkg", odd, classes, "name")
    root = opened(project(odd, [ProjectRaster("layers/class.vrt", layer, mosaic)], [polygons]))
    said = [root.get("projectname"), root.findtext("title"), *(e.text for e in root.iter("layername"))]
    said += [e.get(k) for e in root.iter("category") for k in ("value", "label")]
    style = ElementTree.fromstring(qml(raster_pipe(layer)))
    assert [*said, *(e.get("label") for e in style.iter("paletteEntry"))] == [escaped] * 7
    write_vrt(layer, mosaic, tmp_path / "class.vrt")
    vrt = ElementTree.parse(tmp_path / "class.vrt")
    assert [vrt.findtext(f".//{name}") for name in ("Description", "UnitType", "Category")] == [escaped] * 3


def test_each_plane_has_its_layers() -> None:
    root = opened(project("two", rasters(32621, 32622), []))
    assert shown(root)["map"] == {
        "class of <each> pixel (EPSG:32621)": True,
        "class of <each> pixel (EPSG:32622)": True,
    }
    crs = [e.findtext("srs/spatialrefsys/authid") for e in root.iter("maplayer")]
    assert crs == ["EPSG:32621"] * 2 + ["EPSG:32622"] * 2


def test_polygons_alone_are_shown_in_degrees() -> None:
    root = opened(project("objects", [], [ProjectPolygons("features.parquet", "features", (), None)]))
    assert shown(root) == {"polygons": {"features": True}}
    assert root.findtext("projectCrs/spatialrefsys/authid") == "EPSG:4326"
    (renderer,) = root.iter("renderer-v2")
    assert renderer.get("type") == "singleSymbol"


def test_equal_runs_give_equal_bytes() -> None:
    one, two = (project("a", rasters(32621), []) for _ in range(2))
    assert one == two
    assert zipfile.ZipFile(io.BytesIO(one)).infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


def test_a_ramp_goes_from_low_to_high_in_physical_numbers() -> None:
    layer = MapLayer(key="value", title="t", group="map", file="value.tif", band=2, low=-3.5, high=20.0, unit="m")
    style = ElementTree.fromstring(qml(raster_pipe(layer)))
    (renderer,) = style.iter("rasterrenderer")
    assert renderer.get("band") == "2"
    values = [float(e.get("value", "")) for e in style.iter("item")]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (-3.5, 20.0)
    assert [e.get("label") for e in style.iter("item")][-1] == "20 m"


def test_it_opens_at_the_region() -> None:
    root = opened(project("a", rasters(32621), [], (-57.1, -25.1, -57.0, -25.0)))
    west, south, east, north = (float(root.findtext(f"mapcanvas/extent/{e}") or "nan") for e in EDGES)
    to = pyproj.Transformer.from_crs("EPSG:32621", "EPSG:4326", always_xy=True)
    assert to.transform((west + east) / 2, (south + north) / 2) == pytest.approx((-57.05, -25.05), abs=0.01)
    whole = opened(project("a", rasters(32621), [], (179.0, 0.0, -179.0, 1.0)))
    found = [float(whole.findtext(f"mapcanvas/extent/{e}") or "nan") for e in EDGES]
    assert found == list(rasters(32621)[0].mosaic.bounds)
