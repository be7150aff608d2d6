"""The nightly flow: items that are new or reprocessed, day by day, appended to one output collection.

python -m flows.monitor RECIPE.yaml --out DIR [--lookback DAYS] [--until TIME]
"""

from __future__ import annotations

import sys
from typing import Any

from prefect import flow, task
from prefect.states import Completed

from flows import command, form, show, steps
from flows.form import Bbox, Catalog, Composite, Count, Days, Join, Mask, Model, Pixels, Share, Size
from geoml import pipeline
from geoml.engine.monitor import Look, day_out, summary
from geoml.errors import NothingFound
from geoml.recipe import PredictRecipe


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=steps.transient, persist_result=False)
def look(recipe: PredictRecipe, out: str, lookback: int, until: str | None) -> Look:
    """One search for the window; a plan for each day of it."""
    return pipeline.look(recipe, out, lookback=lookback, until=until)


@task(persist_result=False)
def gather(out: str, found: Look) -> list[dict[str, Any]]:
    """Put all days together; the rows of what changed."""
    return pipeline.gather(out, found)


@flow(
    name="monitor",
    description="For an area and a model: items that are new or reprocessed, appended to one output collection.",
    log_prints=False,
    persist_result=False,
    validate_parameters=True,
)
def monitor(
    model: Model,
    catalog: Catalog,
    out: str,
    bbox: Bbox | None = None,
    region: str | None = None,
    reference: str | None = None,
    lookback: Days = 30,
    until: str | None = None,
    collection: str | None = None,
    filter: str | None = None,
    composite: Composite = "least_cloudy",
    mask: Mask = "auto",
    join: Join = "auto",
    crs: str = "utm",
    block_size: Pixels = 2048,
    tta: bool = False,
    probabilities: bool = False,
    features: bool = True,
    min_area: Size = 0.0,
    simplify: Size = 0.0,
    max_failed: Share = 1.0,
    batch: Count = 8,
    wait: Size = 600.0,
) -> Any:
    """What is new since the last success, and nothing else.

    Args:
        model: A package in catalogs/models, or the folder or URL of one.
        catalog: A name in catalogs/, the URL of a STAC API, or a static catalog or stac-geoparquet file.
        out: Folder (as the worker sees it) or s3://, gs:// or az:// URL; each day is a run below its days/.
        bbox: West, south, east, north in degrees; west > east crosses the antimeridian. Give this or a region.
        region: File or URL with polygons: GeoJSON, GeoPackage or GeoParquet.
        reference: Of a model of two dates, the earlier one: RFC 3339 date or interval that each day is compared with.
        lookback: Days before until that are looked at again, for items that come late or are made again.
        until: Last day to look at, RFC 3339; empty is today.
        collection: Collection id; may stay away where the catalog has one.
        filter: CQL2 text, such as "eo:cloud_cover" < 20.
        composite: How the items of one place and day become one image; first is the newest.
        mask: auto uses the quality mask that the catalog's YAML describes.
        join: How chips become one map; auto is exact where the model allows.
        crs: utm (the zone of each place), data (that of the items) or EPSG:code.
        block_size: Pixels; does not change the result.
        tta: Average over the eight flips and turns.
        probabilities: Also write the probability of every class.
        features: Also write polygons of the classes.
        min_area: Square metres; smaller polygons are left out, after merging.
        simplify: Metres; neighbours keep their shared borders.
        max_failed: Share of blocks of a day that may fail before the day stops.
        batch: Blocks in one step.
        wait: Seconds to wait for another run that works on the same out.
    """
    dates = [reference, ".."] if reference else [".."]
    recipe, out = form.recipe(locals(), datetime=dates), steps.place(out)
    with steps.exclusive(out, wait):
        try:
            found = look(recipe, out, lookback, until)
            for day, left in found.todo.items():
                pipeline.do_day(out, found, day, lambda at, ids: steps.work(at, ids, batch))
                show.blocks(day_out(out, day), left, f"blocks-{day}")
            rows = gather(out, found)
            show.changes(out, rows, found.failed)
            pipeline.verdict(found, rows)
        except NothingFound as err:
            return Completed(name="Skipped", message=str(err))
    return Completed(message="; ".join([summary(rows), f"{len(found.todo)} days", *steps.caution(found.warnings)]))


def main(argv: list[str] | None = None) -> int:
    """Run the flow once from a recipe file, of which datetime does not count."""
    more = [
        ("reference", str, None, "the earlier date, of a model of two"),
        ("lookback", int, 30, "days"),
        ("until", str, None, "last day to look at; without it today"),
    ]
    return command.main(monitor, argv, more)


if __name__ == "__main__":
    sys.exit(main())
