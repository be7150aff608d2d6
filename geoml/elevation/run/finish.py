"""What comes after the blocks of a run: check points, classes written back, and files that were left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from geoml.elevation.recipe import ElevationRecipe
from geoml.elevation.run.against import scored
from geoml.elevation.run.classes import CLASSIFIED, write_all
from geoml.elevation.run.points import ASKED
from geoml.engine.run.collect import republish
from geoml.engine.run.plan import STATE, read_plan
from geoml.inputs.points import squares_of
from geoml.io.cards.elevation import ACCURACY
from geoml.io.stores.remote import run_store
from geoml.io.stores.store import read_small, write_json


def finished(asked: ElevationRecipe, out: str | Path) -> dict[str, Any]:
    """Complete the run in ``out``; what ``run.json`` says then.

    Raises InputError where there is no finished run, and what reading points or check points raises.
    """
    store = run_store(out)
    said = json.loads(read_small(store.local / STATE / ASKED) or b"{}")
    plan = read_plan(store)
    files: dict[str, str] = {}
    if asked.write_classes and asked.stereo is None:
        write_all(plan, store.local)
        files[CLASSIFIED] = "the points with the classes that were used"
    if asked.check_points is not None or asked.left_out:
        write_json(store.inside(ACCURACY), scored(asked, plan, store))
        files[ACCURACY] = "errors against check points, a DEM or ground that was held back"
    shutil.rmtree(squares_of(plan.recipe), ignore_errors=True)
    return republish(store, files=files, left_out=said.get("left_out") or {})
