"""Geolocate pictures as a Prefect flow: folders, lists and STAC items in, one GeoParquet file out.

python -m flows.geolocate SOURCE… --model NAME --out FILE.parquet [--map FILE.html]
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, Literal, cast

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed

from flows import command, show, signatures, steps
from flows.form import Locator, Size, Sources, Text, Top
from geoml.errors import NothingFound
from geoml.geolocation import steps as geolocation

Use = list[Literal["time", "text", "position", "altitude"]]


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=steps.transient, persist_result=False)
def locate(sources: list[str], model: str, out: str, options: dict[str, Any]) -> dict[str, Any]:
    """A row for each picture; one that was stopped goes on after its last part."""
    with steps.gpu():
        return geolocation.geolocate(sources, model, out, **options)


@signatures.discreet
@flow(
    name="geolocate",
    description="Pictures in; where they were taken, how sure that is, or why there is no answer out.",
    log_prints=False,
    persist_result=False,
    validate_parameters=True,
)
def geolocate(
    sources: Sources,
    model: Locator,
    out: Text,
    precision: str = "auto",
    use: Use = [],  # noqa: B006, never changed; a form shows it as an empty list
    sigma_km: Size = 25.0,
    heights: Text | None = None,
    top: Top = 5,
    map: Text | None = None,
) -> Any:
    """Where pictures were taken, as one GeoParquet file.

    Args:
        sources: Pictures, folders, globs, lists (CSV, Parquet) or STAC items, as the worker sees them, or URLs.
        model: A locator in catalogs/models, or the folder or URL of one.
        out: GeoParquet file as the worker sees it; a run that was stopped goes on.
        precision: exact, km to round to, or auto: a region of 50 km for ground photos.
        use: What beside the pixels enters the answer.
        sigma_km: Spread of a position that is used, km.
        heights: GeoTIFF of heights in degrees, for altitudes.
        top: Candidates in a row.
        map: Also write a map as one HTML file.
    """
    more = {"precision": precision, "use": use, "sigma_km": sigma_km, "heights": heights, "top": top, "map": map}
    places = [steps.place(s) for s in signatures.filled(sources)]
    try:
        found = locate(places, signatures.filled(model), steps.place(out), more)
    except NothingFound as err:
        return Completed(name="Skipped", message=str(err))
    rows = [{"status": status, "pictures": n} for status, n in found["statuses"].items()]
    show.told(create_table_artifact, rows, key="geolocated", description=f"{found['pictures']} pictures in {out}")
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the flow once; the exit code is that of the error table."""
    parser = argparse.ArgumentParser(prog="python -m flows.geolocate", description=geolocate.description)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--map")
    given = vars(parser.parse_args(argv))
    return command.exit_code(lambda: cast(Any, geolocate)(**given, return_state=True))


if __name__ == "__main__":
    sys.exit(main())
