"""Tasks: one file each, the file name is the name; a task owns loss, metrics, decoding and the kind of output."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from geoml.errors import unknown


def names() -> list[str]:
    """Every task of the package, found by its file."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def find(task: str) -> ModuleType:
    """The file of a task; its class is ``Task``. Raises InputError, with the nearest name, for an unknown one."""
    known = names()
    if task not in known:
        raise unknown("task", task, known)
    return importlib.import_module(f"{__name__}.{task}")
