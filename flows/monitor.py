"""The nightly flow: python -m flows.monitor RECIPE.yaml --out DIR [--lookback DAYS] [--until TIME] [--no-fill]."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from prefect.states import Completed

from geoml import pipeline
from geoml.engine.run.monitor import check, day_out, summary
from geoml.errors import NothingFound
from geoml.recipe import PredictRecipe

from . import command, form, show, signatures, steps


def _dates(given: Mapping[str, object]) -> dict[str, object]:
    """Every day to come, each compared with the reference if there is one."""
    return {"datetime": [*filter(None, [given.get("reference")]), ".."]}


@signatures.flow(
    "monitor", "For an area and a model: items that are new or reprocessed, appended to one output collection."
)
@form.parameters_from(PredictRecipe, absent=_dates)
def monitor(
    recipe: PredictRecipe,
    out: form.Text,
    reference: str | None = None,
    lookback: form.Days = 30,
    until: str | None = None,
    fill: bool = True,
    batch: form.Count = 8,
    wait: form.Size = 600.0,
) -> Any:
    """What is new since the last success, and nothing else.

    Args:
        out: folder (as the worker sees it) or s3://, gs:// or az:// URL; each day is a run below its days/.
        reference: of a model of two dates, the earlier one: RFC 3339 date or interval that each day is compared with.
        lookback: days before until that are looked at again, for items that come late or are made again.
        until: last day to look at, RFC 3339; empty is today.
        fill: also look at days before the window that no night has looked at, as after a long stop; else say which.
        batch: blocks in one step.
        wait: seconds to wait for another run that works on the same out.
    """
    out = steps.absolute(out)
    check(recipe, lookback, until)
    with steps.exclusive(out, wait):
        try:
            result = steps.scan(recipe, out, lookback, until, fill)
            for day, left in result.todo.items():
                pipeline.do_day(out, result, day, lambda at, ids: steps.run_batches(at, ids, batch))
                show.blocks(day_out(out, day), left, f"blocks-{day}")
            rows = steps.gather(out, result)
            show.changes(out, rows, result.failed)
            pipeline.verdict(result, rows)
        except NothingFound as err:
            return Completed(name="Skipped", message=str(err))
    return Completed(message="; ".join([summary(rows, result), *show.warning_line(result.warnings)]))


main = partial(command.run_with_recipe, monitor)


if __name__ == "__main__":
    sys.exit(main())
