"""Predict as a Prefect flow: plan, batches of blocks as tasks, collect.

python -m flows.predict RECIPE.yaml --out DIR
"""

from __future__ import annotations

import sys
from typing import Any

from prefect import flow, task
from prefect.states import Completed

from flows import command, form, show, signatures, steps
from geoml import pipeline
from geoml.engine.run.plan import check
from geoml.errors import NothingFound
from geoml.recipe import PredictRecipe


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=steps.transient, persist_result=False)
def plan(recipe: PredictRecipe, out: str) -> list[str]:
    """Search and cut into blocks; the ids of those that are still to do."""
    pipeline.plan(recipe, out)
    return pipeline.todo(out)


@signatures.discreet
@flow(
    name="predict",
    description="A region, a time range and a model in; a map out: COGs, GeoParquet, STAC and a report.",
    log_prints=False,
    persist_result=False,
    validate_parameters=True,
)
def predict(
    model: form.Model,
    catalog: form.Catalog,
    datetime: form.Dates,
    out: form.Text,
    bbox: form.Bbox | None = None,
    region: form.Text | None = None,
    collection: str | None = None,
    filter: str | None = None,
    sortby: str | None = None,
    limit: form.Count | None = None,
    strict: bool = False,
    composite: form.Composite = "least_cloudy",
    mask: form.Mask = "auto",
    join: form.Join = "auto",
    crs: str = "utm",
    block_size: form.Pixels = 2048,
    tta: bool = False,
    probabilities: bool = False,
    features: bool = True,
    min_area: form.Size = 0.0,
    simplify: form.Size = 0.0,
    harmonise: form.Harmonise = "none",
    shift_limit: form.Size = 0.5,
    max_shift: form.Shift = 8.0,
    max_failed: form.Share = 1.0,
    out_of_domain: form.Allow = "warn",
    batch: form.Count = 8,
    wait: form.Size = 600.0,
) -> Any:
    """A region, a time range and a model in; a map out.

    Args:
        model: A package in catalogs/models, or the folder or URL of one.
        catalog: A name in catalogs/, the URL of a STAC API, or a static catalog or stac-geoparquet file.
        datetime: RFC 3339 date or interval such as 2024-06-01/2024-06-30; one for each date that the model takes.
        out: Folder (as the worker sees it) or s3://, gs:// or az:// URL; an unfinished run of the same recipe goes on.
        bbox: West, south, east, north in degrees; west > east crosses the antimeridian. Give this or a region.
        region: File or URL with polygons: GeoJSON, GeoPackage or GeoParquet.
        collection: Collection id; may stay away where the catalog has one.
        filter: CQL2 text, such as "eo:cloud_cover" < 20.
        sortby: Property, with - in front for descending.
        limit: At most this many items.
        strict: Refuse items that cannot be used, instead of leaving them out.
        composite: How the items of one place become one image; first is the newest.
        mask: auto uses the quality mask that the catalog's YAML describes.
        join: How chips become one map; auto is exact where the model allows.
        crs: utm (the zone of each place), data (that of the items) or EPSG:code.
        block_size: Pixels; does not change the result.
        tta: Average over the eight flips and turns.
        probabilities: Also write the probability of every class.
        features: Also write polygons of the classes.
        min_area: Square metres; smaller polygons are left out, after merging.
        simplify: Metres; neighbours keep their shared borders.
        harmonise: Of two dates, bring the colours of the later one to those of the first.
        shift_limit: Pixels; a later date that lies further off is moved back.
        max_shift: Pixels; dates further off each other are an error; 0 does not look.
        max_failed: Share of blocks that may fail before the run stops.
        out_of_domain: Images unlike the training data: warn (a wrong scaling is refused), refuse, or allow.
        batch: Blocks in one step.
        wait: Seconds to wait for another run that works on the same out.
    """
    recipe, out = form.recipe(locals()), steps.place(out)
    check(recipe)
    with steps.exclusive(out, wait):
        try:
            ids = plan(recipe, out)
        except NothingFound as err:
            return Completed(name="Skipped", message=str(err))
        try:
            return show.ended(steps.collect(out, steps.work(out, ids, batch)))
        except NothingFound as err:
            return Completed(name="Skipped", message=str(err))
        finally:
            show.blocks(out, ids)


def main(argv: list[str] | None = None) -> int:
    """Run the flow once from a recipe file; the exit code is that of the error table."""
    return command.main(predict, argv, [("batch", int, 8, "blocks in one step")])


if __name__ == "__main__":
    sys.exit(main())
