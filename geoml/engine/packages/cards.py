"""Packages by name, folder or URL, and their cards: a package is a folder with weights and ``model.json``, its card.

The card is a STAC item with the MLM extension and is written last, so a folder that has one is whole. Nothing here
reads weights or imports torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from geoml.errors import InputError, ModelError, unknown
from geoml.io.cards import mlm
from geoml.io.cards.card import ModelCard
from geoml.io.cards.kinds import card_of
from geoml.io.stores import store
from geoml.io.stores.remote import fetch, is_url
from geoml.io.stores.signed import join_url
from geoml.settings import catalog_file, catalog_files

C = TypeVar("C", bound=ModelCard)

CARD = "model.json"
MAX_CARD = 16 * 2**20
"""Bytes; a larger card is not one."""


def names(kind: type[ModelCard] | None = None) -> list[str]:
    """Packages in the ``models`` folders of the catalogs with a card of ``kind`` or any; a damaged one is a map."""
    paths = catalog_files(f"models/*/{CARD}").values()
    return [path.parent.name for path in paths if kind is None or issubclass(_kind(path), kind)]


def find(name_or_dir: str | Path) -> Path:
    """The folder of a package, by name, path or URL; of a URL a copy with nothing but the card.

    Raises InputError with the nearest name for an unknown one, ModelError for a file of weights without a card.
    """
    if is_url(name_or_dir):
        return fetch(join_url(str(name_or_dir), CARD), "model", MAX_CARD).parent
    path = Path(name_or_dir)
    if (path / CARD).is_file():
        return path
    if path.is_file():
        raise ModelError(f"model: {path} is a file; expected a folder with {CARD} (a pickle is never executed)")
    if path.is_dir():
        raise InputError(f"model: {path} has no {CARD}; expected a model package")
    if str(name_or_dir) not in names():
        raise unknown("model", str(name_or_dir), names())
    return catalog_file(f"models/{name_or_dir}")


def read(name_or_dir: str | Path, kind: type[C]) -> C:
    """The card of a package; its weights are not read.

    Raises InputError for an unknown name, ModelError for a damaged card and for one of another kind.
    """
    return read_in(find(name_or_dir), kind)


def read_any(name_or_dir: str | Path) -> ModelCard:
    """The card of a package of any kind. Raises InputError or ModelError as `read`."""
    path = find(name_or_dir) / CARD
    item = read_item(path)
    return mlm.from_item(item, card_of(item), str(path))


def read_in(folder: Path, kind: type[C]) -> C:
    """The card in a folder. Raises ModelError for one that is damaged or of another kind."""
    return mlm.from_item(read_item(folder / CARD), kind, str(folder / CARD))


def read_item(path: Path) -> dict[str, Any]:
    """The STAC item in a card's file. Raises ModelError for one that is too large, not JSON or not a mapping."""
    try:
        body = store.read_capped(path, MAX_CARD)
        if len(body) > MAX_CARD:
            raise ModelError(f"{path}: larger than {MAX_CARD} bytes; not a model card")
        value = json.loads(body)
    except (OSError, ValueError, RecursionError) as err:
        raise ModelError(f"{path}: not a model card ({err})") from err
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not a model card ({type(value).__name__}; expected a STAC item)")
    return value


def write(card: ModelCard, directory: str | Path) -> None:
    """Write the card of a package whose weights are in place (also to add scores later). Raises DataError."""
    directory = Path(directory)
    item = mlm.to_item(card, (directory / card.weights).stat().st_size)
    store.write_json(directory / CARD, item.to_dict(include_self_link=False, transform_hrefs=False))


def _kind(path: Path) -> type[ModelCard]:
    try:
        return card_of(read_item(path))
    except ModelError:
        return card_of({})
