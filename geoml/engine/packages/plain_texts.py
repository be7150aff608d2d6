"""Checks of all texts in the JSON of an exported program, read or not: names and sizes. One pass, any depth."""

from __future__ import annotations

import json
import re

from geoml.engine.packages.archive import Unchecked
from geoml.errors import ModelError

UNREAD = frozenset({"guards_code", "metadata", "treespec_namedtuple_fields", "as_string"})
"""Python text and traces of source code, which every program has; texts as arguments have rules of their own."""

_PLAIN = re.compile(r"[\w.\-+ ]*", re.ASCII)
_TARGET = re.compile(r"torch\.ops\.\w+\.\w+\.\w+|(_operator|math|torch)\.\w+", re.ASCII)
_EXPRESSION = re.compile(
    r"(Mul|Add|Pow|Integer|Symbol|FloorDiv|CleanDiv|Mod|PythonMod|Max|Min|Eq|Ne|Le|Lt|Ge|Gt|positive|nonnegative|integer"
    r"|True|False|'[su]\d+'|\b[su]\d+\b|[\d\s(),=+*/-])*",
    re.ASCII,
)
_SPEC_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}


def check_texts(program: Unchecked, where: str) -> None:
    """Raise ModelError for a text that could be anything but a name, an operator, a size or a plain structure."""
    left: list[tuple[str, Unchecked]] = [("", program)]
    while left:
        key, value = left.pop()
        if isinstance(value, dict):
            names = key if key == "range_constraints" else "key"
            left += [(names, name) for name in value]
            left += [(name, part) for name, part in value.items() if name not in UNREAD]
        elif isinstance(value, list):
            left += [(key, part) for part in value]
        elif isinstance(value, str) and not _good(key, value):
            raise ModelError(
                f"{where}: {key} {value[:80]!r} in the program; only plain tensors and operators are loaded"
            )


def _good(key: str, text: str) -> bool:
    if key == "target":
        return _TARGET.fullmatch(text) is not None
    if key in ("expr_str", "range_constraints"):
        return _EXPRESSION.fullmatch(text) is not None
    if key in ("in_spec", "out_spec"):
        return not text or _plain_spec(text)
    return _PLAIN.fullmatch(text) is not None


def _plain_spec(text: str) -> bool:
    """True for the JSON of a pytree of tuples, lists and dicts."""
    try:
        left = [json.loads(text)]
    except (ValueError, RecursionError):
        return False
    while left:
        spec = left.pop()
        if isinstance(spec, list):
            left += spec
        elif isinstance(spec, dict):
            if spec.get("type") not in _SPEC_TYPES:
                return False
            left.append(spec.get("children_spec", []))
        elif not isinstance(spec, int):
            return False
    return True
