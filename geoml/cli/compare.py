"""``geoml compare``: the polygons or objects of a run beside a file that somebody else published."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from geoml.cli.common import Json, command, out_console
from geoml.texts import counted, percent


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "compare")(compare)


def compare(
    run: Annotated[str, typer.Argument(metavar="RUN", help="folder or URL of a finished run")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="points or polygons, such as GeoJSON of Satlas")],
    name: Annotated[str | None, typer.Option("--class", help="of the run; by default all features")] = None,
    field: Annotated[str | None, typer.Option("--field", help="column of FILE that --value is in")] = None,
    value: Annotated[str | None, typer.Option("--value", help="which features of FILE; by default all")] = None,
    within: Annotated[float, typer.Option("--within", help="metres between two features that may be one")] = 50.0,
    as_json: Json = False,
) -> None:
    """Count the features that a run and a published file have in common; agreement, not accuracy.

    Example:
    geoml compare turbines latest.geojson --class turbine --field category --value offshore_wind_turbine
    """
    from geoml.engine.results.compared import compare as compared
    from geoml.engine.results.run import open as open_run

    found = compared(open_run(run), file, name=name, field=field, value=value, within=within)
    if as_json:
        print(json.dumps(found.as_json))
        return
    apart = "" if found.median_m is None else f" (median distance {found.median_m:.1f} m)"
    lines = [
        f"{counted(found.in_run, 'feature')} in the run, {found.in_file} in the file within the run's area;"
        f" {counted(found.both, 'pair')} {'matches' if found.both == 1 else 'match'}{apart}"
    ]
    shares = [
        (k, v) for k, v in (("run", found.as_json["of_run"]), ("file", found.as_json["of_file"])) if v is not None
    ]
    others = {"run": "file", "file": "run"}
    lines += [f"{percent(v)} of the {k}'s features have a match in the {others[k]}" for k, v in shares]
    lines.append(
        f"ignored in the file: {found.off_the_ground} outside the area, {found.other_months} of other months,"
        f" {found.without_geometry} without a geometry"
    )
    for line in lines:
        out_console.print(line, highlight=False)
