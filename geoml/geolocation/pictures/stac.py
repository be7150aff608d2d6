"""Pictures of STAC items: the asset that shows what the item holds, with the item's place and time."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from geoml.errors import DataError, InputError
from geoml.geolocation.pictures.listed import Reference
from geoml.grid import sphere
from geoml.io.stac.assets import lowercase_words
from geoml.io.stac.item import too_long
from geoml.io.stac.table import read_dicts
from geoml.io.stac.times import instant
from geoml.io.stores.hrefs import gdal_path
from geoml.texts import short

ASSETS = ("thumbnail", "visual", "rendered_preview")
"""Keys of assets, the first that is there counts; then one with the role ``thumbnail``, ``overview`` or ``visual``."""

_TYPES = ("image/jpeg", "image/png", "image/webp", "image/tiff", "image/gif")
MAX_BYTES = 2**30


def is_items(schema: pa.Schema) -> bool:
    """Whether a Parquet file is stac-geoparquet."""
    return {"assets", "id", "bbox"} <= set(schema.names)


def from_items(path: Path) -> Iterator[Reference]:
    """A reference for each item of a file; hrefs stay in its folder or are URLs. Raises InputError for another file."""
    if path.suffix.lower() in (".parquet", ".geoparquet"):
        try:
            values: list[Any] = read_dicts(path)
        except DataError as err:
            raise InputError(f"pictures: {err}") from err
    else:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise InputError(f"pictures: {str(path)!r} is larger than {MAX_BYTES} bytes")
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as err:
            raise InputError(f"pictures: {str(path)!r} cannot be read as JSON ({err})") from err
        values = value.get("features", []) if isinstance(value, dict) and "features" in value else [value]
    if not isinstance(values, list) or not all(
        isinstance(v, dict) and isinstance(v.get("assets"), dict) for v in values
    ):
        raise InputError(f"pictures: {str(path)!r}; expected a STAC Item, an ItemCollection or stac-geoparquet")
    for value in values:
        yield _reference(value, path)


def _reference(item: Mapping[str, Any], path: Path) -> Reference:
    label = str(item.get("id") or path.name)
    if why := too_long(item):
        return Reference(short(label), "", refused=f"item {short(label, 60)}: {why}", source=str(path))
    properties = item["properties"] if isinstance(item.get("properties"), dict) else {}
    words = [str(properties[k]) for k in ("title", "description") if properties.get(k)]
    time, text = _time(properties.get("datetime")), ". ".join(words) or None
    reference = Reference(label, "", *_middle(item.get("bbox")), time, text, source=str(path))
    href = _href(item["assets"])
    if href is None:
        return replace(reference, refused=f"item {label} has no picture among its assets")
    try:
        return replace(reference, href=gdal_path(href, remote="://" in href, root=path.parent))
    except InputError as err:
        return replace(reference, refused=f"item {label}: {err}")


def _href(assets: Mapping[str, Any]) -> str | None:
    def usable(asset: Any) -> bool:
        kind = str(asset.get("type") or "image/jpeg") if isinstance(asset, dict) else ""
        return kind.partition(";")[0].strip().lower() in _TYPES and isinstance(asset.get("href"), str)

    raster = {k: a for k, a in assets.items() if usable(a)}
    shows = [k for k, a in raster.items() if {"thumbnail", "overview", "visual"} & lowercase_words(a.get("roles"))]
    key = next((k for k in (*ASSETS, *shows) if k in raster), None)
    return None if key is None else str(raster[key]["href"])


def _middle(bbox: object) -> tuple[float | None, float | None]:
    if not isinstance(bbox, list | tuple) or len(bbox) not in (4, 6):
        return None, None
    try:
        half = len(bbox) // 2
        west, south, east, north = (float(bbox[k]) for k in (0, 1, half, half + 1))
    except (TypeError, ValueError, OverflowError):
        return None, None
    if not (-90 <= south <= north <= 90 and abs(west) <= 360 and abs(east) <= 360):
        return None, None
    return float(sphere.wrap(west + (east - west) % 360 / 2)), (south + north) / 2


def _time(value: object) -> dt.datetime | None:
    with suppress(ValueError):
        return None if str(value).isdigit() else instant(str(value))
    return None
