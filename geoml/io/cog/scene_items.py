"""Scenes of files as STAC items and as a static catalog, with the extensions projection, raster, eo and file."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pystac
import shapely
import yaml
from odc.geo.geobox import GeoBox
from shapely.geometry import MultiPolygon, mapping

from geoml.errors import GeomlError, InputError
from geoml.grid.region import polygons_of
from geoml.io.cog import vrt_mosaic
from geoml.io.cog.raster_file import COMMON, RasterFile
from geoml.io.cog.scene_fields import SceneFields
from geoml.io.cog.scene_files import FileScene
from geoml.io.crs import in_degrees, to_degrees
from geoml.io.stac.items import bbox_of, extensions, made_here, projection, write_catalog
from geoml.io.stores.ranges import remote_file
from geoml.io.stores.remote import is_url
from geoml.io.stores.store import sha256, within, write_text
from geoml.redacted import bare
from geoml.settings import settings

MOSAICS = "mosaics"
"""Folder of the VRTs of scenes in parts."""

YAML = "catalog.yaml"
"""Beside ``catalog.json`` where files lie outside of its folder: it says where they may lie."""


def write_scenes(
    scenes: Sequence[FileScene], told: SceneFields, folder: Path, description: str, *, contents: bool = False
) -> Path:
    """A static catalog of scenes in ``folder``; what ``--catalog`` takes.

    Files below the folder are named as seen from it, and then it may be moved with them. ``contents=True`` reads the
    files and makes their SHA-256 the version of the items, so that a run knows a file by what it holds and not by when
    it changed. A catalog that was written so before is written again, without items that it has no more. Raises
    InputError for a folder with another catalog or a run.
    """
    folder = folder.absolute()
    check_free(folder)
    items = [_item(scene, told, folder, contents=contents) for scene in scenes]
    catalog = write_catalog(items, folder, description)
    outside = _outside(scenes, folder)
    if not outside:
        within(folder, YAML).unlink(missing_ok=True)
        return folder
    files = os.path.commonpath([folder.resolve(), *(p.resolve() for p in outside)])
    said = {"title": description, "url": catalog.name, "kind": "static", "files": files}
    write_text(within(folder, YAML), yaml.safe_dump({**said, "default_collection": folder.name}, sort_keys=False))
    return folder / YAML


def check_free(folder: Path) -> None:
    """Raise InputError for a folder with a run, or with a catalog that `write_catalog` has not written."""
    if (folder / ".geoml").exists():
        raise InputError(f"out: {folder} contains a run; expected an empty folder")
    for name in ("catalog.json", "collection.json"):
        if os.path.lexists(folder / name) and made_here(folder / name) is None:
            raise InputError(f"out: {folder} contains another catalog ({name}); expected an empty folder")


def catalog_place(scenes: Sequence[FileScene], folder: Path) -> Path:
    """What `write_scenes` gives, before anything is written."""
    return folder.absolute() / YAML if _outside(scenes, folder) else folder.absolute()


def _outside(scenes: Sequence[FileScene], folder: Path) -> list[Path]:
    """Folders of the files of this machine that do not lie below ``folder``."""
    hrefs = [href for s in scenes for f in s.files for href in f.hrefs]
    return [Path(href).parent for href in hrefs if not is_url(href) and not _inside(href, folder)]


def footprint(scenes: Sequence[FileScene]) -> MultiPolygon:
    """The ground that any of the scenes covers, in degrees."""
    return polygons_of(shapely.union_all([_outline(f.box) for s in scenes for f in s.files]))


def shared_ground(scenes: Sequence[FileScene]) -> MultiPolygon:
    """The ground that all of the scenes cover, in degrees. Raises InputError if there is none."""
    found = polygons_of(shapely.intersection_all([footprint([s]) for s in scenes]))
    if found.is_empty:
        raise InputError(f"image: {' and '.join(s.name for s in scenes)} show no common ground")
    return found


def _inside(href: str, folder: Path) -> bool:
    return Path(href).resolve().is_relative_to(folder.resolve())


def _item(scene: FileScene, told: SceneFields, folder: Path, *, contents: bool) -> pystac.Item:
    shape = footprint([scene])
    hrefs = [href for f in scene.files for href in f.hrefs]
    local = [Path(href) for href in hrefs if not is_url(href)]
    properties: dict[str, object] = {"gsd": scene.gsd}
    if remote := [href for href in hrefs if is_url(href)]:
        properties["processing:version"] = "-".join(map(_remote_version, remote))
    elif contents and local:
        properties["processing:version"] = "-".join(sha256(p)[:16] for p in local)
    elif local:
        last = max(p.stat().st_mtime for p in local)
        properties["updated"] = dt.datetime.fromtimestamp(last, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    plain = shape.geoms[0] if len(shape.geoms) == 1 else shape
    item = pystac.Item(scene.name, mapping(plain), bbox_of(shape), scene.when, properties)
    for number, (file, names) in enumerate(zip(scene.files, scene.bands, strict=True), 1):
        key = "image" if len(scene.files) == 1 else next((n for n in names if n), f"band-{number}")
        item.add_asset(key, _asset(file, names, told, folder, scene.name))
    item.stac_extensions = extensions(properties, *(a.extra_fields for a in item.assets.values()))
    return item


def _remote_version(href: str) -> str:
    """What changes with a file elsewhere: a hash of its URL, and of its size and tag where its server says them."""
    said: object = None
    with suppress(GeomlError):  # a server that is away now: what is known is the URL
        file = remote_file(href, href, time.monotonic() + settings().timeout)
        file.check()  # its head, which was read a moment ago
        said = file.version
    return hashlib.sha256(f"{bare(href)} {said}".encode()).hexdigest()[:16]


def _asset(file: RasterFile, names: Sequence[str | None], told: SceneFields, folder: Path, scene: str) -> pystac.Asset:
    """A file with its place and its bands; one that is not used keeps its place in the list and has no name."""
    remote = is_url(file.hrefs[0])
    href, kind = file.href, "image/tiff; application=geotiff"
    if file.parts:
        href, kind = f"../{_write_mosaic(file, folder, scene)}", vrt_mosaic.MEDIA_TYPE
    elif not remote and _inside(href, folder):
        href = Path(os.path.relpath(Path(href).resolve(), folder.resolve() / "items")).as_posix()
    box = file.box
    fields = {
        **projection(str(box.crs)),
        "proj:shape": list(box.shape),
        "proj:transform": list(box.affine)[:6],
        "gsd": file.gsd,
        **({} if remote else {"file:size": sum(Path(href).stat().st_size for href in file.hrefs)}),
        "bands": [_band(file, k, name, told) for k, name in enumerate(names)],
    }
    return pystac.Asset(href, media_type=kind, roles=["data"], extra_fields=fields)


def _write_mosaic(file: RasterFile, folder: Path, scene: str) -> str:
    """The VRT of a file in parts, which lies in the catalog; its path as seen from ``folder``."""
    name = f"{MOSAICS}/{scene}{vrt_mosaic.SUFFIX}"
    inside = all(not is_url(href) and _inside(href, folder) for href in file.hrefs)
    start = folder.resolve() / MOSAICS
    names = [
        Path(os.path.relpath(Path(href).resolve(), start)).as_posix() if inside else vrt_mosaic.for_gdal(href)
        for href in file.hrefs
    ]
    columns = zip(file.dtypes, file.nodata, file.scaling, file.names, strict=True)
    bands = tuple(vrt_mosaic.MosaicBand(d, n, *scaling, name or "") for d, n, scaling, name in columns)
    shape = int(file.box.shape[0]), int(file.box.shape[1])
    made = vrt_mosaic.VrtMosaic(str(file.box.crs), file.box.affine, shape, bands, file.parts)
    write_text(within(folder, name), made.text(names, relative=inside))
    return name


def _band(file: RasterFile, index: int, name: str | None, told: SceneFields) -> dict[str, object]:
    scale, offset = file.scaling[index]
    scale = scale if told.scale is None else told.scale
    offset = told.offset if told.offset is not None else 0.0 if told.scale is not None else offset
    nodata = file.nodata[index] if told.nodata is None else told.nodata
    band: dict[str, object] = {"data_type": file.dtypes[index]}
    if name:
        band = {"name": name, **({"eo:common_name": name} if name in COMMON else {}), **band}
    if nodata is not None:
        band["nodata"] = nodata if math.isfinite(nodata) else str(nodata)
    if (scale, offset) != (1.0, 0.0):
        band |= {"raster:scale": scale, "raster:offset": offset}
    return band if told.unit is None else {**band, "unit": told.unit}


def _outline(box: GeoBox) -> MultiPolygon:
    """The edge of a grid in degrees, split at the antimeridian; edges bend as they do on the map."""
    to = to_degrees(str(box.crs))
    assert to is not None  # placement_of has asked
    edge = shapely.Polygon(box.extent.exterior.coords)
    dense = shapely.segmentize(edge, edge.length / 64)
    return in_degrees(dense, to)
