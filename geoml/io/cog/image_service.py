"""Rasters of an ArcGIS image service as COGs of this machine: the part that is asked for, in the pixels of the source.

https://developers.arcgis.com/rest/services-reference/enterprise/export-image/. Each raster of the catalog of a service
is exported alone (``lockRasterIds``), without rendering, in tiles of its own grid and pixel size, so that nothing is
resampled. GDAL's driver for ArcGIS reads pictures of 8 bits only, and no date by itself.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile

from geoml.errors import DataError, InputError, NothingFound
from geoml.grid.region import from_bbox
from geoml.io.arcgis.feature_layer import pages
from geoml.io.arcgis.service import ArcGIS, is_images
from geoml.io.cog.scene_fields import CatalogRecipe
from geoml.io.cog.write import CogWriter
from geoml.io.stac.times import rfc3339

DTYPES = {
    **{"U1": "uint8", "U2": "uint8", "U4": "uint8", "U8": "uint8", "S8": "int8", "U16": "uint16", "S16": "int16"},
    **{"U32": "uint32", "S32": "int32", "F32": "float32", "F64": "float64"},
}
"""Types of pixels by their names in ArcGIS."""
TILE = 1024
"""Pixels of a side of what is asked for at once; the memory is that of one row of tiles."""
IMAGES = "images"
"""Folder of the files, in that of the catalog."""
SAME = 1e-3
"""Pixels by which two places may differ and be one."""


@dataclass(frozen=True)
class _Raster:
    """One raster of a service: its name, time, grid, and the rule by which it is exported alone."""

    name: str
    when: str | None
    box: GeoBox
    rule: Mapping[str, Any]


def with_files(recipe: CatalogRecipe, out: Path) -> CatalogRecipe:
    """The recipe of a catalog with files of ``out``/images in the place of an image service; another one as it is.

    Raises InputError for a service beside other scenes, a box without one, and rasters without a time where none is
    told; and what `downloaded` raises.
    """
    services = [place for place in recipe.scenes if is_images(place)]
    if not services:
        if recipe.bbox is not None:
            raise InputError("bbox: belongs to an image service; expected none for files, which are taken whole")
        return recipe
    if len(recipe.scenes) > 1:
        raise InputError("scenes: an image service and others; expected one service and nothing else")
    paths, times = downloaded(services[0], out / IMAGES, recipe.bbox)
    if recipe.datetime or None not in times:
        told = recipe.datetime or tuple(str(t) for t in times)
        return recipe.model_copy(update={"scenes": tuple(paths), "datetime": told})
    raise InputError(f"datetime: {times.count(None)} of {len(times)} rasters say no time; expected --datetime")


def downloaded(
    url: str, out: Path, bbox: tuple[float, float, float, float] | None, field: str = "scenes"
) -> tuple[list[str], list[str | None]]:
    """The part inside of ``bbox`` (W S E N in degrees; None: all) of each raster, as COGs in ``out``; files and times.

    A file that is there already is kept. Raises InputError for a service that cannot be exported or has no such pixels,
    NothingFound without a raster in the box, DataError where what comes is not what was asked for, TransientError when
    the service does not answer.
    """
    service = ArcGIS.at(url, field)
    about = service.ask()
    try:
        return _downloaded(service, about, out, bbox)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as err:
        if isinstance(err, InputError):
            raise
        raise DataError(f"{service.url}: no image service ({type(err).__name__}: {err})") from err


def _downloaded(
    service: ArcGIS, about: Mapping[str, Any], out: Path, bbox: tuple[float, float, float, float] | None
) -> tuple[list[str], list[str | None]]:
    dtype = DTYPES.get(str(about["pixelType"]))
    if dtype is None:
        raise InputError(
            f"{service.what}: {service.url} has pixels of {about['pixelType']}; expected {', '.join(DTYPES)}"
        )
    crs = _crs(about["extent"]["spatialReference"])
    found = list(_rasters(service, about, crs, bbox))
    if not found:
        raise NothingFound(f"{service.url}: no raster inside of the box")
    out.mkdir(parents=True, exist_ok=True)
    paths = [_one(service, about, dtype, raster, out) for raster in found]
    return [str(p) for p in paths], [r.when for r in found]


def _crs(reference: Mapping[str, Any]) -> str:
    """The CRS of a spatial reference; its number is one of EPSG or of Esri."""
    for name in ("latestWkid", "wkid"):
        if code := reference.get(name):
            for authority in ("EPSG", "ESRI"):
                try:
                    return pyproj.CRS.from_authority(authority, int(code)).to_string()
                except pyproj.exceptions.CRSError:
                    continue
    return pyproj.CRS.from_wkt(str(reference["wkt"])).to_wkt()


def _rasters(
    service: ArcGIS, about: Mapping[str, Any], crs: str, bbox: tuple[float, float, float, float] | None
) -> Iterator[_Raster]:
    """The rasters in the box: those of the catalog, or all of the service as one where it shows none."""
    whole = about["extent"]
    asked = None
    if bbox is not None:
        from_bbox(*bbox)  # its checks
        asked = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform_bounds(*bbox, densify_pts=41)
    if "catalog" not in str(about.get("capabilities", "")).lower():
        if (box := _part(whole, about, crs, asked)) is not None:
            yield _Raster(re.sub(r".*[/.:]", "", str(about.get("name") or "image")), None, box, {})
        return
    at = asked or [whole[k] for k in ("xmin", "ymin", "xmax", "ymax")]
    where = {
        "geometry": ",".join(f"{v!r}" for v in map(float, at)),
        "geometryType": "esriGeometryEnvelope",
        "spatialRel": "esriSpatialRelIntersects",
    }
    ids = service.ask("query", where="Category = 1", returnIdsOnly="true", **where)
    name, numbers = str(ids["objectIdFieldName"]), sorted(map(int, ids["objectIds"] or ()))
    dated = _dated_by(about)
    for page in pages(service, name, numbers, int(about.get("maxRecordCount") or 1000)):
        for row in page["features"]:
            values = row["attributes"]
            number = int(values[name])
            own = service.ask(f"{number}/info")
            shown = f"{values.get('Name') or 'raster'}"
            _check_same(service, about, own, crs, shown)
            if (box := _part(own["extent"], own, crs, asked)) is not None:
                stamp = values.get(dated) if dated else None
                when = None if stamp is None else rfc3339(dt.datetime.fromtimestamp(float(stamp) / 1000, dt.UTC))
                rule = {"mosaicMethod": "esriMosaicLockRaster", "lockRasterIds": [number]}
                yield _Raster(f"{shown}_{number}", when, box, rule)


def _dated_by(about: Mapping[str, Any]) -> str | None:
    """The field with the time of a raster: that of the service's time, else a date of acquisition."""
    if field := (about.get("timeInfo") or {}).get("startTimeField"):
        return str(field)
    dates = [str(f["name"]) for f in about.get("fields") or () if f["type"] == "esriFieldTypeDate"]
    return next((n for n in dates if re.search("acqui|sens", n, re.IGNORECASE)), None)


