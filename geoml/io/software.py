"""Which software made a block: its item says it, and a run counts its blocks by it."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from geoml.errors import DataError
from geoml.io.stores.store import read_small

PACKAGES = ("geoml", "torch", "rasterio", "segmentation-models-pytorch", "odc-geo", "numpy")
DECIDES = ("geoml", "torch")
"""Those whose other version is said when a run goes on."""
UNKNOWN = "unknown"
"""Version where a block of an older geoml does not say it."""


@lru_cache(maxsize=1)
def software() -> Mapping[str, str]:
    """The versions in this process, for ``processing:software`` of a STAC item."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def of_item(path: Path) -> object:
    """What the item of a block says of the software that made it; None where it says nothing."""
    try:
        return json.loads(read_small(path) or b"{}")["properties"]["processing:software"]
    except (DataError, ValueError, LookupError, TypeError, RecursionError):
        return None


def counted(made: Sequence[object]) -> dict[str, dict[str, int]]:
    """Blocks by version of each package, from the ``processing:software`` of their items."""
    return {name: dict(sorted(Counter(_of(one, name) for one in made).items())) for name in ("python", *PACKAGES)}


def others(made: Sequence[object]) -> str:
    """A sentence where blocks that are done were made by another geoml or torch than this one; "" where none was."""
    here = tuple(software()[name] for name in DECIDES)
    found = Counter(tuple(_of(one, name) for name in DECIDES) for one in made)
    del found[here]
    if not found:
        return ""
    kinds = "; ".join(f"{n} by {_said(versions)}" for versions, n in sorted(found.items()))
    return f"of {len(made)} blocks done before, {kinds}; the others will be by {_said(here)}"


def _of(made: object, name: str) -> str:
    return str(made.get(name, UNKNOWN)) if isinstance(made, Mapping) else UNKNOWN


def _said(versions: Sequence[str]) -> str:
    return ", ".join(f"{name} {v}" for name, v in zip(DECIDES, versions, strict=True))


def shown(versions: Mapping[str, object]) -> dict[str, str]:
    """``versions`` of a ``run.json`` in words: the version alone where all blocks share it."""
    return {name: _words(v) for name, v in sorted(versions.items())}


def _words(value: object) -> str:
    if not isinstance(value, Mapping):  # of a run by an older geoml
        return str(value)
    if len(value) == 1:
        return str(next(iter(value)))
    return " and ".join(f"{v} ({n} blocks)" for v, n in value.items())
