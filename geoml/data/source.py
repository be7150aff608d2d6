"""Sources of training data describe themselves: the class ``Config`` of a file in `geoml.data.sources`.

The file also has ``scenes(source, recipe)``, which returns every `LabelledScene`, unread. A recipe names a source by
``kind``, the name of the file; fields, errors and JSON schema are those of its ``Config``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, GetJsonSchemaHandler, SerializeAsAny
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from geoml.errors import unknown
from geoml.fields import Chosen
from geoml.recipe import Frozen
from geoml.registry import Registry

SOURCES = Registry("geoml.data.sources", "source")


class SourceConfig(Frozen):
    """What every source declares; those of files have fields ``root`` and ``file_bands``."""

    by_label: ClassVar[bool] = False
    """Its label files can decide the split."""
    converts: ClassVar[bool] = False
    """Gives values in the units of the recipe, so that these count for the hash; others are read as they are."""

    kind: str

    @property
    def looks(self) -> int:
        """Number of images of one place in a sample."""
        return 1

    @property
    def offers(self) -> tuple[str, ...] | None:
        """Names of the bands; None if only its data say them."""
        return None

    @property
    def folder(self) -> str | None:
        """The folder that file names are relative to, also those in split lists."""
        return None

    @property
    def phase(self) -> float:
        """Pixel phase of the plane of the model."""
        return 0.0


class FileSource(SourceConfig):
    """A source of files below a folder, whose images have the bands ``file_bands``."""

    root: str
    file_bands: tuple[str, ...]

    @property
    def offers(self) -> tuple[str, ...] | None:
        return self.file_bands

    @property
    def folder(self) -> str | None:
        return self.root


def config_of(kind: str) -> type[SourceConfig]:
    """The class of a source's fields. Raises InputError, with the nearest name, for one that is not there."""
    found: type[SourceConfig] = SOURCES.find(kind).Config
    return found


def of_kind(value: Any) -> Any:
    """Plain values as the ``Config`` that their kind names. Raises InputError for no kind or an unknown one."""
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    if not isinstance(kind, str):
        raise unknown("source", str(kind), SOURCES.names())
    return config_of(kind).model_validate(value)


@dataclass(frozen=True)
class _Schema:
    """One of all sources, told apart by their kind."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        kinds = {
            name: handler.resolve_ref_schema(handler(config_of(name).__pydantic_core_schema__))
            for name in SOURCES.names()
        }
        return {"oneOf": list(kinds.values()), "discriminator": {"propertyName": "kind"}}


Source = Annotated[SerializeAsAny[SourceConfig], BeforeValidator(of_kind), _Schema(), Chosen()]