def _check_same(service: ArcGIS, about: Mapping[str, Any], own: Mapping[str, Any], crs: str, shown: str) -> None:
    """Raise InputError for a raster that the service would have to change to export it."""
    for key in ("pixelType", "bandCount"):
        if own[key] != about[key]:
            raise InputError(
                f"{service.what}: {service.url} gives {about[key]} as {key}, and its {shown} has {own[key]}, which it"
                " would convert; expected rasters like their service"
            )
    reference = own["extent"].get("spatialReference")
    if reference and not pyproj.CRS(_crs(reference)).equals(pyproj.CRS(crs), ignore_axis_order=True):
        raise InputError(
            f"{service.what}: {shown} of {service.url} is in another CRS than its service, and would be resampled"
        )


def _part(
    extent: Mapping[str, Any], grid: Mapping[str, Any], crs: str, asked: tuple[float, ...] | None
) -> GeoBox | None:
    """The pixels of a raster that touch what is asked for, on its own grid; None for none."""
    west, north, dx, dy = (float(v) for v in (extent["xmin"], extent["ymax"], grid["pixelSizeX"], grid["pixelSizeY"]))
    width, height = (float(extent["xmax"]) - west) / dx, (north - float(extent["ymin"])) / dy
    if abs(width - round(width)) > SAME or abs(height - round(height)) > SAME:
        raise InputError(
            f"scenes: an extent of {width:g} x {height:g} pixels; expected whole ones, which it can export"
        )
    left, top, right, bottom = 0, 0, round(width), round(height)
    if asked is not None:
        left, right = max(left, math.floor((asked[0] - west) / dx)), min(right, math.ceil((asked[2] - west) / dx))
        top, bottom = max(top, math.floor((north - asked[3]) / dy)), min(bottom, math.ceil((north - asked[1]) / dy))
    if left >= right or top >= bottom:
        return None
    place = Affine(dx, 0, west + left * dx, 0, -dy, north - top * dy)
    return GeoBox((bottom - top, right - left), place, crs)


