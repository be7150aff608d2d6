"""One item as others write it, brought into the shape that the rest relies on; whatever pystac reads is accepted.

Afterwards an item has a text for an id, times with a zone, a geometry, assets with hrefs as texts, and no text that is
no Unicode. An item that cannot be placed in time or space raises DataError, and whoever searches leaves it out.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import pystac
import shapely
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError, InputError
from geoml.grid.region import from_bbox, from_geometry
from geoml.io.stac.times import normalise_times
from geoml.io.stores.hrefs import LONGEST
from geoml.redacted import bare
from geoml.texts import short

Document = dict[str, Any]
"""A STAC document as JSON: an item, a collection, a catalog."""


def check_structure(value: Document) -> None:
    """Raises DataError unless the parts of an item have the types that STAC gives them."""
    name = value.get("id")
    if not isinstance(name, str) or not name:
        raise DataError(f"item {str(name)[:60]!r}: its id is not text")
    for key, kind, needed in (("properties", dict, True), ("assets", dict, False), ("links", list, False)):
        if not isinstance(value.get(key), kind) and (needed or value.get(key) is not None):
            raise DataError(f"item {name[:200]!r}: {key} is {type(value.get(key)).__name__}; expected {kind.__name__}")
    if not isinstance(value.get("collection"), str | None):
        raise DataError(f"item {name[:200]!r}: collection is {str(value['collection'])[:60]!r}; expected a text")
    for key, asset in (value.get("assets") or {}).items():
        if not isinstance(asset, dict) or not isinstance(asset.get("href"), str):
            raise DataError(f"item {name[:200]!r}: not a STAC item (asset {key[:60]!r} has no href)")
    if why := too_long(value):
        raise DataError(f"item {short(name, 60)!r}: {why}")


def too_long(value: Mapping[str, Any]) -> str | None:
    """Which text of an item is longer than any honest one, with its length; None if all of them are short."""
    links = value["links"] if isinstance(value.get("links"), list) else []
    texts: list[tuple[str, object]] = [("its id", value.get("id")), ("its collection", value.get("collection"))]
    for key, asset in (value.get("assets") or {}).items():
        href = asset.get("href") if isinstance(asset, dict) else None
        texts += [("the key of an asset", key), (f"the href of the asset {short(key, 60)!r}", href)]
    texts += [("the href of a link", k.get("href")) for k in links if isinstance(k, dict)]
    for what, text in texts:
        if isinstance(text, str) and len(text) > LONGEST:
            return f"{what} has {len(text)} characters; expected at most {LONGEST}"
    return None


def unsign(value: Document) -> None:
    """Make the hrefs of an item such as outputs may keep: of its links, its assets and their ``alternate`` ones."""
    for part in (*value.get("links", ()), *value["assets"].values()):
        part["href"] = bare(str(part["href"]))
        if isinstance(others := part.get("alternate"), dict):
            part["alternate"] = {
                key: {**other, "href": bare(str(other["href"]))}
                if isinstance(other, dict) and "href" in other
                else other
                for key, other in others.items()
            }


def normalise(value: Document) -> list[str]:
    """Fill in what older items lack, and write times as the specification has them; notes on odd times come back.

    Raises DataError, naming the item, when it cannot be placed in time.
    """
    value["assets"] = value.get("assets") or {}
    for key, usual in (("type", "Feature"), ("stac_version", "1.0.0")):  # bare GeoJSON that is an item all the same
        value[key] = value.get(key) or usual
    if not isinstance(value.get("stac_extensions"), list):
        value["stac_extensions"] = []
    try:
        return normalise_times(value["properties"])
    except ValueError as err:
        raise DataError(f"item {value.get('id')}: {err}") from err


def footprint(value: Document) -> BaseGeometry:
    """Where an item is, in degrees: its geometry; that of its bbox where it is null, which then becomes its geometry.

    Raises DataError, naming the item, when it has neither, or an invalid geometry.
    """
    geometry = value.get("geometry")
    empty = isinstance(geometry, dict) and geometry.get("coordinates") in ([], ())  # RFC 7946, section 3.1
    if geometry is None or empty:
        if (box := _box(value.get("bbox"))) is None:
            raise DataError(f"item {value.get('id')}: no geometry and no bbox; expected its footprint as GeoJSON")
        value["geometry"] = mapping(box.geoms[0] if len(box.geoms) == 1 else box)
        return box
    try:
        return _shape(geometry)
    except InputError as err:
        why = str(err).removeprefix("region: ")[:200]
        raise DataError(f"item {value.get('id')}: geometry is not GeoJSON in degrees ({why})") from err


def _shape(geometry: object) -> BaseGeometry:
    if not isinstance(geometry, dict):
        raise InputError("region: no geometry")
    try:
        if geometry.get("type") in ("Polygon", "MultiPolygon"):
            outline: BaseGeometry = from_geometry(geometry)
        else:
            outline = shapely.make_valid(shapely.force_2d(shape(geometry)))
        inside = bool((abs(shapely.get_coordinates(outline)) <= (540.0, 90.0)).all())
    except InputError:
        raise
    except Exception as err:  # shapely raises many kinds
        raise InputError(f"region: {err}") from err
    if not inside or outline.is_empty:
        raise InputError("region: coordinates are out of range, or there are none")
    return outline


def _box(bbox: Any) -> shapely.MultiPolygon | None:
    """The polygon of a bbox of four or six numbers; None if it is none."""
    try:
        numbers = [float(v) for v in bbox]
        west, south, east, north = numbers if len(numbers) == 4 else (*numbers[:2], *numbers[3:5])
        return from_bbox(west, south, east, north) if len(numbers) in (4, 6) else None
    except (TypeError, ValueError, OverflowError):  # InputError is a ValueError
        return None


def to_item(value: Document) -> pystac.Item:
    """The item as pystac has it. Raises DataError for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an item is deprecated is for its reader to judge
            return pystac.Item.from_dict(value, preserve_dict=False)  # migration copies it
    except Exception as err:  # pystac raises many kinds for malformed items
        why = f"{type(err).__name__}: {err}"[:300]
        raise DataError(f"item {value.get('id')!r}: not a STAC item ({why})") from err


def unicode_only(value: object) -> object:
    """``value`` with unpaired surrogates, which no file can hold, replaced in all its texts."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {unicode_only(k): unicode_only(v) for k, v in value.items()}
    return [unicode_only(v) for v in value] if isinstance(value, list) else value
