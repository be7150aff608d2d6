"""The pictures of sources: files, folders, globs, lists as CSV or Parquet, and STAC items, one after the other.

What cannot be used is a reference that says so, never a stop and never left out.
"""

from __future__ import annotations

import datetime as dt
import glob
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely

from geoml.errors import InputError, NothingFound
from geoml.geolocation.pictures import decode as photos
from geoml.geolocation.pictures.layouts import Finder, ListColumns, columns, earthloc
from geoml.geolocation.pictures.listed import Reference
from geoml.geolocation.pictures.stac import from_items, is_items
from geoml.grid import sphere
from geoml.io.stores import remote
from geoml.io.stores.hrefs import gdal_path, redact
from geoml.io.tables import csv_rows, parquet_geometry
from geoml.texts import listed as some

log = logging.getLogger(__name__)

_LISTS = (".csv", ".tsv", ".parquet", ".geoparquet", ".json", ".geojson")
_BATCH = 4096


def pictures(sources: Iterable[str | Path]) -> Iterator[Reference]:
    """References in the order of the sources; a folder in the order of names, links to folders are not followed.

    A source is a picture (path or URL), a folder, a glob (``**`` too), a CSV or (Geo)Parquet file with a column of
    paths or URLs from the folder of the file on, or a STAC Item, ItemCollection or stac-geoparquet file. Each picture
    comes once. Memory does not depend on the length of lists, but for the names that were given.

    Raises NothingFound if there is no picture at all, InputError for a list that cannot be read, a path without a
    picture's suffix that does not exist, or a list without a column of paths.
    """
    seen: set[str] = set()
    names: set[str] = set()
    listed = [str(s) for s in sources]
    for source in listed:
        before = len(seen)
        for reference in _expand(source):
            key = reference.href or f"{source}#{reference.id}"
            if key in seen:
                continue
            seen.add(key)
            name = reference.id if reference.id not in names else key
            names.add(name)
            yield replace(reference, id=name)
        if len(seen) == before:
            log.warning("no new picture in %s", redact(source))
    if not seen:
        raise NothingFound(f"pictures: none in {some(map(redact, listed), 'no source')}")


def load(reference: Reference, size: int | None = None) -> photos.Photo:
    """The picture of a reference, from this machine or by its URL.

    Raises UnreadablePhoto, TransientError if a server should be asked again, InputError for a reference that says why
    it is refused.
    """
    if reference.refused:
        raise InputError(f"picture {reference.id}: {reference.refused}")
    return photos.read(reference.read_bytes(), size, name=reference.id)


def _expand(source: str) -> Iterator[Reference]:
    if remote.is_url(source):
        yield Reference(
            redact(source).rsplit("/", 1)[-1] or redact(source), source, source=redact(source), by_hand=True
        )
        return
    path = Path(source)
    try:
        kind = "folder" if path.is_dir() else "file" if path.exists() else ""
    except (OSError, ValueError):  # a loop of links, a NUL
        kind = "broken"
    suffix = path.suffix.lower()
    if kind == "folder":
        yield from _walk(path)
    elif kind == "file" and suffix in _LISTS:
        yield from _list(path)
    elif kind or (suffix in photos.SUFFIXES and not glob.has_magic(source)):
        yield _file(path, path.name, source)
    elif glob.has_magic(source):
        for name in sorted(glob.glob(source, recursive=True)):  # noqa: PTH207, pathlib has no absolute patterns
            match = Path(name)
            if not match.is_dir():
                yield from _list(match) if match.suffix.lower() in _LISTS else [_file(match, name, source)]
    else:
        raise InputError(f"pictures: {source!r} does not exist; expected a picture, folder, glob, list or STAC item")


def _file(path: Path, name: str, source: str) -> Reference:
    lon, lat, time = earthloc(path.name) or (None, None, None)
    return Reference(name, str(path), lon, lat, time, source=source)


def _walk(folder: Path) -> Iterator[Reference]:
    lost: list[OSError] = []
    for top, below, files in os.walk(folder, onerror=lost.append):
        below.sort()
        below[:] = [d for d in below if not d.startswith(".")]
        for name in sorted(files):
            path = Path(top) / name
            if path.suffix.lower() in photos.SUFFIXES and not name.startswith("."):
                yield _file(path, path.relative_to(folder).as_posix(), str(folder))
        yield from _unlisted(lost, folder)
    yield from _unlisted(lost, folder)


def _unlisted(lost: list[OSError], folder: Path) -> Iterator[Reference]:
    while lost:
        at = str(lost.pop().filename)
        yield Reference(at, "", source=str(folder), refused="permission: this folder cannot be listed")


def _list(path: Path) -> Iterator[Reference]:
    suffix = path.suffix.lower()
    if suffix in (".json", ".geojson"):
        yield from from_items(path)
    elif suffix in (".parquet", ".geoparquet"):
        yield from _parquet(path)
    else:
        yield from _csv(path)


def _csv(path: Path) -> Iterator[Reference]:
    try:
        with csv_rows.table(path) as (names, rows):
            layout = columns([n for n in names if n], str(path))
            finder = Finder(path.parent, layout.layout)
            for number, row in enumerate(rows, start=1):
                yield _row(row, layout, finder, path, number)
    except csv_rows.ERRORS as err:
        raise InputError(f"pictures: {str(path)!r} cannot be read as CSV ({err})") from err


