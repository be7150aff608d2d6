"""The program in int8 of a package: ranges of its values on training data, and what it loses on validation data.

What is measured stands in the card of the new package, whose weights are those of the old one; a network that loses
more than half a point of mean IoU is not published.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoml.data.chips import Reader, grid, seen
from geoml.data.prepare import held_out, prepare
from geoml.data.recipe import RasterRecipe
from geoml.data.scene import Piece
from geoml.engine.contract import BACKENDS, Backend
from geoml.engine.packages import package, weights
from geoml.engine.packages.package import Package
from geoml.engine.train.evaluate import check_fit, check_learnt, in_its_units, score
from geoml.errors import DataError, InputError, MissingExtra, ModelError, NothingFound, out_of_memory
from geoml.io.cards.int8 import MOST, Int8, Int8Loss
from geoml.io.cards.map_card import MapCard
from geoml.recipe import Frozen

log = logging.getLogger(__name__)

INT8 = "int8"
CALIBRATES = "onnx"
"""The back end that the ranges are seen by, for all that compute in int8."""
CHIPS = 64
"""Of the train split, spread over all of it: ranges are the least and the largest value on them."""
SPLIT = "val"


def quantize(model: str | Path, recipe: Frozen, out: str | Path) -> MapCard:
    """Write to ``out`` the package ``model`` with the record of its program in int8, and give its card.

    ``recipe`` is the one that it was trained by: its train split gives the ranges, its val split the loss, by each back
    end of this machine that computes in int8. Raises InputError for a model or recipe that this is not for,
    MissingExtra without the library, NothingFound for a train split without a valid pixel, and ModelError if the
    loss is too much by one of them or the network cannot be converted; then nothing is written.
    """
    if not isinstance(recipe, RasterRecipe):
        raise InputError("data: a recipe that trains by itself; expected one of maps")
    loaded = package.load(str(model))
    check_fit(loaded.card, recipe)
    check_learnt(loaded, "so it has no ranges that stay")
    asked_recipe = in_its_units(recipe, loaded.card)
    splits = prepare(asked_recipe)
    train, val = (held_out(splits, name) for name in ("train", SPLIT))
    files = BACKENDS.find(CALIBRATES)
    device = files.choose("fp32")
    reader = Reader()
    exact = BACKENDS.find("torch")
    in_fp32 = exact.Backend(loaded.module, loaded.card.signature, exact.choose("cpu", "fp32"))
    before = score(loaded, val, asked_recipe, reader, in_fp32)
    if not isinstance(before.get("iou"), Mapping):
        raise InputError(f"task: the loss of int8 is measured as IoU of classes, and {loaded.card.task} has none")
    if all(value is None for value in before["iou"].values()):
        raise DataError(f"data: no labelled pixel in the {SPLIT} split, so no loss can be measured")
    images = list(_images(train, loaded.card, reader))
    try:
        ranges, graph = files.Backend(loaded.module, loaded.card.signature, device).calibrate(images)
    except Exception as err:  # a converter of others may raise anything
        if out_of_memory(err):
            raise
        why = str(err).partition("\n")[0][:200]
        raise ModelError(f"{loaded.card.name}: its values in int8 cannot be found ({why})") from err
    record = Int8(
        ranges=ranges, graph=graph, chips=len(images), recipe=recipe.hash, split=SPLIT, pixels=before["pixels"], loss={}
    )
    loss = {
        b.name: Int8Loss(before=before["iou"], after=score(loaded, val, asked_recipe, reader, b)["iou"])
        for b in _backends(loaded, record)
    }
    _judge(loaded.card, loss)
    return _published(model, record.model_copy(update={"loss": loss}), out)


def _images(pieces: Sequence[Piece], card: MapCard, reader: Reader) -> Iterator[NDArray[np.float32]]:
    """Chips (channel, y, x) as the model sees them, spread evenly over the pieces. Raises NothingFound."""
    mean, std = (np.tile([getattr(b, k) for b in card.bands], card.dates)[:, None, None] for k in ("mean", "std"))
    chips = [(piece, window) for piece in pieces for window, _ in grid(piece.window, card.chip_size)]
    some = False
    for k in sorted({round(i) for i in np.linspace(0, len(chips) - 1, CHIPS)}):
        piece, window = chips[k]
        image, valid = seen(reader(piece.scene), window, piece.window)
        if valid.any():
            some = True
            yield ((image - mean) / std * valid).astype(np.float32)
    if not some:
        raise NothingFound("int8: no valid pixel in the chips of the train split")


def _backends(loaded: Package, record: Int8) -> Iterator[Backend]:
    """Those of this machine that compute in int8, with the network."""
    signature = replace(loaded.card.signature, int8=record)
    for name in BACKENDS.names():
        file = BACKENDS.find(name)
        if INT8 in file.Backend.precisions:
            try:
                device = file.choose(INT8)
            except MissingExtra as err:
                log.warning("int8 is not measured by %s: %s", name, err)
                continue
            yield file.Backend(loaded.module, signature, device)


def _judge(card: MapCard, loss: Mapping[str, Int8Loss]) -> None:
    """Raise ModelError if one loses too much."""
    for name, one in loss.items():
        before, after = one.miou
        if one.lost > MOST:
            raise ModelError(
                f"{card.name}: int8 by {name} loses {100 * one.lost:.2f} points of mean IoU"
                f" ({before:.4f} to {after:.4f}); at most {100 * MOST:g} are published"
            )


def _published(model: str | Path, record: Int8, out: str | Path) -> MapCard:
    card, path, content = weights.read(str(model), MapCard)
    return weights.write(
        card.model_copy(update={INT8: record, "name": Path(out).resolve().name}), content, out, path.parent
    )
