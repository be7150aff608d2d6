"""Things that are a file each, whose file name is their name: models, heads, tasks, commands, demos."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from geoml.errors import InputError, unknown
from geoml.texts import listed

GROUPS = ("geoml.models", "geoml.tasks", "geoml.outputs", "geoml.inputs", "geoml.backends")
"""Entry points by which an installed distribution adds a module of its own under a name."""


@dataclass(frozen=True)
class Registry:
    """The files of a package, by its search path at the time of the call; ``word`` is what messages call one.

    With a star, ``geoml.*.tasks``, those of the core and of every wing: ``geoml.tasks``, ``geoml.geolocation.tasks``.
    Modules that installed distributions name in an entry point of the package's name (`GROUPS`) are among them.
    """

    package: str
    word: str

    def names(self) -> list[str]:
        """Every one, found by its file or entry point. Raises InputError for a name that two files have."""
        return sorted({*self._files(), *self._installed()})

    def file(self, name: str) -> Path:
        """The file of a name. Raises InputError, with the nearest name, for one that is not there."""
        module, path = self._locate(name)
        return path or _file_of(module, f"{self.word}: {name}")

    def find(self, name: str) -> ModuleType:
        """The module of a name. Raises InputError for one that is not there."""
        module, path = self._locate(name)
        if path is None:
            _file_of(module, f"{self.word}: {name}")
        return importlib.import_module(module)

    def having(self, member: str) -> list[ModuleType]:
        """The modules that define ``member``."""
        return [module for module in map(self.find, self.names()) if member in vars(module)]

    def summary(self, name: str) -> str:
        """The first line of the docstring of a name's file, which is read and not imported."""
        docstring = ast.get_docstring(ast.parse(self.file(name).read_text(encoding="utf-8"))) or ""
        return docstring.partition("\n")[0]

    def defines(self, name: str, member: str) -> bool:
        """Whether a name's file, which is read and not imported, has ``member`` on its top level."""
        body = ast.parse(self.file(name).read_text(encoding="utf-8")).body
        assigned = {t.id for n in body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
        return member in assigned | {n.name for n in body if isinstance(n, ast.FunctionDef)}

    def fields(self, name: str) -> list[str]:
        """Names of the fields of a file's ``Config``. Raises InputError for one that is not a dataclass."""
        kind = getattr(self.find(name), "Config", None)
        if not is_dataclass(kind):
            raise InputError(f"{self.word}: {name} has no dataclass Config; expected a frozen dataclass of that name")
        return [field.name for field in fields(kind)]

    def configure(self, name: str, config: Mapping[str, object]) -> Any:
        """The ``Config`` of a file from plain values (JSON, YAML), types checked.

        Raises InputError, naming the field, for an unknown or missing one and for a value of the wrong kind.
        """
        from pydantic import TypeAdapter, ValidationError

        known = self.fields(name)
        if extra := sorted(set(config) - set(known)):
            raise unknown(f"config of {name}", extra[0], known)
        kind = self.find(name).Config
        try:
            return TypeAdapter(kind).validate_python(dict(config))
        except ValidationError as err:
            lines = [f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in err.errors()]
            raise InputError(f"config of {name}: {listed(lines, joined='; ')}") from err

    def build(self, name: str, config: Mapping[str, object]) -> Any:
        """What the file builds of its ``Config``. Raises InputError as `configure` does."""
        return self.find(name).build(self.configure(name, config))

    def _locate(self, name: str) -> tuple[str, Path | None]:
        """Module of a name, and its file where that is one of geoml."""
        files, installed = self._files(), self._installed()
        places = [(f"{files[name][0]}.{name}", files[name][1], "geoml")] if name in files else []
        found = [*places, *((module, None, owner) for module, owner in installed.get(name, ()))]
        if not found:
            raise unknown(self.word, name, {*files, *installed})
        if len(found) > 1:
            owners = " and ".join(f"{owner} ({module})" for module, _, owner in found)
            raise InputError(f"{self.word}: {name} is a name in {owners}; uninstall one, or have its maker rename it")
        return found[0][:2]

    def _installed(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """Modules and distributions of the entry points by name."""
        group = self.package.replace(".*", "")
        return _entry_points(group) if group in GROUPS else {}

    def _files(self) -> dict[str, tuple[str, Path]]:
        """Package and file by name."""
        files: dict[str, tuple[str, Path]] = {}
        for package in self._packages():
            for folder in importlib.import_module(package).__path__:
                for name, path in _modules(Path(folder)):
                    if name in files:
                        raise InputError(f"{self.word}: {name} is a name of two files, {files[name][1]} and {path}")
                    files[name] = package, path
        return files

    def _packages(self) -> Iterator[str]:
        """The package, or those of the core and of the wings, which are found by their folders."""
        before, star, after = self.package.partition(".*.")
        yield f"{before}.{after}" if star else before
        for root in importlib.import_module(before).__path__ if star else ():
            wings = sorted(Path(root).glob(f"*/{after}/__init__.py"))
            yield from (f"{before}.{path.parent.parent.name}.{after}" for path in wings)


@cache
def _entry_points(group: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Of each name the modules and the names of their distributions; read once in a process, nothing is imported."""
    from importlib.metadata import entry_points

    found: dict[str, set[tuple[str, str]]] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, set()).add((point.module, point.dist.name if point.dist else "a distribution"))
    return {name: tuple(sorted(places)) for name, places in found.items()}


def _file_of(module: str, what: str) -> Path:
    """The source of an installed module. Raises InputError if there is none."""
    from importlib.util import find_spec

    try:
        spec = find_spec(module)
    except (ImportError, ValueError) as err:
        raise InputError(f"{what} is {module} of an entry point, which cannot be imported ({err})") from err
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise InputError(f"{what} is {module} of an entry point, which is not there; install its distribution again")
    return Path(spec.origin)


def _modules(folder: Path) -> Iterator[tuple[str, Path]]:
    for module in pkgutil.iter_modules([str(folder)]):
        if not module.name.startswith("_"):
            yield module.name, folder / module.name / "__init__.py" if module.ispkg else folder / f"{module.name}.py"
