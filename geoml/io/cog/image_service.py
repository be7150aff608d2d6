"""Rasters of an ArcGIS image service as COGs of this machine: the part that is asked for, in the pixels of the source.

https://developers.arcgis.com/rest/services-reference/enterprise/export-image/. Each raster of the catalog of a service
is exported alone (``lockRasterIds``), without rendering, in tiles of its own grid and pixel size, so that nothing is
resampled. GDAL's driver for ArcGIS reads pictures of 8 bits only, and no date by itself.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from rasterio.enums import MaskFlags
from rasterio.io import MemoryFile

from geoml.errors import DataError, InputError, NothingFound
from geoml.grid.region import from_bbox
from geoml.io.arcgis.feature_layer import pages
from geoml.io.arcgis.service import ArcGIS, is_images
from geoml.io.cog.scene_fields import CatalogRecipe
from geoml.io.cog.scene_files import check_names, told_time
from geoml.io.cog.scene_items import check_free
from geoml.io.cog.source import MAX_BANDS, bounded
from geoml.io.cog.write import CogWriter
from geoml.io.crs import pixel_offset
from geoml.io.stac.times import rfc3339
from geoml.io.stores.store import within

DTYPES = {
    **{"U1": "uint8", "U2": "uint8", "U4": "uint8", "U8": "uint8", "S8": "int8", "U16": "uint16", "S16": "int16"},
    **{"U32": "uint32", "S32": "int32", "F32": "float32", "F64": "float64"},
}
"""Types of pixels by their names in ArcGIS."""
TILE = 1024
"""Pixels of a side of what is asked for at once, at most."""
BUDGET = 2**27
"""Bytes of a row of tiles; wide rasters come in lower ones."""
WIDEST = 2**21
"""Bytes of a row of pixels: a COG is written from 512 of them and those of its overviews."""
LONGEST = 80
"""Characters of the name of a raster in that of its file."""
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

    Raises InputError for a service beside other scenes, a box without one and, before any pixel comes, for a folder
    with something else, names or times that do not fit the rasters, and rasters without a time where none is told; and
    what `downloaded` raises.
    """
    services = [place for place in recipe.scenes if is_images(place)]
    if not services:
        if recipe.bbox is not None:
            raise InputError("bbox: belongs to an image service; expected none for files, which are taken whole")
        return recipe
    if len(recipe.scenes) > 1:
        raise InputError("scenes: an image service and others; expected one service and nothing else")
    check_free(out)
    told: list[str] = []
    paths, _ = downloaded(services[0], out, recipe.bbox, lambda times, bands: told.extend(_times(recipe, times, bands)))
    return recipe.model_copy(update={"scenes": tuple(paths), "datetime": tuple(told)})


def _times(recipe: CatalogRecipe, times: Sequence[str | None], bands: int) -> tuple[str, ...]:
    """Those of the scenes of such rasters. Raises InputError where names or times of the recipe do not fit them."""
    names, count = len(recipe.bands), len(times)
    one = bands == 1 and names > 1  # rasters of one band that are one scene
    if names != (count if one else bands):
        raise InputError(
            f"bands: {names} names for {count} rasters of {bands} bands; expected one for each band, - to skip one"
        )
    check_names(recipe.bands)
    known = tuple(t for t in times if t is not None)
    told = recipe.datetime or (tuple(dict.fromkeys(known)) if one else known)
    if not recipe.datetime and len(known) < count:
        raise InputError(f"datetime: {count - len(known)} of {count} rasters say no time; expected --datetime")
    scenes = 1 if one else count
    if len(told) not in (1, scenes):
        raise InputError(f"datetime: {len(told)} for {scenes} scenes; expected one for all or one for each")
    for text in told:
        told_time(text)
    return told


Bounds = tuple[float, float, float, float]
Check = Callable[[Sequence[str | None], int], object]


def downloaded(
    url: str, out: Path, bbox: Bounds | None, check: Check = lambda times, bands: None
) -> tuple[list[str], list[str | None]]:
    """The part inside of ``bbox`` (W S E N in degrees; None: all) of each raster as COGs; files and times.

    They lie in ``out``/images, and one that is there already is kept. ``check`` gets the times of the rasters and the
    number of their bands before any pixel comes. Raises InputError for a service that cannot be exported or has no such
    pixels, and for a box over the antimeridian; NothingFound without a raster in the box; DataError where what comes is
    not what was asked for; TransientError when the service does not answer.
    """
    service = ArcGIS.at(url, "scenes")
    about = service.ask()
    try:
        return _downloaded(service, about, out, bbox, check)
    except (
        *(KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError),
        *(pyproj.exceptions.ProjError, rasterio.errors.RasterioError),
    ) as err:
        if isinstance(err, InputError):
            raise
        raise DataError(f"{service.url}: no image service ({type(err).__name__}: {err})") from err


