"""Opening an untrusted raster: one driver, checks on the header, retries, and errors that say what is wrong."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import numpy as np
import rasterio
from pyproj.exceptions import ProjError
from rasterio._err import CPLE_BaseError  # some calls of rasterio let GDAL's own error through
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geoml.errors import DataError, GeomlError, TransientError, out_of_memory
from geoml.io.cog import vrt_mosaic
from geoml.io.cog.directories import Bytes
from geoml.io.cog.limits import check_size
from geoml.io.cog.vrt_mosaic import LocalPart, MosaicFile
from geoml.io.georef import placement_of
from geoml.io.stac.bands import BandSpec, sign
from geoml.io.stores.bucket import bucket_of
from geoml.io.stores.hrefs import RedactingFilter, clean, gdal_path, redact
from geoml.io.stores.multihash import sha256_of
from geoml.io.stores.ranges import Changed, Denied, RemoteFile, is_raster, remote_file
from geoml.io.stores.store import sha256
from geoml.io.stores.web import back_off
from geoml.settings import settings

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BANDS = 4096

# a file without georeference is refused below with a better text; simplefilter as no filter is thread-safe later
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


def using(spec: BandSpec, action: Callable[[rasterio.DatasetReader], T], *, placed: bool = True) -> T:
    """``action`` on the opened and checked file of ``spec``. Raises the errors of `using_bytes`."""
    return using_bytes(spec, lambda dataset, _: action(dataset), placed=placed)


def using_bytes(spec: BandSpec, action: Callable[[rasterio.DatasetReader, Bytes], T], *, placed: bool = True) -> T:
    """``action`` on the opened and checked file of ``spec`` and its bytes; transient failures are retried with backoff.

    ``placed``: it has to lie on a grid, as all but pictures of a sensor do.

    Raises InputError for an href that is not allowed, TransientError if a server still fails after
    ``settings().retries`` tries, DataError for everything that trying again does not mend.
    """
    until, tries = time.monotonic() + 4 * settings().timeout, settings().retries + 1
    fresh = False
    for attempt in range(tries):
        root = Path(spec.root) if spec.root else None
        path = gdal_path(sign(spec, fresh=fresh), remote=spec.remote, root=root)
        far = _far(spec, path, until, fresh=fresh)
        try:
            return _once(spec, path, far, action, placed)
        except (RasterioError, CPLE_BaseError, ProjError, OSError, ValueError, MemoryError, GeomlError) as err:
            failure, again = _explain(err, spec, path, far, attempt)
            if isinstance(failure, Denied) and spec.sign and not fresh:
                fresh = True  # once: a second refusal is not about time
                continue
            if attempt + 1 == tries or time.monotonic() > until or not again:
                raise failure from err
            log.info("trying again: %s", failure)
            back_off(attempt)
    raise AssertionError("unreachable")


def _far(spec: BandSpec, path: str, until: float, *, fresh: bool) -> RemoteFile | MosaicFile | None:
    """What is read in another way than as a file of this machine: one elsewhere, or the parts of a VRT."""
    root, url = Path(spec.root) if spec.root else None, "://" in path
    if not (urlsplit(path).path if url else path).lower().endswith(vrt_mosaic.SUFFIX):
        return remote_file(spec.href, path, until, keys=spec.keys) if url else None

    def text() -> bytes:
        if not url:
            return _part(Path(path), 0, vrt_mosaic.MOST + 1)
        file = remote_file(spec.href, path, until, keys=spec.keys, kind="VRT")
        file.check()
        content = file.read(0, vrt_mosaic.MOST + 1)
        if file.failure is not None:
            raise file.failure
        return content

    def part(href: str) -> RemoteFile | LocalPart:
        # a VRT elsewhere names no file here, and spends no key but in the bucket that it lies in
        keys = spec.keys and (not url or bucket_of(href) == bucket_of(spec.href) != "")
        asked = gdal_path(sign(replace(spec, href=href), fresh=fresh), remote=spec.remote or url, root=root)
        return remote_file(href, asked, until, keys=keys) if "://" in asked else LocalPart(Path(asked))

    return MosaicFile(spec.href if url else path, text, part)


def _once(
    spec: BandSpec,
    path: str,
    far: RemoteFile | MosaicFile | None,
    action: Callable[[rasterio.DatasetReader, Bytes], T],
    placed: bool,
) -> T:
    if far is not None:
        far.check()
    elif spec.checksum and settings().verify:
        _verify(spec, Path(path))
    with rasterio.Env(**_options()), open_path(path, far=far) as dataset:
        _check(dataset, spec, placed)
        done = action(dataset, far.read if far is not None else partial(_part, Path(path)))
    if far is not None and far.failure is not None:  # GDAL may have taken missing bytes for zeros
        raise far.failure
    return done


def _part(path: Path, start: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(count)


def _verify(spec: BandSpec, path: Path) -> None:
    """Raises DataError unless the file is the one of ``file:checksum``; only sha2-256 is known, others pass."""
    expected = sha256_of(spec.checksum or "").lower()
    if len(expected) != 64:
        return
    stat = path.stat()
    if _sum(path, stat.st_mtime_ns, stat.st_size) != expected:
        raise DataError(f"{label(spec)}: damaged or another file, its sum is not file:checksum; see GEOML_VERIFY")


@lru_cache(maxsize=4096)
def _sum(path: Path, mtime: int, size: int) -> str:
    return sha256(path)


def open_path(
    path: str, overview: int | None = None, far: RemoteFile | MosaicFile | None = None
) -> rasterio.DatasetReader:
    """The file with the one driver of its kind; a VRT under the name of a TIFF is not opened. Call inside an Env."""
    driver = "JP2OpenJPEG" if path.split("?")[0].lower().endswith(".jp2") else "GTiff"
    if isinstance(far, MosaicFile):
        driver = "VRT"
    extra: dict[str, object] = {} if overview is None else {"overview_level": overview}
    if far is not None:
        path, extra = far.name, {**extra, "opener": far.opener}
    return rasterio.open(path, driver=driver, sharing=False, **extra)


def _options() -> dict[str, object]:
    """GDAL's configuration for one read. ``NUM_THREADS`` stays away: it decodes tiles of which a part is missing."""
    return {
        "GDAL_CACHEMAX": settings().cache_bytes,  # bytes here, megabytes as an environment variable
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_NETRC": "NO",  # it fetches nothing here; should it ever, then without anybody's password
        "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
        "VRT_NUM_THREADS": "1",  # others of GDAL's own have no opener: parts would be zeros, and no error raised
        "GDAL_MAX_RAW_BLOCK_CACHE_SIZE": 64 * 2**20,  # asked for at once; 10 MiB, then tile by tile, if not set
    }


