"""``geoml train`` and ``geoml evaluate``: the task that the recipe names trains, scores and has the table."""

from __future__ import annotations

import json
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from geoml.cli import options
from geoml.cli.common import Json, command, err_console, out_console, print_scores
from geoml.cli.main import models_show
from geoml.cli.resume import resumable
from geoml.data.own_recipe import OwnRecipe
from geoml.errors import InputError, MissingExtra
from geoml.io.cog.scene_fields import SceneFields
from geoml.io.report.score_table import number


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "train")(train)
    command(app, "evaluate")(evaluate)


@options.from_recipe(OwnRecipe)
def train(
    own: OwnRecipe,
    out: Annotated[Path, typer.Option("--out", help="folder of the new package")],
    recipe: Annotated[Path | None, typer.Argument(help="YAML file, or a name in catalogs/recipes")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--recipe-only", help="with images and labels: print the recipe, write nothing")
    ] = False,
) -> None:
    """Train a model by a recipe, or from an image and your labels; resumes where it was stopped.

    Example:
    geoml train demo-itaipu -o my-itaipu
    geoml train --image scene.tif --bands blue,green,red,nir --labels fields.gpkg --field crop -o crops
    """
    if recipe is None:
        _train_own(own, out, dry_run=dry_run)
        return
    if own.given or dry_run:
        also = " (a recipe of a STAC catalog lists all files of labels in its source)" if own.add else ""
        raise InputError(
            f"{(own.given or ['dry-run'])[0]}: belongs to an image; expected a recipe or an image, not both{also}"
        )
    _train(recipe, out)
    models_show(str(out))


def _train(recipe: Path, out: Path) -> None:
    """Train, and print each epoch."""
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


def _train_own(own: OwnRecipe, out: Path, *, dry_run: bool) -> None:
    """Make the recipe, show it, train, and print the scores beside those of simple methods."""
    if find_spec("sklearn") is None:  # said before hours of training
        raise MissingExtra("train: scikit-learn is not installed; pip install 'geoml[train]'")
    from geoml.data.own_labels import own_training

    made = own_training(own, out)
    for line in made.text.splitlines():
        out_console.print(line, highlight=False, markup=False)
    for words in made.said:
        err_console.print(words, highlight=False, markup=False)
    if dry_run:
        return
    recipe = made.write(out)
    _train(recipe, out)
    from geoml import pipeline

    found = pipeline.beside_simple(out, recipe)
    print_scores("segmentation", found.scores)
    table = Table("on held-out ground", "mean IoU", "overall accuracy")
    for name, row in found.rows.items():
        table.add_row(name, number(row["miou"]), number(row["overall_accuracy"]))
    out_console.print(table)
    out_console.print(found.verdict, highlight=False)
    out_console.print(f"Map with it: {_map_line(own, out)}", highlight=False, markup=False)


def _map_line(own: OwnRecipe, out: Path) -> str:
    """The command of a map of a further image, with what had to be told of these."""
    words = ["geoml", "predict", "--model", str(out), "--image", "SCENE.tif"]
    for name in SceneFields.model_fields:
        if (value := getattr(own, name)) not in (None, ()):
            words += [f"--{name}", ",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join([*words, "--out", "MAP"])


def evaluate(
    recipe: Annotated[Path, typer.Argument(help="training recipe, whose held-out split is scored")],
    model: Annotated[str, typer.Option("--model", help="name or package directory")],
    split: Annotated[
        str, typer.Option("--split", help="test, val or train; all: for a model that is not trained")
    ] = "test",
    as_json: Json = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="also write an HTML report and, for scores by place, a map beside it"),
    ] = None,
) -> None:
    """Score a model on a split of a recipe.

    Example:
    geoml evaluate demo-itaipu -m demo-itaipu
    """
    from geoml import pipeline
    from geoml.engine.task import check_page
    from geoml.io.stores.store import write_text

    task, _ = pipeline.training(recipe)
    if report:
        check_page(task)
    scores = pipeline.evaluate(model, recipe, split, report and report.with_suffix(".skill.tif"))
    if as_json:
        print(json.dumps(scores))
    else:
        print_scores(task.name, scores)
    if report:
        write_text(report, task.page(scores))
