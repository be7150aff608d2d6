"""Things that are a file each, whose file name is their name: models, heads, tasks."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from geoml.errors import InputError, unknown
from geoml.texts import listed


@dataclass(frozen=True)
class Registry:
    """The files of a ``package``, as its search path is when they are asked for; ``word`` is what messages call one."""

    package: str
    word: str

    def names(self) -> list[str]:
        """Every one of the package, found by its file."""
        folders = importlib.import_module(self.package).__path__
        return sorted(m.name for m in pkgutil.iter_modules(folders) if not m.name.startswith("_"))

    def find(self, name: str) -> ModuleType:
        """The file of a name. Raises InputError, with the nearest name, for one that is not there."""
        known = self.names()
        if name not in known:
            raise unknown(self.word, name, known)
        return importlib.import_module(f"{self.package}.{name}")

    def configure(self, name: str, config: Mapping[str, Any]) -> Any:
        """The ``Config`` of a file from plain values (JSON, YAML), types checked.

        Raises InputError, naming the field, for an unknown or missing one and for a value of the wrong kind.
        """
        from pydantic import TypeAdapter, ValidationError

        kind = self.find(name).Config
        if extra := sorted(set(config) - set(kind.__dataclass_fields__)):
            raise unknown(f"config of {name}", extra[0], kind.__dataclass_fields__)
        try:
            return TypeAdapter(kind).validate_python(dict(config))
        except ValidationError as err:
            lines = [f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in err.errors()]
            raise InputError(f"config of {name}: {listed(lines, joined='; ')}") from err

    def build(self, name: str, config: Mapping[str, Any]) -> Any:
        """What the file builds of its ``Config``. Raises InputError as `configure` does."""
        return self.find(name).build(self.configure(name, config))