def _downloaded(
    service: ArcGIS, about: Mapping[str, Any], out: Path, bbox: Bounds | None, check: Check
) -> tuple[list[str], list[str | None]]:
    dtype = DTYPES.get(str(about["pixelType"]))
    if dtype is None:
        raise InputError(
            f"{service.what}: {service.url} has pixels of {about['pixelType']}; expected {', '.join(DTYPES)}"
        )
    if not 1 <= (bands := int(about["bandCount"])) <= MAX_BANDS:
        raise InputError(f"{service.what}: {service.url} has {bands} bands; expected 1 to {MAX_BANDS}")
    crs = _crs(about["extent"]["spatialReference"])
    found = list(_rasters(service, about, crs, bbox))
    if not found:
        raise NothingFound(f"{service.url}: no raster inside of the box")
    times = [r.when for r in found]
    check(times, bands)
    for raster in found:
        if raster.box.width * bands * np.dtype(dtype).itemsize > WIDEST:
            raise InputError(
                f"bbox: {raster.name} of {service.url} is {raster.box.width} pixels wide there, {bands} bands of"
                f" {dtype}; expected {WIDEST >> 20} MiB for a row of them or less, by a narrower box"
            )
    paths = [_one(service, about, dtype, raster, out) for raster in found]
    return [str(p) for p in paths], times


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


def _rasters(service: ArcGIS, about: Mapping[str, Any], crs: str, bbox: Bounds | None) -> Iterator[_Raster]:
    """The rasters in the box: those of the catalog, or all of the service as one where it shows none."""
    whole = about["extent"]
    asked = None if bbox is None else _asked(service, crs, bbox)
    if "catalog" not in str(about.get("capabilities", "")).lower():
        if (box := _part(whole, about, crs, asked)) is not None:
            yield _Raster(re.sub(r".*[/.:]", "", str(about.get("name") or "image"))[:LONGEST], None, box, {})
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
                yield _Raster(f"{shown[:LONGEST]}_{number}", when, box, rule)


def _asked(service: ArcGIS, crs: str, bbox: Bounds) -> Bounds:
    """A box in degrees in the CRS of the service. Raises InputError for one that has no place there."""
    from_bbox(*bbox)  # its checks
    text = f"bbox: {' '.join(f'{v:g}' for v in bbox)}"
    if bbox[0] > bbox[2]:
        raise InputError(
            f"{text} crosses the antimeridian, which an image service cannot be asked for; expected a box on one side,"
            " and a catalog for each"
        )
    to = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    asked: Bounds = to.transform_bounds(*bbox, densify_pts=41)
    if not all(map(math.isfinite, asked)):
        raise InputError(f"{text} has no place in the CRS of {service.url}; expected a box inside of its area")
    return asked


