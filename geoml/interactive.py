"""`geoml.predict` for interactive use: with a progress bar, and a run to explore afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geoml import pipeline
from geoml.cli.terminal import Terminal
from geoml.engine.results.run import Run
from geoml.errors import GeomlError
from geoml.recipe import PredictRecipe
from geoml.texts import in_python

if TYPE_CHECKING:
    from geoml.engine.run.plan import Plan
    from geoml.engine.run.tally import Progress


def predict(
    recipe: PredictRecipe | Mapping[str, object],
    out: str | Path,
    *,
    progress: Progress | None = None,
    started: Callable[[Plan, Sequence[str]], None] | None = None,
) -> Run:
    """Like `geoml.pipeline.predict`, but returns a `geoml.Run`: its layers, its tables, and with ``[]`` the fields of
    ``run.json``.

    In a notebook or an interactive shell a progress bar is shown unless ``progress`` or ``started`` are given;
    elsewhere nothing is printed. ``query["region"]`` may be a GeoDataFrame, a shapely geometry or a GeoJSON mapping.
    """
    try:
        if progress or started or not _watched():
            return Run(out, pipeline.predict(recipe, out, progress=progress, started=started))
        from geoml.cli.progress import live_bar

        with live_bar() as bar:
            return Run(out, pipeline.predict(recipe, out, progress=bar.advance, started=bar.start))
    except GeomlError as err:
        if (said := in_python(str(err))) == str(err):
            raise
        raise type(err)(said) from err


def _watched() -> bool:
    console = Terminal(stderr=True)
    return console.is_jupyter or (console.is_terminal and hasattr(sys, "ps1"))
