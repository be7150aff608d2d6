"""Train and score a model as a Prefect flow.

python -m flows.train RECIPE.yaml --out DIR
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from geoml import pipeline
from geoml.errors import GeomlError


@task(persist_result=False)
def fit(recipe: str, out: str) -> str:
    """Train by the recipe; goes on from its last checkpoint."""
    return str(pipeline.train(recipe, out))


@task(persist_result=False)
def score(model: str, recipe: str) -> dict[str, Any]:
    """Scores on the recipe's held-out split."""
    return pipeline.evaluate(model, recipe)


@flow(name="train", persist_result=False, validate_parameters=True)
def train(recipe: str, out: str) -> dict[str, Any]:
    """A recipe in; a model package with held-out scores out.

    Args:
        recipe: training recipe, a YAML file.
        out: folder of the model package.
    """
    scores = score(fit(recipe, out), recipe)
    create_markdown_artifact(f"```json\n{json.dumps(scores, indent=1)[:20000]}\n```", key="scores")
    return scores


def main(argv: list[str] | None = None) -> int:
    """Run the flow once; the exit code is that of the error table."""
    parser = argparse.ArgumentParser(prog="python -m flows.train", description=train.__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--out", required=True)
    given = parser.parse_args(argv)
    try:
        train(given.recipe, given.out)
    except GeomlError as err:
        print(f"{type(err).__name__} {err}", file=sys.stderr)
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
