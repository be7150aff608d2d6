"""The state of a run, read from its folder: while it is running, after it ended, and after it died."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from geoml.engine.run.plan import LARGEST_BLOCKS, STATE, plan_of
from geoml.errors import InputError
from geoml.io.stores.lock import Holder
from geoml.io.stores.remote import RunStore, run_store

AT_ONCE = 16
"""Items that are read at the same time; in an object store each is a request."""


@dataclass(frozen=True)
class RunState:
    """A run at one moment. Times are RFC 3339 in UTC, None if they are not known.

    ``status`` is one of ``running`` (somebody holds its lock), ``died`` (somebody did, and is no more), ``finished``
    (every block is done and the outputs are written), ``failed`` (it came to its end with failed blocks) and
    ``stopped`` (neither: give the command again to go on).
    """

    out: str
    status: str
    planned: int
    done: int
    failed: Mapping[str, str] = field(default_factory=dict)
    """Why, by block."""
    holder: Mapping[str, str | int] | None = None
    """Host, pid, start and last sign of life of who works on it, or died."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage, added up over processes and over the times that the run was resumed; without those that died."""
    bytes: Mapping[str, int] = field(default_factory=dict)
    started: str | None = None
    updated: str | None = None
    reason: str | None = None
    """Why it cannot be read: of a status ``damaged``, which only a list of several runs has."""

    @property
    def left(self) -> int:
        """Blocks that are neither done nor failed."""
        return self.planned - self.done - len(self.failed)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "left": self.left}


def state(out: str | Path) -> RunState:
    """How the run in ``out`` (folder or URL) stands. Changes nothing there.

    Raises InputError if there is no run, TransientError and DataError if the place cannot be read.
    """
    store = run_store(out)
    holder = store.holder()
    # the holder first: what a run publishes while its state is read may only make it look further on
    raw = store.read(f"{STATE}/plan.json")
    if raw is None:
        if holder is None:
            raise InputError(f"out: {out} contains no run; expected a folder that geoml predict wrote")
        status = "running" if holder.alive else "died"
        return RunState(store.url, status, 0, 0, holder=_public(holder), started=holder.started, updated=holder.renewed)
    name = f"{STATE}/plan.json"
    plan = plan_of(raw, f"{store.url}/{name}", lambda n: store.read(n, LARGEST_BLOCKS), store.local / "sources.parquet")
    blocks = dict(zip(plan.by_id(), plan.blocks.hashes, strict=True))
    names = store.sizes("items/", f"{STATE}/failed/")
    with ThreadPoolExecutor(AT_ONCE, "geoml-state") as pool:
        hashes = pool.map(lambda key: _done(store, names, key, blocks[key]), blocks)
        done = {key for key, good in zip(blocks, hashes, strict=True) if good}
        noted = [key for key in blocks if key not in done and f"{STATE}/failed/{key}.json" in names]
        reasons = pool.map(lambda key: _json(store, f"{STATE}/failed/{key}.json").get("message"), noted)
        failed = {key: str(why) for key, why in zip(noted, reasons, strict=True)}
    run = _json(store, "run.json")
    summary = run.get("blocks")
    listed = summary.get("done") if isinstance(summary, dict) else None
    if holder is not None:
        status = "running" if holder.alive else "died"
    elif len(done) == len(blocks) == len(listed if isinstance(listed, list) else ()):
        status = "finished"
    else:
        status = "failed" if failed and len(done) + len(failed) == len(blocks) else "stopped"
    first, last = _times(store)
    return RunState(
        out=store.url,
        status=status,
        planned=len(blocks),
        done=len(done),
        failed=failed,
        holder=_public(holder),
        seconds=_numbers(run.get("seconds")),
        bytes=_numbers(run.get("bytes")),
        started=first or (holder.started if holder else None),
        updated=holder.renewed if holder and holder.alive else last,
    )


def _public(holder: Holder | None) -> dict[str, str | int] | None:
    if holder is None:
        return None
    return {"host": holder.host, "pid": holder.pid, "started": holder.started, "renewed": holder.renewed}


def _done(store: RunStore, names: Mapping[str, int], key: str, recipe_hash: str) -> bool:
    name = f"items/{key}.json"
    if name not in names:
        return False
    properties = _json(store, name).get("properties")
    return isinstance(properties, dict) and properties.get("geoml:recipe_hash") == recipe_hash


def _json(store: RunStore, name: str) -> dict[str, JsonValue]:
    """A published JSON object; empty when it is not there or damaged."""
    try:
        value = json.loads(store.read(name) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _numbers(value: JsonValue) -> dict[str, Any]:
    """The finite numbers of a mapping; empty for another value."""
    if not isinstance(value, dict):
        return {}
    return {k: v for k, v in value.items() if isinstance(v, int | float) and math.isfinite(v)}


def _times(store: RunStore) -> tuple[str | None, str | None]:
    """When the run was planned first and changed last, by the files of a run on this machine."""
    if store.remote:
        return None, None
    places = [f"{STATE}/plan.json", f"{STATE}/failed", "items", "run.json"]
    times = [p.stat().st_mtime for name in places if (p := store.local / name).exists()]
    card = store.local / "model.json"  # written once, before the first plan
    first = [card.stat().st_mtime] if card.exists() else []
    return _utc(min(first + times, default=None)), _utc(max(times, default=None))


def _utc(seconds: float | None) -> str | None:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds") if seconds else None
