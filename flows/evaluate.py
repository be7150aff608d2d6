"""Score a model as a Prefect flow: python -m flows.evaluate RECIPE --model NAME [--split SPLIT]."""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated, Any, Literal

from prefect import task
from prefect.artifacts import create_markdown_artifact
from pydantic import WithJsonSchema

from geoml import pipeline
from geoml.engine.summary import scores_markdown

from . import command, show, signatures, steps
from .choices import CHOICES
from .form import TrainingRecipe

Model = Annotated[str, WithJsonSchema(CHOICES["any_model"])]


@task(persist_result=False)
def score(model: str, recipe: str, split: str) -> dict[str, Any]:
    """Scores on a split of the recipe."""
    with steps.gpu():
        return pipeline.evaluate(model, recipe, split)


@signatures.flow("evaluate", "Score a model on the held-out labels of a training recipe.")
def evaluate(recipe: TrainingRecipe, model: Model, split: Literal["test", "val", "train", "all"] = "test") -> Any:
    """Scores of a model on a split of a recipe, beside those of doing nothing.

    Args:
        recipe: A name in catalogs/recipes, or a YAML file as the worker sees it.
        model: A name in catalogs/models, or the folder or URL of a package.
        split: Which part of the labels; all is for a model that learns nothing.
    """
    scores = score(signatures.resolved(model), recipe, split)
    page = scores_markdown(pipeline.training(recipe)[0], scores)
    show.publish(create_markdown_artifact, page, key="scores")
    return scores


main = partial(command.run_with_arguments, evaluate)


if __name__ == "__main__":
    sys.exit(main())
