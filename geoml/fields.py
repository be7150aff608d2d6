"""The fields of a recipe as options of a run: commands, flows, forms and the tables of the docs are made of them.

A field has type, default, bounds and description as in pydantic; what else a command or a flow has to know are marks in
its annotation: `Spelled`, `Unhashed`, `Absent`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from types import NoneType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

R = TypeVar("R")
M = TypeVar("M")

BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
HUGE = 1e9
"""A larger upper bound is not shown."""


@dataclass(frozen=True)
class Spelled:
    """How a field is written on a command line: its ``values``, as ``W S E N``, and another ``name`` than its own."""

    values: str = ""
    name: str = ""


@dataclass(frozen=True)
class Unhashed:
    """A field that is not in the hash of its recipe, and ``why``: a run goes on whatever it is."""

    why: str


@dataclass(frozen=True)
class Absent:
    """A field that ``way``, which is the name of a command or a flow, does not have, and ``why``."""

    way: str
    why: str


@dataclass(frozen=True)
class Chosen:
    """A field whose class is chosen by what it holds, so that its own fields are not options of the recipe."""


@dataclass(frozen=True)
class Option:
    """A field and where it lies: ``within`` names the fields around it. ``schema`` is its JSON schema, without null."""

    name: str
    within: tuple[str, ...]
    info: FieldInfo
    schema: Mapping[str, Any]

    @property
    def required(self) -> bool:
        return self.info.is_required()

    @property
    def default(self) -> Any:
        """The value of a recipe that does not say the field; None for one that is required."""
        return None if self.required else self.info.get_default(call_default_factory=True, validated_data={})

    @property
    def about(self) -> str:
        """Its description, and the bounds of a number where they say more than that it is not negative."""
        low, above, high, below = (self.schema.get(k) for k in BOUNDS)
        first = f"at least {low}" if low else f"above {above}" if above is not None else None
        last = f"at most {high}" if high is not None else f"below {below}" if below is not None else None
        both = [f"{low} to {high}"] if low is not None and high is not None else [first, last]
        bounds = " and ".join(filter(None, both)) if max(high or 0, below or 0) < HUGE else first
        return "; ".join(filter(None, (self.info.description, bounds)))

    @property
    def choices(self) -> tuple[str, ...]:
        """Of a text, or of each text in a list; empty if any will do."""
        inner = self.schema.get("items", self.schema)
        return tuple(inner.get("enum") or filter(None, [inner.get("const")]))

    def mark(self, kind: type[M]) -> M | None:
        """The first mark of a kind."""
        return next((m for m in self.info.metadata if isinstance(m, kind)), None)


def options(kind: type[BaseModel], way: str = "") -> dict[str, Option]:
    """All fields of a recipe by name, those of the models in it too; without those that are absent from ``way``."""
    absent = {o.name for o in walk(kind) for m in o.info.metadata if isinstance(m, Absent) and m.way == way}
    return {o.name: o for o in walk(kind) if o.name not in absent}


def walk(kind: type[BaseModel]) -> Iterator[Option]:
    """All fields of a recipe, those of the models in it too, in their order."""
    return _walk(kind, kind.model_json_schema(), ())


def _walk(kind: type[BaseModel], whole: Mapping[str, Any], within: tuple[str, ...]) -> Iterator[Option]:
    inner = whole["$defs"][kind.__name__] if within else whole
    for name, info in kind.model_fields.items():
        if (model := _model(info)) is not None:
            yield from _walk(model, whole, (*within, name))
            continue
        schema = inner["properties"][name]
        (plain, *_) = [s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"]
        yield Option(name, within, info, plain)


def _model(info: FieldInfo) -> type[BaseModel] | None:
    """The model that a field holds, or may hold beside None."""
    if any(isinstance(m, Chosen) for m in info.metadata):
        return None
    (kind, *more) = [a for a in get_args(info.annotation) if a is not NoneType] or [info.annotation]
    return kind if not more and isinstance(kind, type) and issubclass(kind, BaseModel) else None


def nested(kind: type[BaseModel], values: Mapping[str, object]) -> dict[str, object]:
    """Flat values by field name as ``kind`` has them, one mapping in another; what is not a field of it is left out."""
    out: dict[str, object] = {}
    for name, info in kind.model_fields.items():
        if (model := _model(info)) is not None:
            out[name] = nested(model, values)
        elif name in values:
            out[name] = values[name]
    return out


def flat(recipe: BaseModel) -> dict[str, object]:
    """The values of a recipe by field name, signatures of URLs included; `nested` is the inverse."""
    out: dict[str, object] = {}
    for name, value in recipe:
        out |= flat(value) if isinstance(value, BaseModel) else {name: value}
    return out


def unhashed(kind: type[BaseModel]) -> dict[str, Any]:
    """The fields that are `Unhashed`, as ``exclude`` of pydantic's ``model_dump`` takes them."""
    out: dict[str, Any] = {}
    for name, info in kind.model_fields.items():
        model = _model(info)
        if inner := unhashed(model) if model is not None else any(isinstance(m, Unhashed) for m in info.metadata):
            out[name] = inner
    return out


def expand_recipe(
    run: Callable[..., R], fields: Sequence[inspect.Parameter], recipe: Callable[[Mapping[str, Any]], object]
) -> Callable[..., R]:
    """``run(recipe, …)`` as a function of ``fields`` in place of its first parameter, all by keyword.

    ``recipe`` makes the recipe of all values. The signature is that of a function written out.
    """
    _, *own = inspect.signature(run, eval_str=True).parameters.values()
    names = {p.name for p in fields}

    @wraps(run)
    def flattened(**values: object) -> R:
        return run(recipe(values), **{n: v for n, v in values.items() if n not in names})

    ordered = sorted([*fields, *own], key=lambda p: p.default is not p.empty)  # what is required comes first
    ordered = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in ordered]
    flattened.__dict__["__signature__"] = inspect.Signature(ordered)
    flattened.__annotations__ = {p.name: p.annotation for p in ordered}
    return flattened
