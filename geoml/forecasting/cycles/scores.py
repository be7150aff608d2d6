"""What came true of all cycles, as one table beside them: a row for each issue and lead whose step has come."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from geoml.errors import GeomlError
from geoml.forecasting.cycles.folder import Cycle, begun, issued
from geoml.forecasting.cycles.look import CycleLook
from geoml.forecasting.recipe import CycleRecipe
from geoml.io.stac.times import instant
from geoml.io.stores.store import within
from geoml.io.tables.verification import RUNNING, best_of, read_running, write_verification

if TYPE_CHECKING:
    from geoml.forecasting.grids.used import UsedSteps

VERIFICATION = "verification.parquet"
"""In the folder of a cycle, and of all of them."""

Key = tuple[dt.datetime, int, str]
MEANS = ("mae", "crps", "cover50", "cover80", "cover90")


def verify_cycles(recipe: CycleRecipe, look: CycleLook) -> int:
    """Verify the issues of which a step has come, or was corrected, since the last look; how many rows are new.

    The table says of each row what it was held against, so that nothing is done twice. ``look`` notes what fails.
    """
    path = within(look.out, VERIFICATION)
    rows = {_key(row): row for row in read_running(path)}
    first = min(look.references, default=look.newest) - look.used.longest
    new = 0
    for cycle in begun(look.out):
        if cycle.reference < first or (about := issued(look.out, cycle)) is None:
            continue
        truth = {lead: look.used.at(instant(valid)) for lead, valid in about["leads"].items()}
        due = {
            lead: hashed
            for lead, hashed in truth.items()
            if hashed and rows.get((cycle.reference, cycle.version, lead), {}).get("truth_sha256") != hashed
        }
        if not due:
            continue
        try:
            found = _verified(recipe, look, cycle)
        except GeomlError as err:
            look.failed[f"{cycle.name}, what came true"] = err
            continue
        for row in found:
            if row["lead"] in due:
                more = {"version": cycle.version, "truth_sha256": due[row["lead"]]}
                row = {**row, "reference_time": cycle.reference, **more}
                rows[_key(row)] = row
                new += 1
    if new:
        order = sorted(rows.values(), key=lambda r: (r["reference_time"], r["version"], r["valid_time"]))
        write_verification(order, path, RUNNING)
    return new


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
    """By lead, over the newest issue of every cycle: how many ``cycles``, ``n`` values, and the means of scores over
    these; the best simple method over all of them, and the skill against it."""
    rows = read_running(out / VERIFICATION)
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
    """Weighted by values; None where one of the rows does not know it: it would be one of other cycles."""
    if any(row.get(key) is None for row in rows):
        return None
    return float(sum(row["n"] * row[key] for row in rows) / sum(row["n"] for row in rows))
