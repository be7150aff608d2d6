"""Places of pictures from above on a map, as a Prefect flow: python -m flows.match SOURCE… --out FILE.parquet …"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed

from geoml.errors import NothingFound
from geoml.geolocation import steps as geolocation
from geoml.geolocation.recipe import MapRecipe
from geoml.texts import counted

from . import command, form, show, signatures, steps


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=steps.transient, persist_result=False)
def locate(sources: list[str], out: str, cache: str | None, map: str | None, recipe: MapRecipe) -> dict[str, Any]:
    """A row for each picture; one that was stopped goes on after its last part."""
    with steps.gpu():
        return geolocation.geolocate_map(sources, out, cache=cache, map=map, **dict(recipe))


@signatures.flow("match", "Locate pictures from above on a map, with the error in metres.")
@form.parameters_from(MapRecipe, choices={"model": "locator"})
def match(
    recipe: MapRecipe,
    sources: form.Sources,
    out: form.Text,
    cache: form.Text | None = None,
    map: form.Text | None = None,
) -> Any:
    """Footprints of pictures on a map, as one GeoParquet file.

    Args:
        sources: pictures, folders, globs, lists (CSV, Parquet) or STAC items, as the worker sees them, or URLs.
        out: GeoParquet file as the worker sees it; a run that was stopped goes on.
        cache: folder of indexes and thresholds, so that runs share them; by default inside OUT.run.
        map: also write a map as one HTML file.
    """
    places = [steps.absolute(s) for s in signatures.resolved(sources)]
    try:
        result = locate(places, steps.absolute(out), cache, map, recipe)
    except NothingFound as err:
        return Completed(name="Skipped", message=str(err))
    rows = [{"status": status, "pictures": n} for status, n in result["statuses"].items()]
    show.publish(
        create_table_artifact, rows, key="matched", description=f"{counted(result['pictures'], 'picture')} in {out}"
    )
    return result


main = partial(command.run_with_arguments, match)


if __name__ == "__main__":
    sys.exit(main())
