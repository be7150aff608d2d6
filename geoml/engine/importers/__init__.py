"""Published weights into packages: one file each, whose name with hyphens is what ``geoml models import`` calls it.

A file has ``convert(source, out)``: it reads the folder ``source``, compares what comes out with what the original
gave, writes the package ``out`` and gives its card. One of networks that people bring has ``convert(source, out,
asked)``, where ``asked`` says what files leave out (`geoml.engine.packages.import_options`), and may have
``recognises(source)``. A pickle is never executed.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING

from geoml.errors import InputError, unknown
from geoml.registry import Registry

if TYPE_CHECKING:
    from geoml.engine.packages.import_options import ImportOptions
    from geoml.io.cards.card import ModelCard

IMPORTERS = Registry(__name__, "import")


def kinds() -> list[str]:
    """What ``geoml models import`` calls them."""
    return [name.replace("_", "-") for name in IMPORTERS.names()]


def convert(kind_or_file: str, source: Path, out: Path, asked: ImportOptions) -> ModelCard:
    """Import ``source`` as a kind, or a file or folder as what it looks like; the card as written.

    Raises InputError for an unknown kind, a file that no kind recognises, and options that a kind does not ask for;
    else what the kind raises.
    """
    kind = kind_or_file
    if kind not in kinds():
        if not Path(kind).exists():
            if Path(kind).suffix or "/" in kind or os.sep in kind:
                raise InputError(f"import: {kind} does not exist; expected a file, a folder or a kind of import")
            raise unknown("import", kind, kinds())
        if source != Path():
            raise InputError(
                f"source: {source} is given beside {kind}; expected one of them, or a kind before a source"
            )
        kind, source = _recognised(Path(kind)), Path(kind)
    if source != Path() and out.resolve() == source.resolve():
        raise InputError(f"out: {out} is the source itself; expected another folder")
    module = IMPORTERS.find(kind.replace("-", "_"))
    if "asked" not in inspect.signature(module.convert).parameters:
        if given := [n for n, f in type(asked).model_fields.items() if getattr(asked, n) != f.default]:
            raise InputError(f"{given[0]}: {kind} already defines it; leave it out")
        card: ModelCard = module.convert(source, out)
        return card
    if not source.exists():
        raise InputError(f"source: {source} does not exist; expected {module.WHAT}")
    brought: ModelCard = module.convert(source, out, asked)
    return brought


def _recognised(path: Path) -> str:
    found = [module.__name__.rpartition(".")[2] for module in IMPORTERS.having("recognises") if module.recognises(path)]
    if len(found) != 1:
        raise InputError(
            f"import: cannot tell what kind of network {path} is; expected a kind before it: {', '.join(kinds())}"
        )
    return found[0].replace("_", "-")
