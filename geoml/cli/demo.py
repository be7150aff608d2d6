"""``geoml demo``: the main job, or one of the files of `geoml.cli.demos`, each of which is a flag."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from geoml.cli.common import command, out_console, print_scores
from geoml.cli.predict import outputs
from geoml.errors import InputError
from geoml.registry import Registry

DEMOS = Registry("geoml.cli.demos", "demo")
Out = Annotated[Path, typer.Option("--out", help="folder of the run")]


def register(app: typer.Typer) -> None:
    """Add the command, with a flag for each demo that is there."""

    def run(out: Path, **flags: bool) -> None:
        """Run the whole pipeline on bundled data, as a Prefect flow if Prefect is installed. Needs no network.

        Example:
        geoml demo -o demo-out
        """
        chosen = [name for name, is_set in flags.items() if is_set]
        if len(chosen) > 1:
            raise InputError(f"demo: {' '.join(map(_option, chosen))}; expected one of them")
        demo = DEMOS.find(chosen[0]).run if chosen else main_job
        demo(out)

    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_parameter("out", Out, Path("demo-out")), *(_parameter(name, _flag(name), False) for name in DEMOS.names())]
    )
    command(app, "demo")(run)


def _parameter(name: str, kind: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _flag(name: str) -> object:
    summary = DEMOS.summary(name).rstrip(".")
    return Annotated[bool, typer.Option(_option(name), help=summary[:1].lower() + summary[1:])]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def main_job(out: Path) -> None:
    """The map of the embedded scene, and the held-out scores of its model."""
    from geoml.engine.packages import cards
    from geoml.settings import shipped

    run_recipe(shipped() / "recipes" / "demo-predict.yaml", out)
    card = cards.read_any("demo-itaipu")
    if not card.scores:
        raise InputError("demo-itaipu: the card has no held-out scores")
    out_console.print(f"held-out scores of {card.name} (labels that training never saw):")
    print_scores(card.task, card.scores)


def run_recipe(recipe: Path, out: Path) -> None:
    """Run the flow of a recipe, without Prefect its steps in this process, and show what was written."""
    if has_prefect():
        run_flow("predict", recipe, "--out", out)
    else:
        from geoml import pipeline
        from geoml.cli.progress import progress_bar
        from geoml.recipe import load_yaml

        with progress_bar(out) as bar:
            pipeline.predict(load_yaml(recipe), out, progress=bar.advance, started=bar.start)
    outputs(out, json.loads((out / "run.json").read_text(encoding="utf-8")))
    out_console.print(f"Look at {(out / 'report.html').resolve()}")


def has_prefect() -> bool:
    """Whether flows can run here (extra ``prefect``)."""
    return importlib.util.find_spec("prefect") is not None


def flows_package() -> str:
    """The package of the flows: ``geoml_flows`` of a wheel, so that a ``flows`` of the user's own is left alone, and
    ``flows`` of a checkout."""
    return "geoml_flows" if importlib.util.find_spec("geoml_flows") else "flows"


def run_flow(name: str, *words: object) -> None:
    """Run a flow as a program; its exit code becomes ours when it fails."""
    # the flow is a process of its own: orchestration stands above the commands and is never imported by them
    with tempfile.TemporaryDirectory(prefix="geoml-prefect-") as home:
        run = subprocess.run(
            [sys.executable, "-m", f"{flows_package()}.{name}", *map(str, words)],
            env=prefect_environment(home),
            check=False,
        )
    if run.returncode:
        raise typer.Exit(run.returncode)


def prefect_environment(home: str) -> dict[str, str]:
    """Prefect for a process that serves nobody else: its own home, no analytics; the environment has the last word."""
    own = {"PREFECT_HOME": home, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    return own | {"PREFECT_LOGGING_LEVEL": "WARNING"} | dict(os.environ)
