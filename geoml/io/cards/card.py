"""The metadata of every model package. A task adds its own fields, and defines how they are stored in the STAC item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from geoml.io.cards.order import in_order
from geoml.recipe import Frozen

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Bbox = tuple[float, float, float, float]
Stored = Literal["float32", "float16", "int8"]
BY_NAME = ("scores", "training", "detection", "int8")
"""Fields that say things by the names of classes, or by leads."""


class ModelCard(Frozen, ABC):
    """The fields of all cards. `geoml.io.cards.mlm` writes and reads them; the hooks below do that for the others."""

    model_config = ConfigDict(allow_inf_nan=False)

    what: ClassVar[str] = "a package"
    """What it is the card of, for messages."""
    own: ClassVar[tuple[str, ...]] = ()
    """Names of the properties ``geoml:NAME`` that an item of it may have."""

    name: str
    version: str = "1"
    description: str = ""
    license: str = "Apache-2.0"
    task: str
    bbox: Bbox = Field(default=(-180.0, -90.0, 180.0, 90.0), description="where trained, W S E N in degrees")
    weights: str = Field(default="model.safetensors", description="file beside the item")
    sha256: str = Field(default="", description="of the weights file")
    stored: Stored = Field(default="float32", description="matrices of the weights file; they are read as float32")
    parameters: int = 0
    training: dict[str, Any] = Field(default_factory=dict, description="data, splits, seed, recipe hash")
    scores: dict[str, Any] = Field(default_factory=dict, description="held-out scores as measured")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """What it says by class follows its classes, whichever JSON it comes from: a package's or a plan's."""
        if not isinstance(value, Mapping):
            return value
        given = value.get("classes")
        given = given if isinstance(given, list | tuple) else ()
        names = [str(c.get("name") if isinstance(c, Mapping) else getattr(c, "name", None)) for c in given]
        try:
            return {k: in_order(v, names) if k in BY_NAME else v for k, v in value.items()}
        except RecursionError as err:
            raise ValueError("nested too deeply") from err

    @property
    def learnt(self) -> bool:
        """False of what has no parameters of its own, for which no data are unlike any other."""
        return bool(self.parameters or self.training)

    @abstractmethod
    def row(self) -> tuple[str, str, str, str]:
        """Task, bands, gsd and classes as text, for a table of packages."""

    @abstractmethod
    def to_mlm(self) -> dict[str, object]:
        """Properties of the STAC item that all cards do not share: ``bands``, ``mlm:input``, ``geoml:…``."""

    @classmethod
    @abstractmethod
    def from_mlm(cls, properties: Mapping[str, Any], weights: Mapping[str, object]) -> dict[str, object]:
        """Fields that all cards do not share, from the properties of an item and its asset of the weights.

        May raise what comes of indexing in JSON of any shape, ValueError with a sentence included.
        """

    def footprint(self) -> BaseGeometry:
        """Geometry of the item, in degrees."""
        from geoml.grid.region import from_bbox

        return from_bbox(*self.bbox)
