"""What every file in geoml/tasks and in the tasks of a wing promises; a new file gets these tests without an edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from geoml import pipeline
from geoml.cli.common import out_console, print_scores
from geoml.engine import task as tasks
from geoml.engine.contract import OUTPUTS
from geoml.errors import InputError
from geoml.recipe import Frozen, load_yaml, parse
from geoml.settings import shipped
from geoml.texts import percent
from tests.contract import cases
from tests.contract.cases import Answers, Parts, PixelCase

NAMES = [name for name in tasks.names() if "fit" in dir(tasks.find_any(name))]
LEARNED = [name for name in NAMES if "loss" in dir(tasks.find(name))]
PIXELS = [name for name in LEARNED if OUTPUTS.find(tasks.find(name).output).Output.joiner == "pixels"]

WITHOUT_A_PAGE = ("retrieval", "pretrain", "point_classes")

every_task = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(params=PIXELS)
def case(request: pytest.FixtureRequest) -> PixelCase:
    found: PixelCase = cases.of(request.param).case(request.param)
    return found


def of(name: str) -> Answers:
    found: Answers = cases.of(name).make(name)
    return found


def computed(of: Answers, parts: Parts) -> dict[str, Any]:
    total = of.scores()
    for part in parts:
        total.update(*part)  # type: ignore[attr-defined]  # what it takes is the task's own
    return total.compute()


def scored(case: PixelCase, raw: Tensor, target: Tensor) -> dict[str, Any]:
    total = case.task.scores()
    total.update(*case.decoded(raw, target))
    found: dict[str, Any] = total.compute()
    return found


def recipe_of(name: str) -> Frozen:
    """A shipped recipe of the task's class, here for this task."""
    wanted = tasks.find(name).recipe
    for path in sorted((shipped() / "recipes").glob("*.yaml")):
        value = load_yaml(path)
        if ("task" in value or "query" not in value) and tasks.find(value.get("task", tasks.DEFAULT)).recipe is wanted:
            return parse(wanted, {**value, "task": name}, str(path))
    raise AssertionError(f"no recipe of the class {wanted.__name__} is shipped")


# --- every task, of the core and of the wings


@pytest.mark.parametrize("name", tasks.names())
def test_names_what_it_reads_and_makes(name: str) -> None:
    found = tasks.find_any(name)
    assert found.name == name
    assert found.input
    assert found.output
    assert issubclass(found.card, Frozen)
    if name not in NAMES:
        with pytest.raises(InputError, match=f"task: {name} is not trained"):
            pipeline.training({"task": name})


@every_task
def test_says_what_it_is(name: str) -> None:
    found, file = tasks.find(name), tasks.FILES.find(name)
    assert found.name == name
    assert file.__doc__
    assert found.__doc__
    assert issubclass(found.recipe, Frozen)
    assert {"task", "name", "seed", "license"} <= set(found.recipe.model_fields)
    assert issubclass(found.card, Frozen)
    assert {"name", "scores", "training", "sha256"} <= set(found.card.model_fields)
    assert found.input
    assert found.output


@every_task
def test_key_and_direction_are_those_of_its_scores(name: str) -> None:
    found, made = tasks.find(name), of(name)
    assert (found.key, found.larger_is_better) == (made.scores().key, made.scores().larger_is_better)  # type: ignore[attr-defined]
    assert isinstance(computed(made, made.whole)[found.key], float)


@every_task
def test_perfect_answers_have_the_best_key_and_doing_nothing_is_scored_worse(name: str) -> None:
    found, made = tasks.find(name), of(name)
    perfect, nothing, some = (computed(made, p)[found.key] for p in (made.perfect, made.nothing, made.whole))
    assert perfect == pytest.approx(made.best)
    assert np.isfinite(nothing)
    sign = 1 if found.larger_is_better else -1
    assert sign * perfect > sign * some
    assert sign * perfect > sign * nothing


@every_task
def test_parts_score_as_the_whole(name: str) -> None:
    made = of(name)
    total = made.scores()
    for part in made.parts:
        piece = made.scores()
        piece.update(*part)  # type: ignore[attr-defined]
        total.merge(piece)
    assert total.compute() == computed(made, made.parts) == computed(made, made.whole)


@every_task
def test_a_recipe_comes_back_from_yaml(name: str) -> None:
    found, recipe = tasks.find(name), recipe_of(name)
    value = recipe.model_dump(mode="json")
    again, parsed = pipeline.training(yaml.safe_load(yaml.safe_dump(value)))
    assert again is found
    assert parsed == recipe
    assert parsed.hash == recipe.hash  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="nane"):
        pipeline.training({**value, "nane": 1})


@every_task
def test_its_table_is_printed_and_its_page_written(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_console, "_width", 240)
    found, made = tasks.find(name), of(name)
    scores = made.shown(computed(made, made.whole))
    print_scores(name, scores)
    said = capsys.readouterr().out
    parts = found.table(scores)
    assert parts
    for part in parts:
        words = [part] if isinstance(part, str) else [*part.columns, *(cell for row in part.rows for cell in row)]
        assert all(word in said for word in words)
    value = computed(made, made.whole)[found.key]
    assert any(word in said for word in (f"{value:.3f}", percent(value), f"{value:.0f}")), (
        "the key can be read in the table"
    )
    if name in WITHOUT_A_PAGE:
        with pytest.raises(InputError, match="report: "):
            found.page(scores)
        with pytest.raises(InputError, match="report: "):
            tasks.check_page(found)
    else:
        tasks.check_page(found)
        assert found.page(scores).startswith("<!")


@every_task
def test_what_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        tasks.find(name).score(tmp_path / "no-model", recipe_of(name), "tset")


# --- those of the common loop, which own the loss of every pixel


def test_perfect_output_costs_nothing_and_scores_best(case: PixelCase) -> None:
    found = scored(case, case.right(case.target), case.target)
    assert found[case.task.key] == pytest.approx(of(case.task.name).best)
    assert float(case.task.loss(case.right(case.target), case.target)) < 1e-6


def test_nodata_moves_neither_loss_nor_gradient_nor_score(case: PixelCase) -> None:
    raw, target = case.raw, case.target.clone()
    target[:, :5] = case.unknown
    other = raw.clone()
    other[:, :, :5] = 100 * torch.randn(other[:, :, :5].shape)
    assert float(case.task.loss(raw, target)) == float(case.task.loss(other, target))
    assert scored(case, raw, target) == scored(case, other, target)
    other.requires_grad_()
    case.task.loss(other, target).backward()
    assert other.grad is not None
    assert not other.grad[:, :, :5].any()
    assert other.grad[:, :, 5:].any()


def test_a_batch_of_nodata_gives_zero_and_no_nan(case: PixelCase) -> None:
    raw, nothing = case.raw.clone().requires_grad_(), torch.full_like(case.target, case.unknown)
    loss = case.task.loss(raw, nothing)
    loss.backward()
    assert loss.item() == 0.0
    assert raw.grad is not None
    assert not raw.grad.any()
    found = scored(case, raw.detach(), nothing)
    assert found["pixels"] == 0
    assert found[case.task.key] is None
