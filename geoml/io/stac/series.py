"""A series of runs, one a day, as one collection: its documents. What changed: `geoml.io.stac.series_changes`.

``collection.json`` has a child for each month, ``months/2024-06.json``, and that one for each of its days,
``days/2024-06-01/collection.json``. So a night writes one month and the top, whatever the age of the series.
"""

from __future__ import annotations

import datetime as dt
import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pystac

from geoml.errors import DataError
from geoml.io.stac.items import PARQUET, united, write_collection
from geoml.io.stores.remote import RunStore
from geoml.io.stores.store import read_small, sha256, write_json

DAYS = "days"
"""Folder of a series that holds the runs, each named by its day."""

MONTHS = "months"
"""Folder of a series that holds a collection for each month."""

ENTRIES = "geoml:days"
"""Field of the collection of a month: an `Entry` for each of its days."""

DIGESTS = "geoml:months"
"""Field of the collection of a series: SHA-256 of the collection of each month."""


class Entry(TypedDict):
    """What a series knows of one of its days."""

    sha256: str
    """Of the day's ``collection.json``."""
    bbox: list[float]
    interval: list[str]
    summaries: dict[str, list[str | float]]
    items: dict[str, str]
    """Version of each item that the day was made of, by id."""


def item_of_day(item: pystac.Item, day: str) -> pystac.Item:
    """An item of a day's ``items.parquet`` with hrefs as seen from the folder of the series."""
    copy = item.clone()
    copy.remove_links("self")
    for asset in copy.assets.values():
        asset.href = _below(asset.href, day)
    for link in copy.links:
        link.target = _below(str(link.target), day)
    return copy


def _below(href: str, day: str) -> str:
    if not href.startswith("./"):
        return href
    path = posixpath.normpath(f"{DAYS}/{day}/{href}")
    return path if path.startswith("..") else f"./{path}"


def read_series(path: Path) -> dict[str, Any]:
    """A JSON object of a series; empty if there is none. Raises DataError for a damaged one."""
    try:
        if (body := read_small(path)) is None:
            return {}
        value = json.loads(body)
    except (ValueError, RecursionError) as err:
        raise DataError(f"{path}: not readable ({err}); delete it, and look back over its days") from err
    if not isinstance(value, dict):
        raise DataError(f"{path}: not a JSON object; delete it, and look back over its days")
    return value


def read_entries(store: RunStore) -> tuple[dict[str, Entry], bool]:
    """What the series holds, by day; and whether its collection is that of its months, as after a whole night.

    Raises DataError for a document that is damaged.
    """
    store.pull("collection.json", f"{MONTHS}/")
    entries: dict[str, Entry] = {}
    digests = {}
    for path in sorted((store.local / MONTHS).glob("*.json")):
        days = read_series(path).get(ENTRIES)
        if not isinstance(days, dict) or not all(is_day(d) and _is_entry(e) for d, e in days.items()):
            raise DataError(f"{path}: not a month of a series; delete it, and look back over its days")
        entries |= days
        digests[path.stem] = sha256(path)
    return dict(sorted(entries.items())), read_series(store.local / "collection.json").get(DIGESTS) == digests


def is_day(text: str) -> bool:
    """True for an ISO date, which is the name of a folder of `DAYS` and leads nowhere else."""
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_entry(value: object) -> bool:
    return isinstance(value, dict) and value.keys() >= Entry.__annotations__.keys() and isinstance(value["items"], dict)


def day_entry(path: Path, items: Mapping[str, str]) -> Entry:
    """What a series keeps of a day whose collection is ``path``; ``items`` are versions by id. Raises DataError."""
    value = read_series(path)
    try:
        return {
            "sha256": sha256(path),
            "bbox": value["extent"]["spatial"]["bbox"][0],
            "interval": value["extent"]["temporal"]["interval"][0],
            "summaries": value.get("summaries", {}),
            "items": dict(sorted(items.items())),
        }
    except (LookupError, TypeError) as err:
        raise DataError(f"{path}: not the collection of a day ({err!r})") from err