def _parquet(path: Path) -> Iterator[Reference]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as err:
        raise InputError(f"pictures: {str(path)!r} is not a Parquet file ({err})") from err
    with file:
        if is_items(file.schema_arrow):
            yield from from_items(path)
            return
        layout = columns(file.schema_arrow.names, str(path))
        used = filter(None, (layout.path, layout.lon, layout.lat, layout.id, layout.time, layout.text))
        geometry, to = _geometry(path) if layout.lon is None or layout.lat is None else (None, None)
        names = sorted({*used, *layout.labels, *([geometry] if geometry else [])})
        finder, number = Finder(path.parent, layout.layout), 0
        try:
            for batch in file.iter_batches(_BATCH, columns=names):
                for row in batch.to_pylist():
                    number += 1
                    reference = _row(row, layout, finder, path, number)
                    yield reference if geometry is None or to is None else _placed(reference, row[geometry], to)
        except (OSError, pa.ArrowException) as err:
            raise InputError(f"pictures: {str(path)!r} breaks off after row {number} ({err})") from err


def _geometry(path: Path) -> tuple[str | None, pyproj.Transformer | None]:
    """(the geometry column of a GeoParquet file or of a native type, what brings it to degrees)."""
    try:
        with pq.ParquetFile(path) as file:
            metadata = json.loads((file.metadata.metadata or {}).get(b"geo", b"null"))
            native = parquet_geometry.native(file)
        if metadata is not None:
            name = metadata["primary_column"]
            crs = metadata["columns"][name].get("crs", "OGC:CRS84")
        elif native is not None:
            name, crs = native
        else:
            return None, None
        source = pyproj.CRS.from_user_input(crs if crs is not None else "OGC:CRS84")
        return name, pyproj.Transformer.from_crs(source, "OGC:CRS84", always_xy=True)
    except (ValueError, KeyError, TypeError, AttributeError, pyproj.exceptions.CRSError) as err:
        raise InputError(f"pictures: {str(path)!r} has broken GeoParquet metadata ({err!r})") from err


def _placed(reference: Reference, wkb: bytes | None, to: pyproj.Transformer) -> Reference:
    try:
        shape = None if wkb is None else shapely.from_wkb(wkb)
    except (shapely.errors.ShapelyError, TypeError):
        return replace(reference, problems=(*reference.problems, "position_unreadable"))
    if shape is None or shape.is_empty:
        return reference
    x, y = to.transform(shape.centroid.x, shape.centroid.y)
    lon, lat, problems = _position(x, y)
    return replace(reference, lon=lon, lat=lat, problems=(*reference.problems, *problems))


def _row(row: Mapping[str, object], layout: ListColumns, finder: Finder, path: Path, number: int) -> Reference:
    def text(name: str | None) -> str:
        value = row.get(name) if name else None
        return "" if value is None or value != value else str(value).strip()  # NaN of a float column

    name = text(layout.path)
    lon, lat, problems = _position(text(layout.lon), text(layout.lat))
    time, bad_time = _time(row.get(layout.time) if layout.time else None)
    reference = Reference(
        text(layout.id) or name or f"row {number}",
        "",
        lon,
        lat,
        time,
        text(layout.text) or None,
        {n: t for n in layout.labels if (t := text(n))},
        str(path),
        problems=(*problems, *bad_time),
    )
    if not name:
        return replace(reference, refused=f"row {number} of {path.name} names no picture")
    if layout.suffix and not name.lower().endswith(layout.suffix):
        name += layout.suffix
    try:
        if "://" in name:
            return replace(reference, href=gdal_path(name, remote=True))
        # the checks of hrefs, and no folder to stay in: a list of one's own may point to another disk
        return replace(reference, href=gdal_path(str(finder.find(name)), remote=False))
    except (InputError, OSError, ValueError) as err:
        return replace(reference, refused=str(err))


def _position(x: object, y: object) -> tuple[float | None, float | None, tuple[str, ...]]:
    if x in ("", None) and y in ("", None):
        return None, None, ()
    try:
        lon, lat = csv_rows.number(str(x)), csv_rows.number(str(y))
    except ValueError:
        return None, None, ("position_unreadable",)
    if not (math.isfinite(lon) and math.isfinite(lat)):
        return None, None, ("position_unreadable",)
    if abs(lat) > 90 or abs(lon) > 360:
        return None, None, ("position_out_of_range",)
    return float(sphere.wrap(lon)), lat, ()


def _time(value: object) -> tuple[dt.datetime | None, tuple[str, ...]]:
    """UTC; a time without a zone counts as UTC."""
    if value is None or value == "":
        return None, ()
    try:
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            value = dt.datetime(value.year, value.month, value.day)
        if str(value).strip().isdigit():  # a date, or seconds since when?
            return None, ("time_unreadable",)
        time = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value).strip())
        return (time if time.tzinfo else time.replace(tzinfo=dt.UTC)).astimezone(dt.UTC), ()
    except (ValueError, OverflowError):
        return None, ("time_unreadable",)
