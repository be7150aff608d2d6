"""Numbers of bands in the file NAME.aux.xml that GDAL and ArcGIS write beside a raster they cannot or may not change.

Files are opened without what lies beside them: GDAL would open it with any of its drivers. So the few numbers that
decide pixels are read here, of files on this machine; nothing beside a file elsewhere is asked for.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import rasterio

from geoml.errors import DataError

MOST = 16 * 2**20
"""Bytes; statistics and colours of many bands are some KiB."""


@dataclass(frozen=True)
class PamBand:
    """What the file says of a band; ``nodata`` is None if it says none."""

    nodata: float | None = None
    scale: float = 1.0
    offset: float = 0.0


def pam_bands(dataset: rasterio.DatasetReader, where: str) -> dict[int, PamBand]:
    """By band, from 1; empty without such a file. Raises DataError, naming ``where``, for one that cannot be read."""
    if "://" in dataset.name or dataset.name.startswith("/vsi"):
        return {}
    path = Path(f"{dataset.name}.aux.xml")
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return {}
    try:
        return _read(path, stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError, LookupError, ElementTree.ParseError) as err:
        raise DataError(f"{where}: {path.name} beside it cannot be read ({err})") from err


@lru_cache(maxsize=1024)
def _read(path: Path, mtime: int, size: int) -> dict[int, PamBand]:
    text = path.read_bytes() if size <= MOST else b""
    if not text or b"\0" in text or b"<!" in text.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        raise ValueError(f"expected at most {MOST} bytes of XML without declarations")  # so there are no entities
    bands = {}
    for band in ElementTree.fromstring(text).iter("PAMRasterBand"):
        number = _number(band.get("band"))
        if number is not None and number.is_integer():
            nodata, scale, offset = (_number(band.findtext(k)) for k in ("NoDataValue", "Scale", "Offset"))
            bands[int(number)] = PamBand(nodata, 1.0 if scale is None else scale, offset or 0.0)
    return bands


def _number(text: str | None) -> float | None:
    with suppress(ValueError):
        if text is not None and not math.isnan(value := float(text)):
            return value
    return None
