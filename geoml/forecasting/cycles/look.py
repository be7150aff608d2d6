"""One look at the data: how old the newest step is, which cycles are due, and which have to be issued again."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from geoml.errors import DataError, GeomlError, InputError, NothingFound
from geoml.forecasting.cycles.folder import (
    HASHES,
    Cycle,
    begun,
    claim_cycles,
    issued,
    read_hashes,
    write_record,
)
from geoml.forecasting.recipe import CycleRecipe, utc
from geoml.io.stores.store import within, write_json
from geoml.io.tables.durations import StepDuration
from geoml.texts import listed


class Used(Protocol):
    """What a table or a cube holds, as it was read once."""

    newest: dt.datetime
    """Step that is there."""
    references: tuple[dt.datetime, ...]
    """Steps that are there with all that a forecast from them would see, rising."""
    left_out: dict[str, str]
    """What does not count, and why."""
    longest: dt.timedelta
    """Lead."""
    sha256: str
    """Of the model's weights; empty if it has none."""

    def number(self, time: dt.datetime) -> int:
        """Of a step. Raises InputError between steps."""
        ...

    def used(self, reference: dt.datetime) -> str:
        """Hash of the values that the forecast of a reference time is made of."""
        ...

    def at(self, time: dt.datetime) -> str | None:
        """Hash of the values of a step; None if it is not there."""
        ...

    def missing(self, reference: dt.datetime) -> list[dt.datetime]:
        """Steps before a reference time that the model would see, and that are not there."""
        ...


@dataclass
class CycleLook:
    """What was found, and what becomes of it: ``todo`` with the hash of the values that each cycle is made of."""

    out: Path
    used: Used
    age: dt.timedelta
    """Of the newest step."""
    first: dt.datetime
    """Reference time from which on an earlier look that was killed may have left something undone."""
    todo: dict[Cycle, str]
    issued: dict[Cycle, dict[str, Any]] = field(default_factory=dict)
    """In this look."""
    unsaid: dict[str, GeomlError] = field(default_factory=dict)
    """Cycles of which nothing can be said, such as one without a step before it."""
    failed: dict[str, GeomlError] = field(default_factory=dict)
    verified: int = 0
    """Leads that came true since the last look."""

    @property
    def newest(self) -> dt.datetime:
        return self.used.newest

    def warnings(self) -> list[str]:
        """What has to be known of it."""
        words = [f"{name} is left out: {why}" for name, why in self.used.left_out.items()]
        return words + [f"{name} is not forecast: {err}" for name, err in self.unsaid.items()]

    def verdict(self) -> None:
        """Raise what the cycles that failed raised, after all others are issued; NothingFound for nothing new."""
        ever = self.issued or any(issued(self.out, cycle) for cycle in begun(self.out))
        failed = self.failed or ({} if ever else self.unsaid)
        if failed:
            first = next(iter(failed.values()))
            told = listed((f"{name}: {err}" for name, err in failed.items()), joined="; ", most=3)
            raise type(first)(f"{len(failed)} cycles failed, the others are issued: {told}")
        if not self.issued and not self.verified:
            raise NothingFound(f"nothing new: the newest step is of {self.newest:%FT%TZ}, {old(self.age)}")


def old(age: dt.timedelta) -> str:
    """As a person says it."""
    seconds = max(age.total_seconds(), 0)
    for size, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name} old"
    return f"{seconds:.0f} seconds old"


def summary(found: CycleLook) -> str:
    """How many cycles were issued and issued again, and how old the newest step is, in one line."""
    again = sum(cycle.version > 1 for cycle in found.issued)
    counts = [f"{len(found.issued) - again} issued", *([f"{again} issued again"] if again else [])]
    return f"{', '.join(counts)}; the newest step is of {found.newest:%FT%TZ}, {old(found.age)}"


def look(recipe: CycleRecipe, out: str | Path) -> CycleLook:
    """Read what is there and tell which cycles are due: each reference time whose step is there has one of the values
    that are there now.

    Looked at are the times of ``reissue`` before the newest step, and all since the last cycle (at the first look since
    ``since``) where that is longer ago; none before ``since``. Raises InputError for what was asked wrongly, DataError
    for a newest step older than ``max_age``, NothingFound without any step, and what reading raises.
    """
    folder, record = claim_cycles(recipe, out)
    now = dt.datetime.now(dt.UTC) if recipe.until is None else utc(recipe.until, "until")
    known = begun(folder)
    given = None if recipe.since is None else utc(recipe.since, "since")
    last = known[-1].reference if known else given
    back = StepDuration.parse(recipe.reissue, "reissue")
    used = _read(recipe, folder, now, last, back)
    if record and record["sha256"] != used.sha256:
        raise InputError(
            f"out: {folder} contains cycles with different weights of {recipe.model}; expected another folder"
        )
    newest, age = used.newest, now - used.newest
    if recipe.max_age is not None and newest < StepDuration.parse(recipe.max_age, "max_age").before(now):
        left = listed((f"{name}: {why}" for name, why in used.left_out.items()), "nothing", joined="; ")
        raise DataError(
            f"max_age: the newest step is of {newest:%FT%TZ}, {old(age)}; expected one of the last {recipe.max_age};"
            f" left out: {left}"
        )
    since = utc(recipe.since or record.get("since") or f"{newest:%FT%TZ}", "since")
    write_record(recipe, folder, used.sha256, since)
    first, every = used.number(since), _every(recipe, used)
    begin = max(since, min(back.before(newest), last or newest))
    references = [r for r in used.references if r >= begin and (used.number(r) - first) % every == 0]
    versions: dict[dt.datetime, list[Cycle]] = {}
    for cycle in known:
        versions.setdefault(cycle.reference, []).append(cycle)
    todo = {}
    for reference in references:
        those = [(c, about) for c in versions.get(reference, []) if (about := issued(folder, c)) is not None]
        values = used.used(reference)
        if not those or those[-1][1]["values_sha256"] != values:
            todo[Cycle(reference, those[-1][0].version + 1 if those else 1)] = values
    return CycleLook(folder, used, age, back.before(begin), todo)


def _read(recipe: CycleRecipe, out: Path, now: dt.datetime, last: dt.datetime | None, back: StepDuration) -> Used:
    if recipe.cube is None:
        from geoml.forecasting.rows.used import UsedRows

        return UsedRows(recipe, now)
    from geoml.forecasting.grids.used import UsedSteps

    hashes = read_hashes(out)
    before = dict(hashes)
    used = UsedSteps(recipe, now, last, back, hashes)
    if hashes != before:
        write_json(within(out, HASHES), hashes)
    return used


def _every(recipe: CycleRecipe, used: Used) -> int:
    """Steps from one reference time to the next. Raises InputError if they do not divide evenly."""
    if recipe.every is None:
        return 1
    early = StepDuration.parse(recipe.every, "every").before(used.newest)
    try:
        count = used.number(used.newest) - used.number(early)
    except InputError as err:
        raise InputError(f"every: {recipe.every} is not a multiple of the step") from err
    return max(count, 1)
