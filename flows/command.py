"""``python -m flows.NAME RECIPE.yaml --out DIR``: a flow once, from a recipe file, without a deployment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Container, Sequence
from typing import Any, cast

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.exceptions import ParameterBindError, ParameterTypeError
from pydantic import BaseModel

from geoml import fields
from geoml.errors import GeomlError, InputError, NothingFound
from geoml.recipe import PredictRecipe, load_yaml, parse
from geoml.redacted import redact
from geoml.settings import settings
from geoml.texts import plain

from .server import patiently

AnyFlow = Flow[..., Any]


def run_with_recipe(run: AnyFlow, argv: Sequence[str] | None = None, kind: type[BaseModel] = PredictRecipe) -> int:
    """Run a flow of a ``kind`` of recipe once, from a recipe file; its other parameters are options of the command.

    The exit code is that of the error table.
    """
    parser, parameters = _parser(run), run.parameters.properties
    parser.add_argument("recipe", help="YAML file with the fields of the recipe")
    arguments = _arguments(parser, run, argv, fields.options(kind))
    file = arguments.pop("recipe")
    return exit_code(
        lambda: cast(Any, run)(**_recipe_parameters(file, parameters, kind), **arguments, return_state=True)
    )


def run_with_arguments(run: AnyFlow, argv: Sequence[str] | None = None) -> int:
    """Run a flow once; its first parameter is positional. The exit code is that of the error table."""
    parser, (first, about) = _parser(run), next(iter(run.parameters.properties.items()))
    parser.add_argument(first, help=about["description"], nargs="+" if about.get("type") == "array" else None)
    arguments = _arguments(parser, run, argv, {first})
    return exit_code(lambda: cast(Any, run)(**arguments, return_state=True))


def _parser(run: AnyFlow) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"python -m flows.{run.name}", description=run.description)


def _arguments(
    parser: argparse.ArgumentParser, run: AnyFlow, argv: Sequence[str] | None, elsewhere: Container[str]
) -> dict[str, Any]:
    """What was typed of the parameters of a flow that do not come from ``elsewhere``."""
    for name, about in run.parameters.properties.items():
        if name not in elsewhere:
            kind, default = about.get("type"), about.get("default")
            shown = "" if default in (None, []) else f" (default: {default})"
            action: dict[str, Any] = {"type": {"integer": int, "number": float}.get(str(kind), str)}
            if kind == "boolean":
                action = {"action": argparse.BooleanOptionalAction}
            elif kind == "array":
                action = {"nargs": "+"}
            needed = name in run.parameters.required
            words = f"{about['description']}{shown}".replace("%", "%%")
            parser.add_argument(f"--{name.replace('_', '-')}", required=needed, default=default, help=words, **action)
    return vars(parser.parse_args(argv))


def _recipe_parameters(
    file: str, parameters: Container[str], kind: type[BaseModel] = PredictRecipe
) -> dict[str, object]:
    """The parameters of a recipe file that a flow takes; it may leave ``datetime`` out where the flow does not."""
    value = load_yaml(file)
    if "datetime" not in parameters and isinstance(value.get("query"), dict):
        value["query"].setdefault("datetime", [".."])
    return {k: v for k, v in fields.flat(parse(kind, value, file)).items() if k in parameters}


def exit_code(run: Callable[[], State[Any]]) -> int:
    """Run a flow once; the exit code of the error table, after one line about what went wrong.

    Where Prefect's server was busy the flow is asked again, see `flows.server`.
    """

    def ended() -> None:
        state = run()
        if state.name == "Skipped":
            raise NothingFound(state.message)
        result = state.result(raise_on_failure=True)
        warnings: list[str] = result.get("warnings") or [] if isinstance(result, dict) else []
        for words in warnings:
            print(f"Warning: {plain(redact(words))}", file=sys.stderr)

    try:
        settings()  # a wrong setting is said before a server is started
        patiently(ended)
    except (ParameterTypeError, ParameterBindError) as err:
        print(f"InputError parameters: {plain(redact(str(err)))}", file=sys.stderr)
        return InputError.exit_code
    except GeomlError as err:
        print(f"{type(err).__name__} {err}", file=sys.stderr)
        return err.exit_code
    return 0
