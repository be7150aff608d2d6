"""``geoml train`` and ``geoml evaluate``: the task that the recipe names trains, scores and has the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from geoml.cli.common import Json, command, err_console, print_scores
from geoml.cli.main import models_show
from geoml.cli.resume import resumable


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "train")(train)
    command(app, "evaluate")(evaluate)


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file, or a name in catalogs/recipes")],
    out: Annotated[Path, typer.Option("--out", help="folder of the new package")],
) -> None:
    """Train a model by a recipe; resumes where it was stopped.

    Example:
    geoml train demo-itaipu -o my-itaipu
    """
    from geoml import pipeline

    key = pipeline.training(recipe)[0].key
    done = 0

    def print_epoch(epoch: dict[str, float]) -> None:
        nonlocal done
        done = int(epoch["epoch"]) + 1
        score = f"  val {key} {epoch[key]:.4f}  best {epoch['best']:.4f}" if key in epoch else ""
        err_console.print(f"epoch {epoch['epoch']:.0f}  loss {epoch['loss']:.4f}{score}", highlight=False)

    with resumable(out, lambda: f"epochs done: {done}", lambda: out / "model.json"):
        pipeline.train(recipe, out, on_epoch=print_epoch)
    models_show(str(out))


def evaluate(
    recipe: Annotated[Path, typer.Argument(help="training recipe, whose held-out split is scored")],
    model: Annotated[str, typer.Option("--model", help="name or package directory")],
    split: Annotated[
        str, typer.Option("--split", help="test, val or train; all: of a model that learns nothing")
    ] = "test",
    as_json: Json = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="also write an HTML report, and beside it a map of what is scored by place"),
    ] = None,
) -> None:
    """Scores of a model on a split of a recipe.

    Example:
    geoml evaluate demo-itaipu -m demo-itaipu
    """
    from geoml import pipeline
    from geoml.io.stores.store import write_text

    scores = pipeline.evaluate(model, recipe, split, report and report.with_suffix(".skill.tif"))
    task, _ = pipeline.training(recipe)
    if as_json:
        print(json.dumps(scores))
    else:
        print_scores(task.name, scores)
    if report:
        write_text(report, task.page(scores))
