"""Predict as a Prefect flow: plan, batches of blocks as tasks, collect.

python -m flows.predict RECIPE.yaml --out DIR
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import task_run
from prefect.states import Completed

from geoml import pipeline
from geoml.engine.run import Tally
from geoml.errors import GeomlError, NothingFound, TransientError
from geoml.recipe import PredictRecipe, load_yaml, parse

RETRIES = 2
"""Times that a batch with blocks that may work later is tried again; then they count as failed."""


def transient(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Only what may go away by itself is tried again."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=transient, persist_result=False)
def plan(recipe: PredictRecipe, out: str) -> list[str]:
    """Search and cut into blocks; the ids of those that are still to do."""
    pipeline.plan(recipe, Path(out))
    return pipeline.todo(Path(out))


@task(
    retries=RETRIES,
    retry_delay_seconds=[30, 300],
    retry_condition_fn=transient,
    persist_result=False,
    task_run_name="{name}",
)
def blocks(out: str, ids: list[str], name: str) -> Tally:
    """Predict a batch of blocks. A batch that is tried again skips the blocks that are done."""
    log = get_run_logger()
    tally = pipeline.run_blocks(Path(out), ids)
    for key, why in tally.failed.items():
        log.warning("block %s failed: %s", key, why)
    if tally.transient and task_run.run_count <= RETRIES:
        raise TransientError(f"{len(tally.transient)} blocks may work later: {', '.join(tally.transient)}")
    log.info("%s: %d done, %d were done, %d failed", name, len(tally.done), len(tally.skipped), len(tally.failed))
    return tally


@task(persist_result=False)
def collect(out: str, tallies: list[Tally]) -> dict[str, Any]:
    """Merge features, write collection, run.json and the report."""
    return pipeline.collect(Path(out), tallies)


@flow(name="predict", log_prints=False, persist_result=False, validate_parameters=True)
def predict(recipe: PredictRecipe, out: str, batch: int = 8) -> Any:
    """A region, a time range and a model in; a map out.

    Args:
        recipe: what to do; the same as the YAML file of ``python -m flows.predict``.
        out: folder of the run; an unfinished run of the same recipe goes on.
        batch: blocks in one step.
    """
    try:
        ids = plan(recipe, out)
        batches = [ids[i : i + batch] for i in range(0, len(ids), batch)]
        tallies = [blocks(out, part, f"blocks {n + 1} of {len(batches)}") for n, part in enumerate(batches)]
        run = collect(out, tallies)
    except NothingFound as err:
        return Completed(name="Skipped", message=str(err))
    rows = [{"block": key, "state": "done"} for key in run["blocks"]["done"]]
    create_table_artifact(rows, key="blocks", description=f"Blocks of {out}")
    report = (Path(out) / "report.html").resolve().as_uri()
    create_markdown_artifact(f"[Report]({report}) of {len(rows)} blocks, recipe `{run['hash'][:12]}`", key="report")
    return run


def main(argv: list[str] | None = None) -> int:
    """Run the flow once from a recipe file; the exit code is that of the error table."""
    parser = argparse.ArgumentParser(prog="python -m flows.predict", description=predict.__doc__)
    parser.add_argument("recipe", help="YAML file with the fields of a prediction recipe")
    parser.add_argument("--out", required=True, help="folder of the run")
    parser.add_argument("--batch", type=int, default=8, help="blocks in one step")
    given = parser.parse_args(argv)
    try:
        recipe = parse(PredictRecipe, load_yaml(given.recipe), given.recipe)
        state: State[Any] = predict(recipe, given.out, given.batch, return_state=True)  # type: ignore[assignment]
        result = state.result(raise_on_failure=True) if state.name != "Skipped" else None
    except GeomlError as err:
        print(f"{type(err).__name__} {err}", file=sys.stderr)
        return err.exit_code
    if result is None:
        print(f"NothingFound {state.message}", file=sys.stderr)
        return NothingFound.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
