"""A GDAL VRT over one layer of all blocks of a plane: one raster for programs that open files and not catalogs.

Names are relative to the VRT, so a run can be moved. It holds the names of categories and a short colour table as well,
for which GeoTIFF has no room: GDAL keeps the names beside a TIFF, whose colour table has 256 entries.
Format: https://gdal.org/drivers/raster/vrt.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pyproj

from geoml.grid.plane import Window
from geoml.io.desktop.map_layer import MapLayer, Mosaic
from geoml.io.stores.store import atomic

TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "float32": "Float32", "float64": "Float64",
}  # fmt: skip
_COLOURS = ("Red", "Green", "Blue", "Alpha")


def write_vrt(layer: MapLayer, mosaic: Mosaic, path: Path, cogs: str = "../cogs") -> None:
    """Write the VRT, atomically and the same for equal blocks; ``cogs`` is the folder of the blocks as seen from it.

    Memory is that of a line. Raises DataError if it cannot be written.
    """
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for line in _lines(layer, mosaic, cogs):
            file.write(line + "\n")


def _lines(layer: MapLayer, mosaic: Mosaic, cogs: str) -> Iterator[str]:
    whole, plane = mosaic.window, mosaic.plane
    transform = plane.transform(whole)
    height, width = whole.shape
    yield f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">'
    yield f"<SRS>{escape(wkt(layer.crs or plane.crs))}</SRS>"
    yield f"<GeoTransform>{', '.join(repr(float(v)) for v in transform.to_gdal())}</GeoTransform>"
    yield '<Metadata><MDI key="AREA_OR_POINT">Area</MDI></Metadata>'
    for number, name in enumerate(layer.bands, 1):
        yield f'<VRTRasterBand dataType="{TYPES[layer.dtype]}" band="{number}">'
        yield from _band(layer, number, name)
        for key, window in zip(mosaic.ids, mosaic.windows, strict=True):
            yield _source(layer, number, f"{cogs}/{key}/{layer.file}", window, whole)
        yield "</VRTRasterBand>"
    yield "</VRTDataset>"


def _band(layer: MapLayer, number: int, name: str) -> Iterator[str]:
    yield f"<Description>{escape(name)}</Description>"
    if layer.nodata is not None:
        yield f"<NoDataValue>{layer.nodata:.17g}</NoDataValue>"
    if layer.unit:
        yield f"<UnitType>{escape(layer.unit)}</UnitType>"
    scale, offset = layer.scales[number - 1], layer.offsets[number - 1]
    if (scale, offset) != (1.0, 0.0):
        yield f"<Offset>{offset!r}</Offset><Scale>{scale!r}</Scale>"
    if layer.colours:
        yield f"<ColorInterp>{_COLOURS[number - 1]}</ColorInterp>"
    elif layer.classes:
        known = {c.value: c for c in layer.classes}
        values = range(max(known) + 1)
        yield "<ColorInterp>Palette</ColorInterp>"
        names = "".join(f"<Category>{escape(known[v].name) if v in known else ''}</Category>" for v in values)
        yield f"<CategoryNames>{names}</CategoryNames>"
        yield f"<ColorTable>{''.join(_entry(known[v].color if v in known else None) for v in values)}</ColorTable>"
    else:
        yield "<ColorInterp>Gray</ColorInterp>"


def _entry(color: str | None) -> str:
    if color is None:
        return '<Entry c1="0" c2="0" c3="0" c4="0"/>'
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return f'<Entry c1="{red}" c2="{green}" c3="{blue}" c4="255"/>'


def _source(layer: MapLayer, number: int, href: str, window: Window, whole: Window) -> str:
    height, width = (-(-side // layer.factor) for side in window.shape)
    there = f'xOff="{window.x0 - whole.x0}" yOff="{window.y0 - whole.y0}"'
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="1">{escape(href)}</SourceFilename>'
        f"<SourceBand>{number}</SourceBand>"
        # what is said here need not be asked of the file before a pixel of it is wanted
        f'<SourceProperties RasterXSize="{width}" RasterYSize="{height}" DataType={quoteattr(TYPES[layer.dtype])} '
        f'BlockXSize="{layer.tile or width}" BlockYSize="{layer.tile or 1}"/>'
        f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
        f'<DstRect {there} xSize="{width * layer.factor}" ySize="{height * layer.factor}"/></SimpleSource>'
    )


def wkt(text: str) -> str:
    """A CRS as programs of some age read it, too."""
    crs = pyproj.CRS.from_user_input(text)
    try:
        return str(crs.to_wkt("WKT1_GDAL"))
    except pyproj.exceptions.CRSError:  # what WKT 1 cannot say
        return str(crs.to_wkt())
