"""Train and score a model as a Prefect flow.

python -m flows.train RECIPE.yaml --out DIR
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact

from geoml import pipeline
from geoml.engine.summary import scores_markdown

from . import command, show, signatures, steps
from .form import Text, TrainingRecipe


@task(persist_result=False)
def fit(recipe: str, out: str) -> str:
    """Train by the recipe; goes on from its last checkpoint."""
    with steps.gpu():
        return str(pipeline.train(recipe, out))


@task(persist_result=False)
def score(model: str, recipe: str) -> dict[str, Any]:
    """Scores on the recipe's held-out split."""
    with steps.gpu():
        return pipeline.evaluate(model, recipe)


@signatures.flow("train", "Train a model package by a recipe, with held-out scores.")
def train(recipe: TrainingRecipe, out: Text) -> dict[str, Any]:
    """A recipe in; a model package with held-out scores out.

    Args:
        recipe: A name in catalogs/recipes, or a YAML file as the worker sees it.
        out: Folder of the model package (as the worker sees it); a training that was stopped goes on.
    """
    scores = score(fit(recipe, steps.absolute(out)), recipe)
    page = scores_markdown(pipeline.training(recipe)[0], scores)
    show.publish(create_markdown_artifact, page, key="scores")
    return scores


main = partial(command.run_with_arguments, train)


if __name__ == "__main__":
    sys.exit(main())
