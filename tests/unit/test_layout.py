"""Where names stand: none is private to one module and taken by another, none means two things."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUG_INS = {"geoml/cli", "geoml/models", "geoml/tasks", "geoml/geolocation/heads"}
"""Folders in which a file is a plug-in; they may hold any number of them."""
PROTOCOLS = {"Backend", "Config", "Input", "Output", "Recipe", "Task"}
"""Classes that every plug-in of a kind has under one name."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the product, by its full name."""
    found = {}
    for top in ("geoml", "flows"):
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def taken(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """Private names of the modules ``known`` that a module imports, or reads as an attribute of one."""
    alias = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                if f"{node.module}.{name.name}" in known:
                    alias[name.asname or name.name] = f"{node.module}.{name.name}"
                elif node.module in known and private(name.name):
                    yield f"{node.module}.{name.name}"
        elif isinstance(node, ast.Import):
            alias |= {name.asname: name.name for name in node.names if name.asname and name.name in known}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            module = ast.unparse(node.value)
            if alias.get(module, module) in known:
                yield f"{alias.get(module, module)}.{node.attr}"


def test_no_module_takes_a_private_name_of_another() -> None:
    known = set(modules())
    assert {name: lost for name, tree in modules().items() if (lost := sorted(taken(tree, known)))} == {}


def test_a_private_name_that_is_taken_is_seen() -> None:
    known = {"geoml.a", "geoml.b.c"}
    text = "from geoml.a import _x, y\nfrom geoml import a\nfrom geoml.b import c as d\nimport geoml.b.c\n"
    text += "a._y; d._z; geoml.b.c._w; self._v; a.__doc__; d.e._f\n"
    assert sorted(taken(ast.parse(text), known)) == ["geoml.a._x", "geoml.a._y", "geoml.b.c._w", "geoml.b.c._z"]


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(list)
    for module, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not private(node.name) and node.name not in PROTOCOLS:
                places[node.name].append(module)
    assert len(places) > 200
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_module_is_named_like_a_step() -> None:
    """Else ``from geoml import predict`` would give one or the other, by what was imported before."""
    body = modules()["geoml.pipeline"].body
    steps = {node.name for node in body if isinstance(node, ast.FunctionDef) and not private(node.name)}
    steps |= {name.asname or name.name for node in body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert {"predict", "train"} <= steps
    top = {name.split(".")[1] for name in modules() if name.startswith("geoml.")}
    assert {"pipeline", "engine"} <= top
    assert top & steps == set()


def test_a_folder_holds_at_most_25_modules() -> None:
    files = [p.relative_to(ROOT) for top in ("geoml", "flows") for p in (ROOT / top).rglob("*.py")]
    count = Counter(p.parent.as_posix() for p in files if p.name != "__init__.py")
    assert set(count) >= PLUG_INS
    assert {folder: n for folder, n in count.items() if n > 25 and folder not in PLUG_INS} == {}