def _check(dataset: rasterio.DatasetReader, spec: BandSpec, placed: bool) -> None:
    """Raises DataError if the header alone says that this file cannot or must not be read."""
    where = label(spec)
    if dataset.count > MAX_BANDS:
        raise DataError(f"{where}: declares {dataset.count} bands; at most {MAX_BANDS} are read")
    bounded(dataset, where)
    if not 1 <= spec.index <= dataset.count:
        raise DataError(f"{where}: band {spec.index} of {spec.name!r} does not exist; the file has {dataset.count}")
    if any(np.dtype(d).kind == "c" for d in dataset.dtypes):
        raise DataError(f"{where}: complex numbers; expected integers or floats")
    try:
        if placed:
            placement_of(dataset, spec.projection)
    except DataError as err:
        raise DataError(f"{where}: {err}") from err


def bounded(dataset: rasterio.DatasetReader, where: str) -> None:
    """Raises DataError if the level that is open takes too much memory; see `geoml.io.cog.limits.check_size`."""
    planes = dataset.count if str(dataset.profile.get("interleave", "")).lower() == "pixel" else 1
    shape = dataset.count, dataset.height, dataset.width
    check_size(where, shape, dataset.block_shapes[0], planes, np.dtype(dataset.dtypes[0]).itemsize)


def label(spec: BandSpec) -> str:
    """How errors name a file: item, asset and href without secrets."""
    return f"item {spec.item}, asset {spec.asset} ({redact(spec.href)})"


def _explain(
    err: BaseException, spec: BandSpec, path: str, far: RemoteFile | MosaicFile | None, attempt: int
) -> tuple[GeomlError, bool]:
    """(the error to raise, whether trying again may help) for what was raised on ``path``."""
    where = label(spec)
    if far is not None and far.failure is not None:
        return type(far.failure)(f"{where}: {clean(str(far.failure))}"), isinstance(far.failure, Changed)
    if isinstance(err, GeomlError):
        return err, False
    text = clean(_chain(err))
    if out_of_memory(err):
        return TransientError(f"{where}: not enough memory ({text})"), False
    if far is not None:  # all bytes came as the server has them, so they are wrong there, or once on their way here
        far.forget()
        return DataError(f"{where}: {text}"), attempt == 0
    head = _head(path)
    if head is not None and not is_raster(head):
        return DataError(f"{where}: not a TIFF, it starts with {head[:40]!r}"), False
    return DataError(f"{where}: {text}"), False


for _name in ("rasterio._env", "rasterio._err", "rasterio._base", "rasterio._io", "rasterio.env"):
    logging.getLogger(_name).addFilter(RedactingFilter())  # rasterio logs what GDAL says, with whole URLs


def _chain(err: BaseException | None) -> str:
    """The message with its causes: rasterio's own says only 'see previous exception'."""
    parts: list[str] = []
    while err is not None and len(parts) < 5:
        text = str(err).strip()
        if text and not any(text in p for p in parts) and "previous exception" not in text:
            parts.append(text)
        err = err.__cause__ or err.__context__
    return "; ".join(parts) or "read failed"


def _head(path: str) -> bytes | None:
    """The first bytes of a local file that would not open."""
    try:
        with Path(path).open("rb") as file:
            return file.read(64)
    except OSError:
        return None
