"""The demo model on real scenes that it was not made for, and records of shipped recipes on their held-out ground.

The numbers are those of docs/domain.md, which ``python tests/benchmarks/domain.py`` prints with the maps.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from geoml import pipeline
from geoml.errors import ModelError
from geoml.io.cards.domain import PARTLY
from geoml.recipe import PredictRecipe

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """``tests/benchmarks/domain.py``, which is no package."""
    path = Path(__file__).parents[1] / "benchmarks" / "domain.py"
    spec = importlib.util.spec_from_file_location("bench_domain", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nine_of_ten_foreign_scenes_are_called_unlike_before_the_model_runs(bench: ModuleType, tmp_path: Path) -> None:
    shares = {}
    for n, scene in enumerate(bench.foreign()):
        out = tmp_path / f"{n}"
        pipeline.plan(PredictRecipe.model_validate(bench.recipe_of(scene, out)), out / "run")
        found = json.loads((out / "run" / ".geoml" / "domain.json").read_text())
        assert found["pixels"] > 1000
        shares[scene[0]] = found["unlike"] / found["pixels"]
    assert len(shares) >= 10
    assert sum(share > PARTLY for share in shares.values()) >= 0.9 * len(shares), shares
    assert shares["Landsat 8, Virginia, same processing"] > 0.5  # most of its forest is called water, at 0.94


def test_raw_numbers_for_a_model_of_reflectance_are_refused(bench: ModuleType, tmp_path: Path) -> None:
    for n, scene in enumerate(bench.raw()):
        recipe = PredictRecipe.model_validate(bench.recipe_of(scene, tmp_path / f"{n}"))
        with pytest.raises(ModelError, match="another unit or scaling"):
            pipeline.plan(recipe, tmp_path / f"{n}" / "run")
        allowed = recipe.model_copy(update={"out_of_domain": "allow"})
        assert pipeline.plan(allowed, tmp_path / f"{n}" / "run").blocks


@pytest.mark.parametrize("recipe", ["demo-itaipu", "sen1floods11-water", "urban-trees", "osm-buildings"])
def test_of_held_out_ground_at_most_one_piece_in_ten_is_called_unlike(bench: ModuleType, recipe: str) -> None:
    found = bench.held_out(recipe)
    assert found["pieces"] >= 5
    assert found["warned"] <= 0.1 * found["pieces"]
    assert found["mean"] < 0.05