def _one(service: ArcGIS, about: Mapping[str, Any], dtype: str, raster: _Raster, out: Path) -> Path:
    """The file of a raster, made where it is not there. Raises InputError for one of another part."""
    path = out / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', raster.name)[:100]}.tif"
    if path.is_file():
        with rasterio.open(path) as file:
            same = file.shape == raster.box.shape and file.transform.almost_equals(raster.box.affine, 1e-6)
        if not same:
            raise InputError(f"out: {path} is of another part of {service.url}; expected another folder")
        return path
    side = min(TILE, int(about.get("maxImageHeight") or TILE), int(about.get("maxImageWidth") or TILE))
    height, width = raster.box.shape
    writer: CogWriter | None = None
    nodata: float | None = None
    try:
        for y in range(0, height, side):
            tiles = [_tile(service, about, dtype, raster, (y, x), side) for x in range(0, width, side)]
            if writer is None:
                nodata = tiles[0][1]
                writer = CogWriter(
                    path, raster.box, dtype, bands=int(about["bandCount"]), nodata=nodata, overview="nearest"
                )
            _check_nodata(service, raster, nodata, [other for _, other in tiles])
            writer.write(np.concatenate([values for values, _ in tiles], axis=2))
        assert writer is not None
        writer.close()
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    return path


def _check_nodata(service: ArcGIS, raster: _Raster, nodata: float | None, others: list[float | None]) -> None:
    if {str(other) for other in others} != {str(nodata)}:  # NaN is one too
        raise DataError(f"{service.url}: tiles of {raster.name} differ in their nodata")


def _tile(
    service: ArcGIS, about: Mapping[str, Any], dtype: str, raster: _Raster, at: tuple[int, int], side: int
) -> tuple[NDArray[np.number], float | None]:
    """(band, y, x) of a tile, and its nodata."""
    from geoml.io.stores import web

    (y, x), (height, width) = at, raster.box.shape
    box = raster.box[y : min(y + side, height), x : min(x + side, width)]
    height, width = box.shape
    west, south, east, north = box.extent.boundingbox.bbox
    asked = {
        "f": "image", "format": "tiff", "bbox": f"{west!r},{south!r},{east!r},{north!r}", "size": f"{width},{height}",
        "pixelType": str(about["pixelType"]), "interpolation": "RSP_NearestNeighbor", "adjustAspectRatio": "false",
    }  # fmt: skip
    if raster.rule:
        asked["mosaicRule"] = json.dumps(raster.rule)
    if about.get("allowRasterFunction"):
        asked["renderingRule"] = json.dumps({"rasterFunction": "None"})
    limit = 2 * height * width * int(about["bandCount"]) * np.dtype(dtype).itemsize + 2**20

    def attempt() -> bytes:
        body = BytesIO()
        service.save("exportImage", body, limit, **asked)
        if body.getvalue()[:2] not in (b"II", b"MM"):
            service.parsed(body.getvalue())  # its error
            raise DataError(f"{service.url}: no TIFF came for {raster.name} at {asked['bbox']}")
        return body.getvalue()

    content = web.retried(attempt)
    try:
        with MemoryFile(content) as memory, memory.open(driver="GTiff") as file:
            shape, place, dtypes, nodata = (file.count, *file.shape), file.transform, set(file.dtypes), file.nodata
            values = file.read() if shape == (int(about["bandCount"]), height, width) else None
    except rasterio.errors.RasterioError as err:
        raise DataError(f"{service.url}: {raster.name} at {asked['bbox']} cannot be read ({err})") from err
    off = (place.c - west) / box.affine.a, (place.f - north) / box.affine.e
    sides = all(math.isclose(a, b, rel_tol=1e-6) for a, b in ((place.a, box.affine.a), (place.e, box.affine.e)))
    if values is None or dtypes != {dtype} or max(map(abs, off)) > SAME or not sides:
        raise DataError(
            f"{service.url}: {raster.name} at {asked['bbox']} came as {shape} pixels of {'/'.join(sorted(dtypes))} from"
            f" {place.c:.10g}, {place.f:.10g}; expected ({about['bandCount']}, {height}, {width}) of {dtype}"
        )
    return values, nodata
