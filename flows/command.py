"""``python -m flows.NAME RECIPE.yaml --out DIR``: a flow once, from a recipe file, without a deployment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.exceptions import ParameterBindError, ParameterTypeError

from flows import form
from flows.server import patiently
from geoml.errors import GeomlError, InputError, NothingFound
from geoml.recipe import PredictRecipe, load_yaml, parse
from geoml.settings import settings


def main(run: Flow[..., Any], argv: Sequence[str] | None, options: Sequence[tuple[str, type, Any, str]]) -> int:
    """Run a flow of prediction parameters; ``options`` are name, type, default and help of further ones.

    The exit code is that of the error table.
    """
    parser = argparse.ArgumentParser(prog=f"python -m flows.{run.name}", description=run.description)
    parser.add_argument("recipe", help="YAML file with the fields of a prediction recipe")
    parser.add_argument("--out", required=True, help="folder or URL of the run")
    for name, kind, default, about in options:
        how: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
        parser.add_argument(f"--{name}", default=default, help=about, **how)
    given = vars(parser.parse_args(argv))
    recipe = given.pop("recipe")
    known = run.parameters.properties
    return exit_code(lambda: cast(Any, run)(**_asked(recipe, known), **given, return_state=True))


def _asked(file: str, known: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a recipe file that a flow takes; it may leave ``datetime`` out where the flow does not."""
    value = load_yaml(file)
    if "datetime" not in known and isinstance(value.get("query"), dict):
        value["query"].setdefault("datetime", [".."])
    return {k: v for k, v in form.flat(parse(PredictRecipe, value, file)).items() if k in known}


def exit_code(run: Callable[[], State[Any]]) -> int:
    """Run a flow once; the exit code of the error table, after one line about what went wrong.

    Where Prefect's server was busy the flow is asked again, see `flows.server`.
    """

    def ended() -> None:
        state = run()
        if state.name == "Skipped":
            raise NothingFound(state.message)
        ended_with = state.result(raise_on_failure=True)
        warnings: list[str] = ended_with.get("warnings") or [] if isinstance(ended_with, dict) else []
        for words in warnings:
            print(f"Warning: {words}", file=sys.stderr)

    try:
        settings()  # a wrong setting is said before a server is started
        patiently(ended)
    except (ParameterTypeError, ParameterBindError) as err:
        print(f"InputError parameters: {err}", file=sys.stderr)
        return InputError.exit_code
    except GeomlError as err:
        print(f"{type(err).__name__} {err}", file=sys.stderr)
        return err.exit_code
    return 0
