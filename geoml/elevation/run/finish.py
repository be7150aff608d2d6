"""What comes after the blocks of a run: check points, classes written back, and files that were left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geoml.elevation.recipe import ElevationRecipe
from geoml.elevation.run.points import ASKED
from geoml.engine.run.collect import republish
from geoml.engine.run.plan import STATE
from geoml.io.stores.remote import run_store
from geoml.io.stores.store import read_small


def finished(asked: ElevationRecipe, out: str | Path) -> dict[str, Any]:
    """Complete the run in ``out``; what ``run.json`` says then."""
    store = run_store(out)
    said = json.loads(read_small(store.local / STATE / ASKED) or b"{}")
    files: dict[str, str] = {}
    return republish(store, files=files, left_out=said.get("left_out") or {})
