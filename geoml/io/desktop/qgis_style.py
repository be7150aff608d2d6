"""Styles of QGIS: classes by name and colour, quantities on one ramp, polygons in the colours of their classes.

The elements are those of a QML file and of a project alike; what is not said has QGIS's default. Read by QGIS 3.22.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from geoml.io.desktop.map_layer import MapClass, MapLayer
from geoml.io.report.images import VIRIDIS, rgb

VERSION = "3.22.0"
PLAIN = "#dc2626"
"""Of polygons without a class."""
_FAINT = 90
"""Alpha of the inside of polygons, of 255, so that the map below shows."""


def raster_pipe(layer: MapLayer) -> Element:
    """``pipe`` of a raster layer."""
    pipe = Element("pipe")
    if layer.colours:
        renderer = _renderer(pipe, "multibandcolor", redBand=1, greenBand=2, blueBand=3)
        renderer.set("alphaBand", "4" if len(layer.bands) == 4 else "-1")
    elif layer.classes:
        palette = SubElement(_renderer(pipe, "paletted", band=1), "colorPalette")
        for c in layer.classes:
            SubElement(palette, "paletteEntry", value=str(c.value), color=c.color, alpha="255", label=c.name)
    else:
        ends = {"classificationMin": f"{layer.low:.9g}", "classificationMax": f"{layer.high:.9g}"}
        shader = SubElement(
            SubElement(_renderer(pipe, "singlebandpseudocolor", band=layer.band, **ends), "rastershader"),
            "colorrampshader", colorRampType="INTERPOLATED", classificationMode="1", clip="0",
            minimumValue=ends["classificationMin"], maximumValue=ends["classificationMax"],
        )  # fmt: skip
        for n, color in enumerate(VIRIDIS):
            value = layer.low + (layer.high - layer.low) * n / (len(VIRIDIS) - 1)
            label = f"{value:.4g} {layer.unit or ''}".strip()
            SubElement(shader, "item", value=f"{value:.9g}", color=color, alpha="255", label=label)
    return pipe


def _renderer(pipe: Element, kind: str, **more: object) -> Element:
    said = {"type": kind, "opacity": "1", "alphaBand": "-1", **{k: str(v) for k, v in more.items()}}
    renderer = SubElement(pipe, "rasterrenderer", said)
    SubElement(renderer, "rasterTransparency")
    return renderer


def polygon_renderer(classes: Sequence[MapClass], by: str | None) -> Element:
    """``renderer-v2`` of polygons, whose column ``by`` has the names of the classes; None: all look alike."""
    if by is None:
        renderer = Element("renderer-v2", type="singleSymbol")
        _symbol(SubElement(renderer, "symbols"), "0", PLAIN)
        return renderer
    renderer = Element("renderer-v2", type="categorizedSymbol", attr=by)
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for n, c in enumerate(classes):
        SubElement(categories, "category", symbol=str(n), value=c.name, label=c.name, render="true")
        _symbol(symbols, str(n), c.color)
    return renderer


def _symbol(symbols: Element, name: str, color: str) -> None:
    symbol = SubElement(symbols, "symbol", type="fill", name=name, alpha="1", clip_to_extent="1")
    fill = SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    options = SubElement(fill, "Option", type="Map")
    red, green, blue = rgb(color)
    said = {
        "color": f"{red},{green},{blue},{_FAINT}",
        "outline_color": f"{red},{green},{blue},255",
        "outline_style": "solid",
        "outline_width": "0.4",
        "outline_width_unit": "MM",
        "style": "solid",
    }
    for key, value in said.items():
        SubElement(options, "Option", name=key, value=value, type="QString")


def qml(part: Element) -> bytes:
    """A QML file of `raster_pipe` or `polygon_renderer`; QGIS takes it with the layer of the same name beside it."""
    root = Element("qgis", version=VERSION, styleCategories="Symbology")
    root.append(part)
    return document(root, "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>")


def document(root: Element, doctype: str) -> bytes:
    """XML of a tree, the same bytes for equal ones."""
    ElementTree.indent(root, " ")
    return f"{doctype}\n{ElementTree.tostring(root, encoding='unicode')}\n".encode()
