"""The parameters of a flow as a form in the Prefect UI: the fields of its recipe, typed, with the names known here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, WithJsonSchema

from geoml import fields
from geoml.fields import Option
from geoml.recipe import parse

from . import signatures
from .choices import CHOICES, Schema

R = TypeVar("R")
T = TypeVar("T", bound=BaseModel)

PLACE: Schema = {"type": "string", "pattern": signatures.PATTERN}
"""A path or a URL that holds no secret."""
Text = Annotated[str, WithJsonSchema(PLACE)]
TrainingRecipe = Annotated[str, WithJsonSchema(CHOICES["recipe"])]
Sources = Annotated[list[Text], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Days = Annotated[int, Field(ge=0, le=3660)]
Size = Annotated[float, Field(ge=0)]


def parameters_from(
    kind: type[BaseModel],
    absent: Callable[[Mapping[str, object]], Mapping[str, object]] | None = None,
    choices: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Make the fields of a recipe the parameters of a flow, whose first parameter is the recipe.

    ``absent`` makes the fields that are not parameters of the flow of its other parameters; ``choices`` are names in
    `CHOICES` by field, where that is another one. The recipe checks the values, so the flow raises an InputError that
    names the field.
    """

    def make(run: Callable[..., R]) -> Callable[..., R]:
        options = fields.options(kind, run.__name__)
        parameters = [_parameter(o, CHOICES.get(choices.get(n, n))) for n, o in options.items()]
        flow = fields.expand_recipe(run, parameters, lambda v: recipe({**v, **(absent(v) if absent else {})}, kind))
        signature = inspect.signature(flow)
        ordered = sorted(signature.parameters.values(), key=_need)
        flow.__dict__["__signature__"] = signature.replace(parameters=ordered)
        help = "".join(f"        {n}: {o.about}.\n" for n, o in options.items())
        flow.__doc__ = f"{(run.__doc__ or '').rstrip()}\n{help}"  # its last section describes the other parameters
        return flow

    return make


COMMON = ("bbox", "region", "collection", "reference", "lookback", "until", "fill", "crs", "limit", "filter")
"""Parameters that most runs give, in the order of a form, after what is required."""
RARE = ("batch", "wait")
"""Last in a form: they change no result."""


def _need(parameter: inspect.Parameter) -> tuple[int, int]:
    """Where a parameter stands in a form: what is required first, then what is common, then the rest as written."""
    if parameter.default is parameter.empty:
        return 0, 0
    if parameter.name in COMMON:
        return 1, COMMON.index(parameter.name)
    return (3 if parameter.name in RARE else 2), 0


def _parameter(option: Option, choice: Schema | None) -> inspect.Parameter:
    """A field as a parameter that Prefect shows by its JSON schema, and takes as it comes."""
    schema = choice or dict(option.schema)
    if schema.get("format") == "path":
        schema = PLACE
    if isinstance(items := schema.get("items"), dict) and items.get("format") == "path":
        schema["items"] = PLACE
    if (inner := schema.pop("prefixItems", None)) is not None:
        schema["items"] = PLACE if inner[0].get("format") == "path" else inner[0]
    kept = {k: v for k, v in schema.items() if k not in ("title", "description", "default")}
    if option.required and kept.get("type") == "array":
        kept["minItems"] = 1
    empty = not option.required and option.default is None
    shown = WithJsonSchema({"anyOf": [*kept.get("anyOf", [kept]), {"type": "null"}]} if empty else kept)
    default = inspect.Parameter.empty if option.required else option.default
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[Any, shown]
    )


def recipe(values: Mapping[str, object], kind: type[T]) -> T:
    """The recipe of flat parameters; what is not a field of a recipe is left out. Raises InputError.

    Signatures that URLs name are filled in, see `flows.signatures`.
    """
    resolved = {k: signatures.resolved(v) for k, v in values.items()}
    return parse(kind, fields.nested(kind, resolved), "parameters")
