"""Places of a map to be checked, as a Prefect flow: python -m flows.draw RUN --out FILE.gpkg [--places N]."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from prefect import task
from prefect.states import Completed

from geoml.engine.run.estimate import sample_places
from geoml.texts import counted

from . import command, form, signatures, steps


@task(persist_result=False)
def sample(run: str, places: int, out: str, seed: int) -> int:
    """Draw and write the places; how many there are."""
    return len(sample_places(run, places, Path(out), seed))


@signatures.flow("draw", "A finished map in; places in each of its classes, for people to check, out.")
def draw(run: form.Text, out: form.Text, places: form.Count = 400, seed: int = 0) -> Any:
    """Places in every class of a map, drawn at random; what the map says there is not in the file.

    Args:
        run: Folder or URL of a finished run, as the worker sees it.
        out: The .gpkg or .geojson file to fill in.
        places: About so many.
        seed: Another one draws other places.
    """
    count = sample(steps.absolute(run), places, steps.absolute(out), seed)
    return Completed(message=f"{counted(count, 'place')} in {out}; fill in the column reference")


main = partial(command.run_with_arguments, draw)


if __name__ == "__main__":
    sys.exit(main())
