"""Where pictures were taken: sources and a locator in, one GeoParquet file out, a row for each picture.

Pictures are read in threads and go through the backbone in batches and through the head in parts of `PART`, whose rows
are kept in ``OUT.run/parts`` by checksums of all that went into them: the picture, the model with its calibration, the
options, and of the list only what the options use. A run that was killed goes on after its last part; a second one
reads pictures to see that they are the same and computes nothing.

The file is put together from the parts in the order of the sources. Parts are cut by that order and never by time,
batches have one size, and no column tells when or where it was computed (``created`` stays empty; ``OUT.run/run.json``
has the times), so the file is the same to the last byte however often the run was stopped. In a list that has changed,
rows that were there stay, and new ones may differ in their last digits from a run without them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import platform
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.engine import answers
from geoml.engine.answers import Row, Writer, rounding
from geoml.engine.beside import Beside
from geoml.engine.locator import Locator
from geoml.engine.pictures import Pixels, Ready, in_order
from geoml.errors import InputError
from geoml.io import geolocations, lock, photo_lists
from geoml.io.hrefs import redact
from geoml.io.photo_reference import Reference
from geoml.io.row_parts import RowParts
from geoml.io.store import write_json

BATCH = 32
"""Pictures in one pass of the backbone."""
PART = 128
"""Pictures whose rows are written at once: what a kill costs."""
FORMAT = 2
"""Raised when rows are made in another way."""

PACKAGES = ("geoml", "torch", "timm", "numpy", "pillow", "pyarrow")

Progress = Callable[[int], None]
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Options:
    """What changes rows. ``precision``: ``auto`` (photos are rounded to a region of 50 km), ``exact`` or km;
    ``top``: candidates in a row."""

    precision: str = "auto"
    top: int = 5
    beside: Beside = field(default_factory=Beside)

    def __post_init__(self) -> None:
        if not 1 <= self.top <= 50:
            raise InputError(f"top: {self.top}; expected 1 to 50 candidates")
        rounding(self.precision, "photo")


def geolocate(
    sources: Iterable[str | Path],
    locator: Locator,
    out: str | Path,
    options: Options | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a row for each picture of the sources to ``out``; what ``OUT.run/run.json`` says.

    ``progress`` gets the number of rows that are ready. What a picture does is a row with its status and reason.

    Raises NothingFound without a picture, InputError for sources or options that cannot be meant, ModelError for
    answers that are not finite, DataError when ``out`` cannot be written, TransientError when another process works
    on it.
    """
    path, listed = Path(out), [str(s) for s in sources]
    if path.suffix.lower() not in (".parquet", ".geoparquet") or path.is_dir():
        raise InputError(f"out: {str(out)!r}; expected the name of a .parquet file")
    folder = path.with_name(f"{path.name}.run")
    with lock.hold(lock.FileSlot(folder / "lock.json"), str(path)):
        run = _Run(locator, options or Options(), RowParts(folder / "parts"))
        started = dt.datetime.now(dt.UTC)
        geolocations.write(run.rows(photo_lists.pictures(listed), progress), path)
        versions = {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}}
        found = {**run.told(), "versions": versions, "sources": [redact(s) for s in listed], "out": path.name}
        found |= {"started": started.isoformat(), "finished": dt.datetime.now(dt.UTC).isoformat()}
        write_json(folder / "run.json", found)
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """Pictures in order; ``fresh`` are those among them that are computed, with their (N, F) features."""

    pictures: list[Ready]
    fresh: list[Ready]
    features: Features | None


class _Run:
    def __init__(self, locator: Locator, options: Options, parts: RowParts) -> None:
        card, self.locator, self.options, self.parts = locator.card, locator, options, parts
        self.kind, self.size = card.kind, locator.extractor.size
        named = answers.names_are_there()
        round_km = rounding(options.precision, card.kind)
        beside = options.beside
        self.about: dict[str, Any] = {
            "format": FORMAT,
            "model": {"id": card.name, "sha256": card.sha256, "kind": card.kind, "calibration": card.calibration.id},
            "backbone": locator.extractor.tag,
            "precision": {"asked": options.precision, "rounded_to_km": round_km},
            "use": {"what": sorted(beside.use), "sigma_km": beside.sigma_km if "position" in beside.use else None,
                    "heights": beside.heights.sha256 if beside.heights else None},
            "top": options.top,
            "names": named,
        }  # fmt: skip
        self.digest = _digest({**self.about, "calibration": card.calibration.model_dump(mode="json")})
        columns = {"model_id": card.name, "model_sha256": card.sha256 or None, "run_id": self.digest[:16]}
        columns |= {"calibration_id": card.calibration.id or None, "gallery_sha256": locator.gallery_sha256}
        self.writer = Writer(locator, round_km, options.top, named, columns)
        self.counts: Counter[str] = Counter()
        self.computed = 0
        self.seen: set[bytes] = set()

    def told(self) -> dict[str, Any]:
        """What was asked and how it went."""
        total = sum(self.counts.values())
        return {**self.about, "run_id": self.digest[:16], "pictures": total, "computed": self.computed,
                "statuses": dict(sorted(self.counts.items()))}  # fmt: skip

    def rows(self, references: Iterable[Reference], progress: Progress | None) -> Iterator[Row]:
        """Rows in order; the head and what follows work on a part while the backbone sees the next one."""
        waiting: deque[Future[list[Row]]] = deque()
        pictures = in_order(references, self.size, self._key, self.parts)
        with ThreadPoolExecutor(1, "answers") as pool, closing(pictures):
            while (part := self._part(pictures)).pictures:
                waiting.append(pool.submit(self._finish, part))
                if len(waiting) > 1:
                    yield from self._counted(waiting.popleft().result(), progress)
            while waiting:
                yield from self._counted(waiting.popleft().result(), progress)

    def _counted(self, rows: list[Row], progress: Progress | None) -> list[Row]:
        self.counts.update(row["status"] for row in rows)
        if progress:
            progress(len(rows))
        return rows

    def _key(self, reference: Reference, sha256: str) -> bytes:
        told = self.options.beside.told(reference)
        return bytes.fromhex(_digest([self.digest, sha256, told, list(reference.problems)]))

    def _part(self, pictures: Iterator[Ready]) -> _Part:
        """The next pictures, features of those that are new. Which are new does not depend on time, only on order."""
        those: list[Ready] = []
        fresh: list[Ready] = []
        batch: list[Pixels] = []
        found: list[Features] = []
        for picture in islice(pictures, PART):
            if picture.rgb is not None and picture.key is not None and picture.key not in self.seen:
                self.seen.add(picture.key)
                fresh.append(replace(picture, rgb=None))
                batch.append(picture.rgb)
            those.append(replace(picture, rgb=None))
            if len(batch) == BATCH:
                found.append(self.locator.extractor(np.stack(batch)))
                batch = []
        if batch:
            found.append(self.locator.extractor(np.stack(batch)))
        return _Part(those, fresh, np.concatenate(found) if found else None)

    def _finish(self, part: _Part) -> list[Row]:
        """The rows of a part, after those that are new were written."""
        if part.features is not None:
            density = self.options.beside.applied(self.locator.locate(part.features), part.fresh, self.kind)
            near = self.locator.neighbours(part.features, self.options.top)
            rows = self.writer.rows(part.fresh, density, near)
            self.parts.add([p.key for p in part.fresh if p.key], rows)
            self.computed += len(rows)
        return [self._row(picture) for picture in part.pictures]

    def _row(self, picture: Ready) -> Row:
        if picture.key is None:
            return self.writer.without(picture)
        return self.parts.get(picture.key) | self.writer.who(picture)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
