"""Source ``several``: other sources as one, such as the towns of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, WithJsonSchema, model_validator

from geoml.data.recipe import NAME, RasterRecipe
from geoml.data.scene import LabelledScene
from geoml.data.source import SOURCES, SourceConfig, of_kind

Name = Annotated[str, Field(pattern=NAME)]
Part = Annotated[SerializeAsAny[SourceConfig], BeforeValidator(of_kind), WithJsonSchema({"type": "object"})]


class Config(SourceConfig):
    """Sources by a name each. The id of a scene begins with the name of its source, NAME/ID, so that a split by files
    holds out the whole of one: ``test: ["nairobi/*"]``."""

    converts: ClassVar[bool] = True

    kind: Literal["several"]
    of: dict[Name, Part] = Field(min_length=1, description="name: source; each as it would be on its own")

    @model_validator(mode="after")
    def _alike(self) -> Self:
        _same([p.looks for p in self.of.values()], "dates")
        _same([p.phase for p in self.of.values()], "anchor")
        if named := [name for name, part in self.of.items() if part.by_label]:
            raise ValueError(f"of: {named[0]} is split by its labels; expected sources whose scenes are split")
        return self

    @property
    def looks(self) -> int:
        return next(iter(self.of.values())).looks

    @property
    def offers(self) -> tuple[str, ...] | None:
        """Bands that all of them have."""
        said = [set(offers) for p in self.of.values() if (offers := p.offers) is not None]
        return tuple(sorted(set.intersection(*said))) if len(said) == len(self.of) else None

    @property
    def phase(self) -> float:
        return next(iter(self.of.values())).phase


def scenes(source: Config, recipe: RasterRecipe) -> list[LabelledScene]:
    """The scenes of every source. Raises what these raise."""
    found: list[LabelledScene] = []
    for name, part in source.of.items():
        of_part: Sequence[LabelledScene] = SOURCES.find(part.kind).scenes(part, _with(recipe, part))
        members = [replace(s, id=f"{name}/{s.id}", members=tuple(f"{name}/{m}" for m in s.members)) for s in of_part]
        found += members
    return found


def _with(recipe: RasterRecipe, part: SourceConfig) -> RasterRecipe:
    return recipe.model_copy(update={"source": part})


def _same(values: Sequence[Any], what: str) -> None:
    if len(set(values)) > 1:
        raise ValueError(f"of: sources of different {what}, {sorted(set(values))}")
