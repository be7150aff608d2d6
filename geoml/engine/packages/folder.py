"""The folder of a model package: where it lies by name, path or URL, and the STAC item that is its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geoml.errors import InputError, ModelError, unknown
from geoml.io.stores.remote import fetch, is_url
from geoml.io.stores.signed import beside
from geoml.settings import settings

CARD = "model.json"
MAX_CARD = 16 * 2**20
"""Bytes; a larger card is not one."""


def names() -> list[str]:
    """Packages in the ``models`` folder of the catalogs."""
    folder = settings().catalogs / "models"
    return sorted(p.parent.name for p in folder.glob(f"*/{CARD}"))


def find(name_or_dir: str | Path) -> Path:
    """The folder of a package, by name, path or URL; of one elsewhere a copy, whose card alone is fetched yet.

    Raises InputError with the nearest name for an unknown one, ModelError for a file of weights without a card.
    """
    if is_url(name_or_dir):
        return fetch(beside(str(name_or_dir), CARD), "model", MAX_CARD).parent
    path = Path(name_or_dir)
    if (path / CARD).is_file():
        return path
    if path.is_file():
        raise ModelError(f"model: {path} is a file; expected a folder with {CARD} (a pickle is never executed)")
    if path.is_dir():
        raise InputError(f"model: {path} has no {CARD}; expected a model package")
    if str(name_or_dir) not in names():
        raise unknown("model", str(name_or_dir), names())
    return settings().catalogs / "models" / str(name_or_dir)


def read_item(path: Path) -> dict[str, Any]:
    """The STAC item in a card's file. Raises ModelError for what is none: too large, no JSON, no mapping."""
    try:
        with path.open("rb") as file:
            body = file.read(MAX_CARD + 1)
        if len(body) > MAX_CARD:
            raise ModelError(f"{path}: larger than {MAX_CARD} bytes; not a model card")
        value = json.loads(body)
    except (OSError, ValueError, RecursionError) as err:
        raise ModelError(f"{path}: not a model card ({err})") from err
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not a model card ({type(value).__name__}; expected a STAC item)")
    return value
