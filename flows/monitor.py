"""The nightly flow: python -m flows.monitor RECIPE.yaml --out DIR [--lookback DAYS] [--until TIME] [--no-fill]."""

from __future__ import annotations

import sys
from typing import Any

from prefect import flow
from prefect.states import Completed

from flows import command, form, show, signatures, steps
from geoml import pipeline
from geoml.engine.run.monitor import check, day_out, summary
from geoml.errors import NothingFound


@signatures.discreet
@flow(
    name="monitor",
    description="For an area and a model: items that are new or reprocessed, appended to one output collection.",
    log_prints=False,
    persist_result=False,
    validate_parameters=True,
)
def monitor(
    model: form.Model,
    catalog: form.Catalog,
    out: form.Text,
    bbox: form.Bbox | None = None,
    region: form.Text | None = None,
    reference: str | None = None,
    lookback: form.Days = 30,
    until: str | None = None,
    fill: bool = True,
    collection: str | None = None,
    filter: str | None = None,
    strict: bool = False,
    sortby: str | None = None,
    limit: form.Count | None = None,
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
        fill: Also look at days before the window that no night has looked at, as after a long stop; else say which.
        collection: Collection id; may stay away where the catalog has one.
        filter: CQL2 text, such as "eo:cloud_cover" < 20.
        strict: Refuse items that cannot be used, instead of leaving them out.
        sortby: Property, with - in front for descending.
        limit: At most this many items in one look.
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
        harmonise: Of two dates, bring the colours of the later one to those of the first.
        shift_limit: Pixels; a later date that lies further off is moved back.
        max_shift: Pixels; dates further off each other are an error; 0 does not look.
        max_failed: Share of blocks of a day that may fail before the day stops.
        out_of_domain: Images unlike the training data: warn (a wrong scaling is refused), refuse, or allow.
        batch: Blocks in one step.
        wait: Seconds to wait for another run that works on the same out.
    """
    dates = [reference, ".."] if reference else [".."]
    recipe, out = form.recipe(locals(), datetime=dates), steps.place(out)
    check(recipe, lookback, until)
    with steps.exclusive(out, wait):
        try:
            found = steps.look(recipe, out, lookback, until, fill)
            for day, left in found.todo.items():
                pipeline.do_day(out, found, day, lambda at, ids: steps.work(at, ids, batch))
                show.blocks(day_out(out, day), left, f"blocks-{day}")
            rows = steps.gather(out, found)
            show.changes(out, rows, found.failed)
            pipeline.verdict(found, rows)
        except NothingFound as err:
            return Completed(name="Skipped", message=str(err))
    return Completed(message="; ".join([summary(rows, found), *show.caution(found.warnings)]))


def main(argv: list[str] | None = None) -> int:
    """Run the flow once from a recipe file, of which datetime does not count."""
    more = [("reference", str, None, "the earlier date, of a model of two"), ("lookback", int, 30, "days")]
    more += [("until", str, None, "last day; else today"), ("fill", bool, True, "days that no night looked at too")]
    return command.main(monitor, argv, more)


if __name__ == "__main__":
    sys.exit(main())
