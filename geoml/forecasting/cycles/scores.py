"""Verification of all cycles, in one table: a row for each issue and lead whose step is known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from geoml.errors import GeomlError
from geoml.forecasting.cycles.folder import Cycle, begun, issued
from geoml.forecasting.cycles.look import CycleLook
from geoml.forecasting.recipe import CycleRecipe
from geoml.io.stac.times import instant
from geoml.io.stores.store import within
from geoml.io.tables.verification import RUNNING, best_of, read_running, write_running, write_verification

if TYPE_CHECKING:
    from geoml.forecasting.grids.used import UsedSteps

VERIFICATION = "verification.parquet"
"""In the folder of a cycle, and of all of them."""

Key = tuple[dt.datetime, int, str]
ROWS = 20_000
MEANS = ("mae", "crps", "cover50", "cover80", "cover90")


def verify_cycles(recipe: CycleRecipe, look: CycleLook) -> None:
    """Verify the issues of which a step has come, or was corrected, since the last look; ``look`` counts the new rows.

    The table says of each row what it was compared with, so that nothing is done twice. ``look`` notes what fails.
    """
    path, first = within(look.out, VERIFICATION), look.first - look.used.longest
    table = read_running(path)
    recent = pc.greater_equal(table["reference_time"], pa.scalar(first, table["reference_time"].type))
    rows = {_key(row): row for row in table.filter(recent).to_pylist()}
    for cycle in begun(look.out):
        if cycle.reference >= first and (about := issued(look.out, cycle)) is not None:
            try:
                found = _due(recipe, look, cycle, about["leads"], rows)
            except GeomlError as err:
                look.failed[f"{cycle.name}, what came true"] = err
                continue
            rows |= {_key(row): row for row in found}
            look.verified += len(found)
    if look.verified:
        order = sorted(rows.values(), key=lambda r: (r["reference_time"], r["version"], r["valid_time"]))
        now = pa.Table.from_pylist(order, RUNNING)
        write_running(pa.concat_tables([table.filter(pc.invert(recent)), now]), path)


def _due(
    recipe: CycleRecipe, look: CycleLook, cycle: Cycle, leads: Mapping[str, str], rows: Mapping[Key, dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows of the leads whose step is not the one that they were compared with."""
    truth = {lead: look.used.at(instant(valid)) for lead, valid in leads.items()}
    due = {
        lead: hashed
        for lead, hashed in truth.items()
        if hashed and rows.get((cycle.reference, cycle.version, lead), {}).get("truth_sha256") != hashed
    }
    about = {"reference_time": cycle.reference, "version": cycle.version}
    found = _verified(recipe, look, cycle) if due else []
    return [{**row, **about, "truth_sha256": due[row["lead"]]} for row in found if row["lead"] in due]


def _key(row: dict[str, Any]) -> Key:
    return row["reference_time"], row["version"], row["lead"]


def _verified(recipe: CycleRecipe, look: CycleLook, cycle: Cycle) -> list[dict[str, Any]]:
    place = cycle.within(look.out)
    if recipe.cube is None:
        from geoml.forecasting.rows.verify import verified

        found = verified(place)
    else:
        from geoml.forecasting.grids.verify import verified as verified_grid

        found = verified_grid(place, opener=cast("UsedSteps", look.used).open)
    write_verification(found, within(place, VERIFICATION))
    return found


def summary(out: Path) -> list[dict[str, Any]]:
    """By lead, over the newest issue of every cycle, of the last `ROWS` of the table: how many ``cycles`` and ``n``
    values, and the means of scores over these; the best simple method over all of them, and the skill against it."""
    table = read_running(out / VERIFICATION)
    rows = table.slice(max(0, len(table) - ROWS)).to_pylist()
    newest: dict[tuple[dt.datetime, str], dict[str, Any]] = {}
    for row in rows:
        if row["n"] and row["version"] >= newest.get((row["reference_time"], row["lead"]), row)["version"]:
            newest[row["reference_time"], row["lead"]] = row
    leads: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(newest.values(), key=lambda r: r["valid_time"] - r["reference_time"]):
        leads.setdefault(row["lead"], []).append(row)
    found = []
    for lead, those in leads.items():
        each = [{**row, **{f"simple {name}": error for name, error in row["simple"]}} for row in those]
        known = {key.removeprefix("simple "): _mean(each, key) for key in each[0] if key.startswith("simple ")}
        simple = {name: mae for name, mae in known.items() if mae is not None}
        about = {"lead": lead, "cycles": len(those), "n": sum(r["n"] for r in those), "unit": those[0]["unit"]}
        means = {key: _mean(each, key) for key in MEANS}
        found.append({**about, **means, **best_of(means["mae"], simple)})
    return found


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    """Weighted by values; None if one of the rows does not know it: it would be one of other cycles."""
    if any(row.get(key) is None for row in rows):
        return None
    return float(sum(row["n"] * row[key] for row in rows) / sum(row["n"] for row in rows))
