"""Which software made a block: recorded in its item, and counted over the blocks of a run."""

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
"""Those of which another version is reported when a run is resumed."""
UNKNOWN = "unknown"
"""The version of a block by an older geoml, which did not write it."""
NONE = "none"
"""The version of a library of a back end that had no part in a block."""
MADE_BY = "geoml:backend"
"""Of the item of a block: name, precision, reason and proof of what ran the network."""


@lru_cache(maxsize=1)
def software() -> Mapping[str, str]:
    """The versions in this process, for ``processing:software`` of a STAC item."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def item_software(path: Path) -> object:
    """The ``processing:software`` of the item of a block; None if there is none."""
    try:
        return json.loads(read_small(path) or b"{}")["properties"]["processing:software"]
    except (DataError, ValueError, LookupError, TypeError, RecursionError):
        return None


def count_versions(made: Sequence[object]) -> dict[str, dict[str, int]]:
    """Blocks by version of each package, from the ``processing:software`` of their items.

    Libraries of back ends are there where any block was made by one.
    """
    always = ("python", *PACKAGES)
    others = sorted({name for one in made if isinstance(one, Mapping) for name in one} - set(always))
    counts = {name: Counter(_version(one, name) for one in made) for name in always}
    counts |= {name: Counter(_version(one, name, NONE) for one in made) for name in others}
    return {name: dict(sorted(count.items())) for name, count in counts.items()}


def other_versions(made: Sequence[object]) -> str:
    """A sentence where blocks that are done were made by another geoml or torch than this one; "" where none was."""
    here = tuple(software()[name] for name in DECIDES)
    others = Counter(tuple(_version(one, name) for name in DECIDES) for one in made)
    del others[here]
    if not others:
        return ""
    kinds = "; ".join(f"{n} by {_sentence(versions)}" for versions, n in sorted(others.items()))
    return f"of {len(made)} blocks done before, {kinds}; the others will be by {_sentence(here)}"


def _version(made: object, name: str, missing: str = UNKNOWN) -> str:
    return str(made.get(name, missing)) if isinstance(made, Mapping) else missing


def _sentence(versions: Sequence[str]) -> str:
    return ", ".join(f"{name} {v}" for name, v in zip(DECIDES, versions, strict=True))


def format_versions(versions: Mapping[str, object]) -> dict[str, str]:
    """``versions`` of a ``run.json`` in words: the version alone where all blocks share it."""
    return {name: _words(v) for name, v in sorted(versions.items())}


def _words(value: object) -> str:
    if not isinstance(value, Mapping):  # of a run by an older geoml
        return str(value)
    if len(value) == 1:
        return str(next(iter(value)))
    return " and ".join(f"{v} ({n} blocks)" for v, n in value.items())
