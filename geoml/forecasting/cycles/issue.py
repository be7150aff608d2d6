"""Issue one cycle as a run of its own, of the values of a look; the issue that it replaces is marked deprecated."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from geoml.engine.run.plan import STATE
from geoml.errors import GeomlError, InputError, NothingFound, TransientError
from geoml.forecasting.cycles.folder import Cycle, begun, issued, read_json, write_section
from geoml.forecasting.cycles.look import CycleLook
from geoml.forecasting.cycles.versions import write_version
from geoml.forecasting.recipe import CycleRecipe
from geoml.io.stac.times import rfc3339
from geoml.io.stores.store import within, write_json
from geoml.recipe import PredictRecipe

if TYPE_CHECKING:
    from geoml.forecasting.grids.used import UsedSteps

CLAIMED = f"{STATE}/cycle.json"
"""In the folder of a cycle that is not issued yet: the hash of the values that it is made of."""

Predict = Callable[[PredictRecipe, str], Any]
"""Does the run over blocks in a folder, such as `geoml.pipeline.predict`."""


def issue(recipe: CycleRecipe, look: CycleLook, cycle: Cycle, predict: Predict) -> dict[str, Any] | None:
    """Issue a cycle that is due; what its ``run.json`` says of it. None if that failed, which ``look`` notes: the
    other cycles go on."""
    try:
        leads = _table(recipe, look, cycle) if recipe.cube is None else _grid(recipe, look, cycle, predict)
        about = _finished(look, cycle, leads)
    except (InputError, NothingFound) as err:
        shutil.rmtree(cycle.within(look.out), ignore_errors=True)
        look.unsaid[cycle.name] = err
        return None
    except GeomlError as err:
        look.failed[cycle.name] = err
        return None
    look.issued[cycle] = about
    return about


def _grid(recipe: CycleRecipe, look: CycleLook, cycle: Cycle, predict: Predict) -> dict[str, str]:
    """The valid time of each lead. Raises TransientError if the steps changed since the look."""
    from geoml.engine.packages import cards
    from geoml.forecasting.grids.run import PACKAGE, prepared
    from geoml.io.cards.forecast import ForecastTerms, spelled
    from geoml.io.cards.map_card import MapCard
    from geoml.recipe import parse

    place, used = cycle.within(look.out), cast("UsedSteps", look.used)
    values = {"values_sha256": look.todo[cycle]}
    if read_json(place / CLAIMED) != values:
        shutil.rmtree(place, ignore_errors=True)  # begun of other values
        write_json(within(look.out, f"{place.relative_to(look.out).as_posix()}/{CLAIMED}"), values)
    made = prepared(recipe.at(cycle.reference), place, used.open)
    steps = [read_json(path) for path in sorted((place / STATE / "steps" / "items").glob("*.json"))]
    pixels = [asset["geoml:pixels"] for item in steps for asset in item["assets"].values()]
    if pixels != used.pixels(cycle.reference):
        shutil.rmtree(place, ignore_errors=True)
        raise TransientError(f"cube: a step of {cycle.name} changed while it was read; the next look sees it as it is")
    predict(made, str(place))
    card = cards.read_in(place / STATE / PACKAGE, MapCard)
    terms = parse(ForecastTerms, dict(card.made), f"{card.name}: made")
    return {spelled(lead): rfc3339(cycle.reference + lead) for lead in terms.written}


def _table(recipe: CycleRecipe, look: CycleLook, cycle: Cycle) -> dict[str, str]:
    """The valid time of each lead."""
    from geoml.forecasting.rows.item import write_rows_item
    from geoml.forecasting.rows.run import run

    place = cycle.within(look.out)
    shutil.rmtree(place, ignore_errors=True)
    run(recipe.at(cycle.reference), place, cycle.version)
    return write_rows_item(place)


def _finished(look: CycleLook, cycle: Cycle, leads: dict[str, str]) -> dict[str, Any]:
    before = [c for c in begun(look.out) if c.reference == cycle.reference and c.version < cycle.version]
    write_version(cycle.within(look.out), cycle.version, predecessor=before[-1].within(look.out) if before else None)
    missing = [rfc3339(time) for time in look.used.missing(cycle.reference)]
    write_section(
        look.out,
        cycle,
        reference_time=rfc3339(cycle.reference),
        version=cycle.version,
        values_sha256=look.todo[cycle],
        leads=leads,
        age_seconds=int((look.age + (look.newest - cycle.reference)) / dt.timedelta(seconds=1)),
        missing=missing,
        left_out=look.used.left_out,
    )
    about = issued(look.out, cycle)
    assert about is not None
    for old in before[-1:]:
        _deprecate(look.out, old, cycle)
    return about


def deprecate_replaced(look: CycleLook) -> None:
    """Mark every issue deprecated that a newer one has replaced, where a kill came between."""
    for old, new in pairwise(cycle for cycle in begun(look.out) if cycle.reference >= look.first):
        if old.reference == new.reference and issued(look.out, new) is not None:
            _deprecate(look.out, old, new)


def _deprecate(out: Path, old: Cycle, new: Cycle) -> None:
    if (about := issued(out, old)) is not None and "superseded_by" not in about:
        write_version(old.within(out), old.version, successor=new.within(out))
        write_section(out, old, superseded_by=new.name)
