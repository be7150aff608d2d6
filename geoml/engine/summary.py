"""A finished run as some lines of Markdown, for places that show no page: verdict, areas of classes, one picture."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from geoml.engine.task import Task
from geoml.errors import GeomlError
from geoml.io.cards.domain import described
from geoml.io.report.counts import COUNTS
from geoml.io.report.page import area
from geoml.io.stores.remote import RunStore, run_store
from geoml.io.stores.store import read_small
from geoml.settings import settings
from geoml.texts import percent, plain, short

WIDE = 480
"""Pixels of the longer side of the picture."""
HEAVY = 100_000
"""Bytes of a picture from which on it is left out."""
LARGEST = 64 * 2**20
"""Bytes of a page that is looked at for its picture, and of the contents of ``run.json``."""
_PICTURE = re.compile(rb'<img [^>]*?src="data:image/png;base64,([A-Za-z0-9+/=]+)"[^>]*?alt="([^"]*)"')
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!~])|(?<=\w)(:)(?=//)")
MOST = 10
"""Lines of a list; how many more there are is said."""


def public_url(out: str, name: str = "") -> str | None:
    """Where people find a file of the run in ``out``, by the setting ``public_url``; None if it does not say so."""
    root, given, base = (settings().public_url or "").partition("=")
    place = out.rstrip("/")
    inside = place == root.rstrip("/") or place.startswith(f"{root.rstrip('/')}/")
    if not given or not inside:
        return None
    return "/".join(part for part in (base.rstrip("/"), place[len(root.rstrip("/")) :].strip("/"), name) if part)


def of_run(out: str) -> str | None:
    """The run in ``out`` as Markdown, for its holder; None if nothing of it was collected yet."""
    store = run_store(out)
    store.pull("run.json", "items.parquet", "report.html", "model.json")
    said = read_small(store.local / "run.json", LARGEST)
    return markdown(store, json.loads(said)) if said else None


def markdown(store: RunStore, run: Mapping[str, Any]) -> str:
    """A run, which says ``run`` in its ``run.json``, as Markdown of bounded length."""
    failed, done = len(run["blocks"]["failed"]), len(run["blocks"]["done"])
    verdict = "All blocks are done" if not failed else f"{failed} of {done + failed} blocks failed"
    lines = [
        f"## {escaped(run['title'])}",
        "",
        f"**{verdict}.** {escaped(percent(run['valid_percent'] / 100))} of the region has data.",
    ]
    if words := described(run):
        lines += ["", f"{words[:1].upper()}{escaped(words[1:])}."]
    lines += ["", *_first([f"Warning: {escaped(warning)}" for warning in run.get("warnings") or ()])]
    lines += _first([f"{key} failed: {escaped(why)}" for key, why in run["blocks"]["failed"].items()])
    if rows := _areas(store):
        total = sum(rows.values()) or 1.0
        lines += ["", "| class | area | share |", "|---|---:|---:|"]
        lines += [
            f"| {escaped(name)} | {area(size)} | {escaped(percent(size / total))} |" for name, size in rows.items()
        ]
    lines += ["", *_picture(store)]
    link = public_url(store.url, "report.html")
    lines += ["", f"[Report]({link})" if link else f"Report: {escaped(store.url)}/report.html"]
    return "\n".join(lines)


def scores_markdown(task: type[Task], scores: Mapping[str, Any]) -> str:
    """Scores of a task as its tables and sentences."""
    lines: list[str] = []
    for part in task.table(scores):
        if isinstance(part, str):
            lines += ["", escaped(part)]
            continue
        rows = (part.columns, ["---"] * len(part.columns), *part.rows)
        lines += ["", f"### {escaped(part.title)}", ""]
        lines += [f"| {' | '.join(map(escaped, row))} |" for row in rows]
    return "\n".join(lines)


KINDS = ("new", "reprocessed", "moved", "withdrawn")
DAYS = 60
"""Days of a digest; the tables of the series have all of them."""


def digest(out: str, rows: Sequence[Mapping[str, Any]], failed: Mapping[str, object]) -> str:
    """What one night of a monitor in ``out`` changed, by day: items that changed (``rows``) and days that failed."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[str(row["day"])][str(row["change"])] += 1
    total = Counter(str(row["change"]) for row in rows)
    said = ", ".join(f"{total[kind]} {kind}" for kind in KINDS if total[kind]) or "nothing new"
    lines = [f"## What changed: {said}", "", f"| day | {' | '.join(KINDS)} | report |", "|---|---:|---:|---:|---:|---|"]
    for day in sorted({*counts, *failed}, reverse=True)[:DAYS]:
        link = public_url(out, f"days/{day}/report.html")
        shown = "failed" if day in failed else f"[open]({link})" if link else f"days/{day}/report.html"
        lines.append(f"| {day} | {' | '.join(str(counts[day][kind] or '') for kind in KINDS)} | {shown} |")
    if (more := len({*counts, *failed}) - DAYS) > 0:
        lines += ["", f"… and {more} earlier days, which the tables of the series have."]
    lines += ["", *_first([f"{day} failed: {escaped(why)}" for day, why in failed.items()])]
    return "\n".join(lines)


def escaped(text: object) -> str:
    """Untrusted text, such as a name in a card, as Markdown shows it and does not read it."""
    return _MARKUP.sub(r"\\\g<0>", short(plain(text)))


def _first(words: Sequence[str]) -> list[str]:
    """The first as items of a list, and how many more there are."""
    more = len(words) - MOST
    return [*(f"- {word}" for word in words[:MOST]), *([f"- … and {more} more"] if more > 0 else [])]


def class_areas(items: Path) -> dict[int, float]:
    """m² of each class of a map by its value, as the blocks of ``items.parquet`` counted them.

    Empty for a run without classes, one from before they were counted, and a table that cannot be read.
    """
    sums: defaultdict[int, float] = defaultdict(float)
    try:
        with pq.ParquetFile(items) as file:
            for batch in file.iter_batches(4096, columns=[COUNTS]):
                for counted in batch.column(0).to_pylist():
                    for value, size in zip(counted["classes"]["values"], counted["classes"]["area"], strict=True):
                        sums[value] += size
    except (OSError, pa.ArrowException, LookupError, TypeError, ValueError):
        return {}
    return dict(sums)


def _areas(store: RunStore) -> dict[str, float]:
    """m² of each class by name, the largest first."""
    from geoml.engine.packages import cards

    sums = class_areas(store.local / "items.parquet")
    try:
        names = {c.value: c.name for c in getattr(cards.read_any(store.local), "classes", ())} if sums else {}
    except GeomlError:
        names = {}
    return {names.get(v, f"value {v}"): size for v, size in sorted(sums.items(), key=lambda one: -one[1])}


def _picture(store: RunStore) -> list[str]:
    """The map that the report begins with, small."""
    try:
        found = _PICTURE.findall(read_small(store.local / "report.html", LARGEST) or b"")
    except GeomlError:  # a larger one; the summary goes without
        return []
    if not found:
        return []
    coded, said = found[min(1, len(found) - 1)]  # the first shows what the model saw, the second what it made of it
    try:
        with Image.open(io.BytesIO(base64.b64decode(coded))) as picture:
            small = picture.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError):
        return []
    small.thumbnail((WIDE, WIDE), Image.Resampling.NEAREST)
    packed = io.BytesIO()
    small.quantize(128).save(packed, "PNG", optimize=True)
    if packed.tell() > HEAVY:
        return []
    text = escaped(html.unescape(said.decode(errors="replace")))
    return [f"![{text}](data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()})"]
