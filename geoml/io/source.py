"""Opening a raster that others made: one driver, checks on the header, retries, and errors that say what is wrong."""

from __future__ import annotations

import logging
import random
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import rasterio
import requests
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geoml.errors import DataError, GeomlError, TransientError
from geoml.io.bands import BandSpec, sign
from geoml.io.hrefs import gdal_path, redact
from geoml.settings import settings

T = TypeVar("T")

MAX_BLOCK_BYTES = 128 * 2**20
"""A file whose tiles decode to more is refused: a kilobyte on the wire could ask for gigabytes of memory."""

MAX_BANDS = 4096

_QUERY = re.compile(r"\?[^\s'\"]+")

_TRANSIENT = re.compile(
    r"(?:HTTP(?: error| response)?(?: code)?\s*:?\s*)(?:429|5\d\d)|timed? ?out|too slow|could ?n.t (?:resolve|connect)"
    r"|could not (?:resolve|connect)|failed to connect|connection (?:was )?(?:reset|refused|died)|recv failure",
    re.IGNORECASE,
)

# a file without georeference is refused below with a better text; simplefilter as no filter is thread-safe later
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


def using(spec: BandSpec, action: Callable[[rasterio.DatasetReader], T]) -> T:
    """``action`` on the opened and checked file of ``spec``; a transient failure is tried again with backoff.

    Raises InputError for an href that is not allowed, TransientError when a server still fails after
    ``settings().retries`` tries, DataError for everything that trying again does not mend.
    """
    started, tries = time.monotonic(), settings().retries + 1
    fresh = False
    for attempt in range(tries):
        root = Path(spec.root) if spec.root else None
        path = gdal_path(sign(spec, fresh=fresh), remote=spec.remote, root=root)
        try:
            with rasterio.Env(**_options(path, retry=attempt > 0)), open_path(path) as dataset:
                _check(dataset, spec)
                return action(dataset)
        except (RasterioError, OSError, ValueError, MemoryError) as err:
            if isinstance(err, GeomlError):
                raise
            failure, again = _explain(err, spec, path)
            fresh = spec.sign is not None and isinstance(failure, DataError)
            spent = time.monotonic() - started > 4 * settings().timeout  # a server that hangs ends here
            if attempt + 1 == tries or spent or not again:
                raise failure from err
            time.sleep(min(0.5 * 2**attempt, 30.0) * random.uniform(0.5, 1.0))
    raise AssertionError("unreachable")


def open_path(path: str, overview: int | None = None) -> rasterio.DatasetReader:
    """The file with the one driver of its kind; a VRT under the name of a TIFF is not opened. Call inside an Env."""
    driver = "JP2OpenJPEG" if path.split("?")[0].lower().endswith(".jp2") else "GTiff"
    extra = {} if overview is None else {"overview_level": overview}
    return rasterio.open(path, driver=driver, sharing=False, **extra)


def _options(path: str, *, retry: bool) -> dict[str, object]:
    """GDAL's configuration for one read. ``NUM_THREADS`` stays away: over HTTP it turns failures into zeros."""
    chosen = settings()
    options: dict[str, object] = {
        "GDAL_CACHEMAX": chosen.cache_bytes,  # bytes here, megabytes as an environment variable
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_CONNECTTIMEOUT": min(chosen.timeout, 15.0),
        "GDAL_HTTP_TIMEOUT": chosen.timeout,
        "GDAL_HTTP_LOW_SPEED_TIME": chosen.timeout,
        "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
        "GDAL_HTTP_MAX_RETRY": min(chosen.retries, 1),  # the others are ours: they sign again and end in time
        "GDAL_HTTP_RETRY_DELAY": 0.5,
        "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": True,
        "GDAL_HTTP_MULTIPLEX": True,
        "GDAL_HTTP_VERSION": "2TLS",
        "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
        "VSI_CACHE": False,  # whole tiles are asked for once; a second copy of the bytes buys nothing
    }
    if retry and path.startswith("/vsi"):
        options["CPL_VSIL_CURL_NON_CACHED"] = path  # GDAL remembers failures too
    return options


