"""The folder of cycles: a run for each in ``cycles/``, named by reference time; what was issued is read from these."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoml.engine.run.plan import STATE
from geoml.errors import DataError, InputError
from geoml.forecasting.recipe import CycleRecipe
from geoml.io.stac.times import rfc3339
from geoml.io.stores.bucket import is_bucket
from geoml.io.stores.claim import claim
from geoml.io.stores.store import read_small, within, write_json
from geoml.recipe import differences

CYCLES = "cycles"
RECORD = f"{STATE}/cycles.json"
"""What all cycles have in common, and the first reference time."""
HASHES = f"{STATE}/frames.json"
"""What need not be read again, see `geoml.io.cubes.usable`."""
SECTION = "cycle"
"""Of the ``run.json`` of a cycle. Where it is, the cycle is issued: it is written last."""

_NAME = re.compile(r"(\d{8}T\d{6}Z)(?:-v([2-9]|[1-9]\d+))?")
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, order=True)
class Cycle:
    """An issue of the forecast of a reference time (UTC)."""

    reference: dt.datetime
    version: int = 1

    @property
    def name(self) -> str:
        """Of its folder: 20240601T125500Z, and 20240601T125500Z-v2 where it was issued again."""
        return f"{self.reference:{_STAMP}}{f'-v{self.version}' if self.version > 1 else ''}"

    @classmethod
    def named(cls, name: str) -> Cycle | None:
        """None for a name of something else."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        try:
            moment = dt.datetime.strptime(found[1], _STAMP).replace(tzinfo=dt.UTC)
        except ValueError:
            return None
        return cls(moment, int(found[2] or 1))

    def within(self, out: Path) -> Path:
        """Its folder. Raises DataError if a folder on the way is a link."""
        return within(out, f"{CYCLES}/{self.name}/{STATE}").parent


def begun(out: Path) -> list[Cycle]:
    """All cycles that have a folder, issued or not, by reference time and version."""
    folder = out / CYCLES
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(cycle for name in names if (cycle := Cycle.named(name)) is not None)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is none that can be read."""
    try:
        found = json.loads(read_small(path) or b"{}")
    except (ValueError, RecursionError, DataError):
        return {}
    return found if isinstance(found, dict) else {}


def issued(out: Path, cycle: Cycle) -> dict[str, Any] | None:
    """Contents of ``run.json`` of an issued cycle; None of one that is not."""
    found = read_json(cycle.within(out) / "run.json").get(SECTION)
    return found if isinstance(found, dict) and {"values_sha256", "leads"} <= found.keys() else None


def write_section(out: Path, cycle: Cycle, **about: object) -> None:
    """Say something of a cycle in its ``run.json``."""
    path = cycle.within(out) / "run.json"
    run = read_json(path)
    write_json(path, {**run, SECTION: {**run.get(SECTION, {}), **about}})


def claim_cycles(recipe: CycleRecipe, out: str | Path) -> tuple[Path, dict[str, Any]]:
    """The folder, and what it says of earlier looks; empty at the first one.

    Raises InputError for a bucket, for a folder with something else and for one with cycles of another recipe.
    """
    if is_bucket(out):
        raise InputError(f"out: {out} is a bucket; cycles keep the steps of their grids beside them, expected a folder")
    folder = claim(out, STATE).local
    if (folder / STATE / "plan.json").is_file():
        raise InputError(f"out: {folder} contains a single run; expected an empty folder or one of earlier cycles")
    record = read_json(folder / RECORD)
    if not record and begun(folder):
        raise DataError(f"{folder / RECORD}: cannot be read, and there are cycles; expected what geoml cycles wrote")
    before = record.get("recipe")
    if before is not None and before != recipe.same:
        other = differences(before, recipe, ("block_size", "since", "until", "reissue", "max_age"))
        raise InputError(f"out: {folder} contains cycles of a different recipe: {other}; expected another folder")
    return folder, record


def write_record(recipe: CycleRecipe, out: Path, sha256: str, since: dt.datetime) -> None:
    """Note what the folder is of, where that is not noted."""
    record = {"recipe": recipe.same, "sha256": sha256, "since": rfc3339(since)}
    if read_json(out / RECORD) != record:
        write_json(within(out, RECORD), record)


def read_hashes(out: Path) -> dict[str, list[str]]:
    """Empty if there is none that can be read: then all is read again."""
    try:
        return {k: [str(v[0]), str(v[1])] for k, v in read_json(out / HASHES).items()}
    except (LookupError, TypeError):
        return {}
