"""The options of a command from the fields of its recipe.

What is typed goes to the recipe as text, whose own check names the field, as it does for Python, YAML and forms.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import GenericAlias
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from geoml import fields
from geoml.fields import Option, Spelled
from geoml.recipe import parse

Command = Callable[..., None]


def from_recipe(kind: type[BaseModel], argument: str = "", where: str = "") -> Callable[[Command], Command]:
    """Give a command the options of a recipe, which is its first parameter; ``argument`` is typed without a name.

    The command raises InputError that names the field; ``where`` begins the message, by default the command's name.
    """

    def register(run: Command) -> Command:
        def recipe(values: Mapping[str, object]) -> BaseModel:
            typed = {n: v for n, v in values.items() if v is not None and v != []}
            return parse(kind, fields.nested(kind, typed), where or run.__name__)

        options = fields.options(kind, run.__name__).values()
        return fields.expand_recipe(run, [parameter(o, argument) for o in options], recipe)

    return register


_TYPES = {"integer": "int", "number": "float", "string": "str"}
"""Types of JSON schema as typer calls them."""


def parameter(option: Option, argument: str = "") -> inspect.Parameter:
    """A field as a parameter that typer understands."""
    schema, spelled = option.schema, option.mark(Spelled) or Spelled()
    annotation: Any = str | None
    default: object = None if option.default is None else str(option.default)
    names = [f"--{spelled.name or option.name.replace('_', '-')}"]
    values = f"<{_TYPES.get(schema['type'])}>"
    if schema["type"] == "boolean":
        annotation, default, values = bool, option.default, "<bool>"
        names = [f"{names[0]}/--no-{names[0][2:]}"] if default else names
    elif "prefixItems" in schema:
        annotation = GenericAlias(tuple, (str,) * len(schema["prefixItems"]))
    elif schema["type"] == "array":
        annotation, default = list[str], [*map(str, option.default or ())] or None
        values = f"<list[{_TYPES[schema['items'].get('type', 'string')]}]>"
    values = spelled.values or "|".join(option.choices) or values
    declared: object = typer.Option(*names, help=option.about, metavar=values)
    if option.name == argument:
        declared = typer.Argument(help=option.about)
    if option.required:
        default = inspect.Parameter.empty
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, declared]
    )