def _check(dataset: rasterio.DatasetReader, spec: BandSpec) -> None:
    """Raises DataError when the header alone says that this file cannot or must not be read."""
    where = label(spec)
    if dataset.width * dataset.height > settings().max_pixels or dataset.count > MAX_BANDS:
        size = f"{dataset.width} x {dataset.height} x {dataset.count}"
        raise DataError(f"{where}: declares {size}, more than GEOML_MAX_PIXELS or {MAX_BANDS} bands")
    height, width = dataset.block_shapes[0]
    planes = dataset.count if str(dataset.profile.get("interleave", "")).lower() == "pixel" else 1
    if (block := height * width * planes * np.dtype(dataset.dtypes[0]).itemsize) > MAX_BLOCK_BYTES:
        raise DataError(f"{where}: one tile of it decodes to {block} bytes; at most {MAX_BLOCK_BYTES} are read")
    if not 1 <= spec.index <= dataset.count:
        raise DataError(f"{where}: band {spec.index} of {spec.name!r} is not there; the file has {dataset.count}")
    if any(np.dtype(d).kind == "c" for d in dataset.dtypes):
        raise DataError(f"{where}: complex numbers; expected integers or floats")
    transform = dataset.transform
    if dataset.crs is None or transform == Affine.identity():
        raise DataError(f"{where}: no georeference (CRS and transform) in the file")
    if transform.b or transform.d or transform.a <= 0 or not transform.e:
        raise DataError(
            f"{where}: a rotated, sheared or mirrored grid {tuple(transform)[:6]}; expected north or south up"
        )


def label(spec: BandSpec) -> str:
    """How errors name a file: item, asset and href without secrets."""
    return f"item {spec.item}, asset {spec.asset} ({redact(spec.href)})"


def _explain(err: BaseException, spec: BandSpec, path: str) -> tuple[GeomlError, bool]:
    """(the error to raise, whether trying again may help) for what rasterio raised on ``path``."""
    text = _clean(_chain(err))
    where = label(spec)
    if isinstance(err, MemoryError):
        return DataError(f"{where}: not enough memory ({text})"), False
    if path.startswith("/vsi") and _TRANSIENT.search(text):
        return TransientError(f"{where}: {text}"), True
    status, head = _peek(path)
    if status is not None and (status == 429 or status >= 500):
        return TransientError(f"{where}: HTTP {status} ({text})"), True
    if status is not None and status == 0:
        return TransientError(f"{where}: no answer ({text})"), True
    if status is not None and status >= 400:
        expired = status in (401, 403) and spec.sign is not None  # a fresh signature may be all it needs
        return DataError(f"{where}: HTTP {status} ({text})"), expired
    if head is not None and not _is_raster(head):
        return DataError(f"{where}: not a TIFF, it starts with {head[:40]!r}"), False
    return DataError(f"{where}: {text}"), path.startswith("/vsi")  # a body cut short reads well the next time


def _clean(text: str) -> str:
    """Without queries, which may sign: GDAL repeats them after a bare file name, too."""
    return _QUERY.sub("", redact(text))


class _Redacted(logging.Filter):
    """rasterio logs what GDAL says, with whole URLs; this takes the secrets out of them."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _clean(record.getMessage()), ()
        return True


for _name in ("rasterio._env", "rasterio._err", "rasterio._base", "rasterio._io", "rasterio.env"):
    logging.getLogger(_name).addFilter(_Redacted())


def _chain(err: BaseException | None) -> str:
    """The message with its causes: rasterio's own says only 'see previous exception'."""
    parts: list[str] = []
    while err is not None and len(parts) < 5:
        text = str(err).strip()
        if text and not any(text in p for p in parts) and "previous exception" not in text:
            parts.append(text)
        err = err.__cause__ or err.__context__
    return "; ".join(parts) or "read failed"


def _peek(path: str) -> tuple[int | None, bytes | None]:
    """(HTTP status or None, first bytes or None) of a path that would not open; status 0 when no server answers."""
    if path.startswith("/vsicurl/"):
        try:
            with requests.get(
                path.removeprefix("/vsicurl/"),
                headers={"Range": "bytes=0-63"},
                timeout=min(settings().timeout, 15.0),
                stream=True,
                allow_redirects=False,
            ) as answer:
                head = next(answer.iter_content(64), b"") if answer.ok and not answer.is_redirect else None
                return answer.status_code, head
        except requests.RequestException:
            return 0, None
    if path.startswith("/vsi"):
        return None, None
    try:
        with Path(path).open("rb") as file:
            return None, file.read(64)
    except OSError:
        return None, None


def _is_raster(head: bytes) -> bool:
    jp2 = b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51"
    return head.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+", *jp2))