def write_series(
    store: RunStore,
    entries: Mapping[str, Entry],
    months: Iterable[str],
    *,
    id: str,
    title: str,
    files: Mapping[str, str],
    last: Path,
) -> None:
    """Write and publish the collections of ``months`` (those of all days with no file too), then that of the series.

    ``files`` are the titles of the tables by name, ``last`` is the collection of a day, of which all take what days
    have in common. Raises DataError.
    """
    like, digests = read_series(last), {}
    by_month: dict[str, dict[str, Entry]] = {}
    for day, entry in entries.items():
        by_month.setdefault(day[:7], {})[day] = entry
    written = {path.stem for path in (store.local / MONTHS).glob("*.json")}
    for month in sorted((by_month.keys() - written) | set(months)):
        name = f"{MONTHS}/{month}.json"
        if month not in by_month:
            store.remove(name)
            continue
        made = _collection(f"{id}-{month}", f"{title}, {month}", by_month[month], like)
        made.extra_fields[ENTRIES] = by_month[month]
        made.add_links([_child(f"../{DAYS}/{day}/collection.json", day) for day in by_month[month]])
        value = made.to_dict(include_self_link=False, transform_hrefs=False)
        above = {"href": "../collection.json", "type": "application/json"}
        links = [link for link in value["links"] if link["rel"] != "root"]
        write_json(store.inside(name), {**value, "links": [{"rel": r, **above} for r in ("root", "parent")] + links})
        store.push(name)
    for month in by_month:
        digests[month] = sha256(store.local / MONTHS / f"{month}.json")
    made = _collection(id, title, entries, like)
    made.extra_fields[DIGESTS] = digests
    for table, about in files.items():
        roles = ["data" if table == "features.parquet" else "metadata"]
        made.add_asset(Path(table).stem, pystac.Asset(f"./{table}", about, media_type=PARQUET, roles=roles))
    made.add_links([_child(f"./{MONTHS}/{month}.json", month) for month in sorted(by_month)])
    write_collection(made, store.inside("collection.json"))
    store.push("collection.json")


def _child(href: str, title: str) -> pystac.Link:
    return pystac.Link("child", href, "application/json", title=title)


def _collection(id: str, title: str, entries: Mapping[str, Entry], like: Mapping[str, Any]) -> pystac.Collection:
    """The collection of some days: their extent and summaries, the rest as that of the day ``like``."""
    try:
        model = pystac.Collection.from_dict(dict(like))
        boxes = [e["bbox"] for e in entries.values()] or [[-180.0, -90.0, 180.0, 90.0]]
        ends = [dt.datetime.fromisoformat(t) for e in entries.values() for t in e["interval"] if t]
        span: list[dt.datetime | None] = [min(ends), max(ends)] if ends else [None, None]
        return pystac.Collection(
            id=id,
            title=title,
            description=f"{title}, one collection for each of {len(entries)} days",
            extent=pystac.Extent(pystac.SpatialExtent([united(boxes)]), pystac.TemporalExtent([span])),
            license=model.license,
            keywords=model.keywords,
            summaries=pystac.Summaries(_summaries([e["summaries"] for e in entries.values()])),
            extra_fields=dict(model.extra_fields),
            stac_extensions=[schema for schema in model.stac_extensions if "/file/" not in schema],  # of single files
        )
    except Exception as err:  # pystac raises many kinds for what is not a collection
        raise DataError(f"{title}: the collection of a day is not readable ({err})") from err


def _summaries(parts: Sequence[Mapping[str, list[str | float]]]) -> dict[str, list[Any]]:
    return {key: sorted({v for p in parts for v in p.get(key, [])}) for key in (parts[-1] if parts else ())}


def now() -> dt.datetime:
    """This moment, to the second."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)
