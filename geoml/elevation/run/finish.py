"""After the blocks of a run: check points, classes written back, and files that were left out.

These belong to the clouds and options that they were made of: `forget_older` removes those of others before the run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

from geoml.elevation.recipe import ElevationRecipe
from geoml.elevation.run.against import scored
from geoml.elevation.run.classes import CLASSIFIED, write_all
from geoml.elevation.run.points import ASKED
from geoml.engine.packages import cards
from geoml.engine.run.collect import republish
from geoml.engine.run.plan import STATE, read_plan
from geoml.inputs.points import squares_of
from geoml.io.cards.elevation import ACCURACY
from geoml.io.cards.map_card import MapCard
from geoml.io.stores.remote import run_store
from geoml.io.stores.store import read_small, within, write_bytes, write_json
from geoml.recipe import PredictRecipe, digest

MADE_OF: Final = "made_of.txt"
"""In the folder of the run's state: a digest of what the files of `TITLES` were made of."""
TITLES: Final = {
    CLASSIFIED: "the points with the classes that were used",
    ACCURACY: "errors against check points, a DEM or ground that was held back",
}


def forget_older(recipe: PredictRecipe, out: str | Path) -> None:
    """Remove what was written after the blocks of other sources or options than those of ``recipe``.

    It comes before the blocks, so that no report shows it beside new heights; a file of the same ones stays.
    """
    store = run_store(out)
    items = (json.loads(p.read_text()) for p in sorted(Path(recipe.query.catalog).parent.glob("items/*.json")))
    versions = [[i["id"], i["properties"].get("processing:version")] for i in items]
    card = cards.read(recipe.model, MapCard)
    made_of = digest([versions, recipe.hash, dict(card.made), card.gsd]).encode()
    path = within(store.local / STATE, MADE_OF)
    if read_small(path) == made_of:
        return
    shutil.rmtree(store.inside(CLASSIFIED), ignore_errors=True)
    store.remove(ACCURACY)
    write_bytes(path, made_of)


def finished(asked: ElevationRecipe, out: str | Path) -> dict[str, Any]:
    """Complete the run in ``out``; the contents of ``run.json`` afterwards.

    Raises InputError if there is no finished run, and what reading points or check points raises.
    """
    store = run_store(out)
    said = json.loads(read_small(store.local / STATE / ASKED) or b"{}")
    plan = read_plan(store)
    if asked.write_classes and asked.stereo is None:
        write_all(plan, store.local)
    if asked.check_points is not None or asked.left_out:
        write_json(store.inside(ACCURACY), scored(asked, plan, store))
    files = {name: title for name, title in TITLES.items() if (store.local / name).exists()}
    if asked.stereo is None:
        shutil.rmtree(squares_of(plan.recipe), ignore_errors=True)
    return republish(store, files=files, left_out=said.get("left_out") or {})
