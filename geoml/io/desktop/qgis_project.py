"""``map.qgz``: a QGIS project of the layers of a run, in groups, with their styles, by relative names.

A project is XML (``.qgs``) in a zip archive. It is written without QGIS and opened by QGIS 3.22 and later.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

import pyproj

from geoml.io.desktop.map_layer import GROUPS, Group, MapClass, MapLayer, Mosaic, xml_text
from geoml.io.desktop.qgis_style import VERSION, document, polygon_renderer, raster_pipe

DEGREES = "EPSG:4326"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip archive can say: the same run writes the same bytes."""


@dataclass(frozen=True)
class ProjectRaster:
    """A layer of a mosaic in the file ``name`` of the run."""

    name: str
    layer: MapLayer
    mosaic: Mosaic


@dataclass(frozen=True)
class ProjectPolygons:
    """Polygons in degrees in the file ``name`` of the run; ``by`` is the column of names of ``classes``."""

    name: str
    title: str
    classes: Sequence[MapClass]
    by: str | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", xml_text(self.title))


def project(
    title: str,
    rasters: Sequence[ProjectRaster],
    polygons: Sequence[ProjectPolygons],
    bbox: Sequence[float] | None = None,
) -> bytes:
    """The archive, which opens at ``bbox`` in degrees; None: at all of the first mosaic.

    Of each group the first layer is shown, of those of doubt none; polygons are where nothing else is.

    The CRS of the project is that of the first raster, or degrees without one.
    """
    crs = rasters[0].mosaic.plane.crs if rasters else DEGREES
    title = xml_text(title)
    root = Element("qgis", version=VERSION, projectname=title)
    SubElement(root, "title").text = title
    SubElement(root, "projectCrs").append(_crs(crs))
    tree, layers = SubElement(root, "layer-tree-group"), SubElement(root, "projectlayers")
    mapped = any(r.layer.group == "map" for r in rasters)
    groups = {name: _group(tree, name) for name in GROUPS}
    for one in polygons:
        layers.append(_polygons(one))
        _entry(groups["polygons"], one.name, one.title, "ogr", shown=not mapped)
    seen: set[tuple[Group, str]] = set()
    for raster in rasters:
        layer, plane = raster.layer, raster.mosaic.plane
        layers.append(_raster(raster))
        said = f"{layer.title} ({plane.crs})" if raster.mosaic.suffix else layer.title
        first = (layer.group, raster.mosaic.suffix) not in seen
        seen.add((layer.group, raster.mosaic.suffix))
        _entry(groups[layer.group], raster.name, said, "gdal", shown=first and layer.group != "doubt")
    for group in groups.values():
        if not len(group):
            tree.remove(group)
    if view := _view(crs, bbox) or (rasters[0].mosaic.bounds if rasters else None):
        canvas = SubElement(root, "mapcanvas", name="theMapCanvas", annotationsVisible="1")
        extent = SubElement(canvas, "extent")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), view, strict=True):
            SubElement(extent, name).text = repr(float(value))
        SubElement(canvas, "destinationsrs").append(_crs(crs))
    properties = SubElement(root, "properties")
    SubElement(SubElement(properties, "Paths"), "Absolute", type="bool").text = "false"
    SubElement(SubElement(properties, "SpatialRefSys"), "ProjectionsEnabled", type="int").text = "1"
    return _zipped(document(root, "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"))


def _view(crs: str, bbox: Sequence[float] | None) -> Sequence[float] | None:
    """A bbox in degrees in another CRS; None if it has no place there, or the antimeridian lies inside."""
    if bbox is None or bbox[0] >= bbox[2]:
        return None
    west, south, east, north = bbox
    bounds = pyproj.Transformer.from_crs(DEGREES, crs, always_xy=True).transform_bounds(west, south, east, north)
    return bounds if all(map(math.isfinite, bounds)) else None


def _zipped(text: bytes) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        about = zipfile.ZipInfo("map.qgs", _EPOCH)
        about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
        archive.writestr(about, text)
    return body.getvalue()


def _group(tree: Element, name: str) -> Element:
    return SubElement(tree, "layer-tree-group", name=name, checked="Qt::Checked", expanded="1")


def _entry(group: Element, name: str, title: str, provider: str, *, shown: bool) -> None:
    SubElement(
        group, "layer-tree-layer", id=_id(name), name=title, source=f"./{name}", providerKey=provider,
        checked="Qt::Checked" if shown else "Qt::Unchecked", expanded="1" if shown else "0",
    )  # fmt: skip


def _raster(raster: ProjectRaster) -> Element:
    element = _layer("raster", raster.name, raster.layer.title, raster.layer.crs or raster.mosaic.plane.crs, "gdal")
    element.append(raster_pipe(raster.layer))
    return element


def _polygons(one: ProjectPolygons) -> Element:
    element = _layer("vector", one.name, one.title, DEGREES, "ogr")
    element.set("geometry", "Polygon")
    element.append(polygon_renderer(one.classes, one.by))
    return element


def _layer(kind: str, name: str, title: str, crs: str, provider: str) -> Element:
    element = Element("maplayer", type=kind, autoRefreshEnabled="0")
    SubElement(element, "id").text = _id(name)
    SubElement(element, "datasource").text = f"./{name}"
    SubElement(element, "layername").text = title
    SubElement(element, "srs").append(_crs(crs))
    SubElement(element, "provider").text = provider
    return element


def _id(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def _crs(text: str) -> Element:
    crs = pyproj.CRS.from_user_input(text)
    element = Element("spatialrefsys", nativeFormat="Wkt")
    SubElement(element, "wkt").text = crs.to_wkt()
    if authority := crs.to_authority():
        SubElement(element, "authid").text = ":".join(authority)
    return element
