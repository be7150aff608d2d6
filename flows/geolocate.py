"""Geolocate pictures as a Prefect flow: folders, lists and STAC items in, one GeoParquet file out.

python -m flows.geolocate SOURCE… --model NAME --out FILE.parquet [--map FILE.html]
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed

from geoml.errors import NothingFound
from geoml.geolocation import steps as geolocation
from geoml.geolocation.recipe import LocateRecipe
from geoml.texts import counted

from . import command, form, show, signatures, steps


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=steps.transient, persist_result=False)
def locate(sources: list[str], out: str, map: str | None, recipe: LocateRecipe) -> dict[str, Any]:
    """A row for each picture; one that was stopped goes on after its last part."""
    with steps.gpu():
        return geolocation.geolocate(sources, out=out, map=map, **dict(recipe))


@signatures.flow("geolocate", "Pictures in; where they were taken, how sure that is, or why there is no answer out.")
@form.parameters_from(LocateRecipe, choices={"model": "locator"})
def geolocate(recipe: LocateRecipe, sources: form.Sources, out: form.Text, map: form.Text | None = None) -> Any:
    """Where pictures were taken, as one GeoParquet file.

    Args:
        sources: pictures, folders, globs, lists (CSV, Parquet) or STAC items, as the worker sees them, or URLs.
        out: GeoParquet file as the worker sees it; a run that was stopped goes on.
        map: also write a map as one HTML file.
    """
    places = [steps.absolute(s) for s in signatures.resolved(sources)]
    try:
        result = locate(places, steps.absolute(out), map, recipe)
    except NothingFound as err:
        return Completed(name="Skipped", message=str(err))
    rows = [{"status": status, "pictures": n} for status, n in result["statuses"].items()]
    show.publish(
        create_table_artifact, rows, key="geolocated", description=f"{counted(result['pictures'], 'picture')} in {out}"
    )
    return result


main = partial(command.run_with_arguments, geolocate)


if __name__ == "__main__":
    sys.exit(main())
