"""Areas of a map with intervals, as a Prefect flow: python -m flows.estimate RUN --reference FILE.gpkg."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed

from geoml.engine.run.estimate import COLUMN
from geoml.engine.run.estimate import estimate as estimate_areas

from . import command, form, show, signatures, steps


@task(persist_result=False)
def correct(run: str, reference: str, column: str) -> dict[str, Any]:
    """Read the map at the checked places and correct its areas."""
    return estimate_areas(run, reference, column)


@signatures.flow("estimate", "A map and checked places in; areas of its classes with 95 % intervals out.")
def estimate(run: form.Text, reference: form.Text, column: str = COLUMN) -> Any:
    """Areas and accuracies of the classes of a map (Olofsson et al. 2014).

    Args:
        run: Folder or URL of the run that the places were drawn from.
        reference: The places, filled in: GeoPackage, GeoJSON or GeoParquet.
        column: Column with names or values of classes.
    """
    areas = correct(steps.absolute(run), steps.absolute(signatures.resolved(reference)), column)
    rows = [{"class": name, "mapped km²": areas["mapped"][name] / 1e6, "estimated km²": row["area"] / 1e6,
             "from km²": row["area_95"][0] / 1e6, "to km²": row["area_95"][1] / 1e6}
            for name, row in areas["classes"].items()]  # fmt: skip
    said = f"Areas of {run}; overall accuracy {areas['overall']:.3f} from {areas['places']} places"
    show.publish(create_table_artifact, rows, key="areas", description="\n\n".join((said, *areas["warnings"])))
    return Completed(data=areas, message=said)


main = partial(command.run_with_arguments, estimate)


if __name__ == "__main__":
    sys.exit(main())