def _dated_by(about: Mapping[str, Any]) -> str | None:
    """The field with the time of a raster: that of the service's time, else a date of acquisition.

    Numbers and texts are times of a form of their own: only dates are milliseconds since 1970.
    """
    dates = [str(f["name"]) for f in about.get("fields") or () if f["type"] == "esriFieldTypeDate"]
    if (field := (about.get("timeInfo") or {}).get("startTimeField")) in dates:
        return str(field)
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
    name, of = re.sub(r"[^A-Za-z0-9._-]+", "-", raster.name), hashlib.sha256(service.url.encode()).hexdigest()[:8]
    path = within(out, f"{IMAGES}/{name}_{of}.tif")
    bands, itemsize = int(about["bandCount"]), np.dtype(dtype).itemsize
    if _is_there(path, raster.box, (dtype,) * bands, service):
        return path
    side = max(1, min(TILE, int(about.get("maxImageHeight") or TILE), int(about.get("maxImageWidth") or TILE)))
    height, width = raster.box.shape
    rows = max(1, min(side, BUDGET // (width * bands * itemsize)))
    writer: CogWriter | None = None
    nodata: float | None = None
    try:
        for y in range(0, height, rows):
            strip = np.empty((bands, min(rows, height - y), width), dtype)
            others: list[float | None] = []
            for x in range(0, width, side):
                box = raster.box[y : min(y + rows, height), x : min(x + side, width)]
                strip[:, :, x : x + side], other = _tile(service, about, dtype, raster, box)
                others.append(other)
            if writer is None:
                nodata = others[0]
                writer = CogWriter(path, raster.box, dtype, bands=bands, nodata=nodata, overview="nearest")
            _check_nodata(service, raster, nodata, others)
            writer.write(strip)
        assert writer is not None
        writer.close()
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    return path


def _is_there(path: Path, box: GeoBox, dtypes: tuple[str, ...], service: ArcGIS) -> bool:
    """Whether a raster has come before; a damaged file has not. Raises InputError for a file of something else."""
    if not path.is_file():
        return False
    try:
        with rasterio.open(path, driver="GTiff") as file:
            same = file.shape == box.shape and file.transform.almost_equals(box.affine, 1e-6) and file.dtypes == dtypes
            same = same and file.crs is not None and _same_crs(file, box)
    except rasterio.errors.RasterioError:
        return False
    if not same:
        raise InputError(f"out: {path} is of another part of {service.url}; expected another folder")
    return True


def _same_crs(file: rasterio.DatasetReader, box: GeoBox) -> bool:
    """Whether the CRS of a file puts the pixels of ``box`` where its own does."""
    assert box.crs is not None
    found, own = pyproj.CRS.from_wkt(file.crs.to_wkt()), box.crs.proj
    return bool(found.equals(own, ignore_axis_order=True)) or pixel_offset(found, own, box) <= SAME


def _check_nodata(service: ArcGIS, raster: _Raster, nodata: float | None, others: list[float | None]) -> None:
    if {str(other) for other in others} != {str(nodata)}:  # NaN is one too
        raise DataError(f"{service.url}: tiles of {raster.name} differ in their nodata")


def _tile(
    service: ArcGIS, about: Mapping[str, Any], dtype: str, raster: _Raster, box: GeoBox
) -> tuple[NDArray[np.number], float | None]:
    """(band, y, x) of a part of a raster, and its nodata."""
    from geoml.io.stores import web

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
    bands = int(about["bandCount"])
    limit = 2 * height * width * bands * np.dtype(dtype).itemsize + 2**20

    def attempt() -> bytes:
        body = BytesIO()
        service.save("exportImage", body, limit, **asked)
        if body.getvalue()[:2] not in (b"II", b"MM"):
            service.parsed(body.getvalue())  # its error
            raise DataError(f"{service.url}: no TIFF came for {raster.name} at {asked['bbox']}")
        return body.getvalue()

    content, where = web.retried(attempt), f"{service.url}: {raster.name} at {asked['bbox']}"
    try:
        with MemoryFile(content) as memory, memory.open(driver="GTiff") as file:
            _check_tile(file, box, bands, dtype, where)
            bounded(file, where)
            return _values(file, where), file.nodata
    except rasterio.errors.RasterioError as err:
        raise DataError(f"{where} cannot be read ({err})") from err


def _check_tile(file: rasterio.DatasetReader, box: GeoBox, bands: int, dtype: str, where: str) -> None:
    """Raise DataError for a tile of another size, type or place, before its pixels are read."""
    shape, wanted, place = (file.count, *file.shape), (bands, *box.shape), file.transform
    dtypes, first = set(file.dtypes), box.affine
    off = (place.c - first.c) / first.a, (place.f - first.f) / first.e
    sides = all(math.isclose(a, b, rel_tol=1e-6) for a, b in ((place.a, first.a), (place.e, first.e)))
    if shape != wanted or dtypes != {dtype} or max(map(abs, off)) > SAME or not sides:
        raise DataError(
            f"{where} came as {shape} pixels of {'/'.join(sorted(dtypes))} from"
            f" {place.c:.10g}, {place.f:.10g}; expected {tuple(map(int, wanted))} of {dtype}"
        )
    if file.crs is not None and not _same_crs(file, box):
        raise DataError(f"{where} came in {file.crs.to_string()[:80]}; expected {str(box.crs)[:80]}")


def _values(file: rasterio.DatasetReader, where: str) -> NDArray[np.number]:
    """All pixels; those that a mask or an alpha hides are nodata. Raises DataError where there is none."""
    values: NDArray[np.number] = file.read()
    if any(MaskFlags.per_dataset in flags for flags in file.mask_flag_enums):
        hidden = file.dataset_mask() == 0
        if hidden.any() and file.nodata is None:
            raise DataError(f"{where} hides {int(hidden.sum())} pixels by a mask; expected a nodata value")
        if hidden.any():
            values[:, hidden] = file.nodata
    return values
