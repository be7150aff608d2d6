"""A radius by tolerance: how many pixels get another class with a smaller halo, as measured on validation data.

Near the edge of a core a pixel lacks context, so what changes is counted by the distance to that edge, on chips so
small that their edges are many, and added up for the chips that a run has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoml.data.chips import Reader
from geoml.data.prepare import held_out, prepare
from geoml.data.recipe import RasterRecipe
from geoml.data.scene import Piece, Sample
from geoml.engine.contract import output_of
from geoml.engine.inference.predict import Predictor, map_sample
from geoml.engine.packages import package, weights
from geoml.engine.packages.package import Package
from geoml.engine.train.evaluate import check_fit, check_learnt, in_its_units
from geoml.errors import InputError, ModelError
from geoml.grid.chips import ChipGrid
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard
from geoml.io.cards.short_radius import MOST, RadiusShare, ShortRadius
from geoml.recipe import Frozen

SPLIT, TEST = "val", "test"
CLASS = "class"
"""The layer that is compared."""


class Measured(NamedTuple):
    """The share of pixels, 0 to 1, that have another class, and how many pixels that is of."""

    changed: float
    pixels: int


class Shortened(NamedTuple):
    """The card as written, and what the test split says of its radius; None without one that can be measured on."""

    card: MapCard
    test: Measured | None


def shorten(model: str | Path, recipe: Frozen, tolerance: float, out: str | Path) -> Shortened:
    """Write to ``out`` the package ``model`` with the least radius that changes at most ``tolerance`` of the classes.

    ``recipe`` is the one that it was trained by: its val split chooses, its test split is looked at once. ``tolerance``
    is a share of pixels, above 0 and at most 0.05. Raises InputError for a model, recipe or tolerance that this is not
    for, and for data that cannot tell; ModelError if every smaller radius changes more. Then nothing is written.
    """
    if not 0 < tolerance <= MOST:
        raise InputError(f"tolerance: {tolerance}; expected a share above 0 and at most {MOST}")
    if not isinstance(recipe, RasterRecipe):
        raise InputError("data: a recipe that trains by itself; expected one of maps")
    loaded = package.load(str(model))
    check_fit(loaded.card, recipe)
    radii = _smaller(loaded)
    check_learnt(loaded, "a radius by tolerance is measured with the weights of the run")
    splits, read = prepare(in_its_units(recipe, loaded.card)), Reader()
    predictor = Predictor(loaded)
    found = _measure(predictor, held_out(splits, SPLIT), radii, read)
    if not found:
        raise InputError(
            f"data: no valid pixel of {SPLIT} lies {predictor.grid.halo} pixels inside its scene, as far as "
            f"{loaded.card.name} sees; expected larger scenes"
        )
    fits = [radius for radius in radii if found[radius].changed <= tolerance]
    if not fits:
        least = min(found.values())
        raise ModelError(
            f"{loaded.card.name}: every radius below {loaded.card.radius} changes more than {100 * tolerance:g} %"
            f" of the pixels, {100 * least.changed:.2g} % at least; nothing is written"
        )
    card = _published(model, recipe, tolerance, min(fits), found, predictor.backend.precision, out)
    test = _measure(predictor, splits[TEST], [min(fits)], read)
    return Shortened(card, test.get(min(fits)))


def _smaller(loaded: Package) -> list[int]:
    """Radii to try: halves of the halo and theirs, on the stride. Raises InputError for a model that has none."""
    card = loaded.card
    if card.short_radius is not None:
        raise InputError(f"model: {card.name} has a radius by tolerance; expected the package that it was made of")
    if card.int8 is not None:
        raise InputError(
            f"model: {card.name} says what it loses in int8 with its whole radius; expected the package that it was"
            " made of, to be quantized afterwards"
        )
    if CLASS not in [layer.key for layer in output_of(card).layers]:
        raise InputError(f"task: changed pixels are counted by class, and {card.task} has none")
    if card.radius is None:
        raise InputError(f"model: {card.name} sees its whole chip, so its radius cannot be reduced")
    halo, stride = -(-card.radius // card.stride) * card.stride, card.stride
    halves = [-(-halo // (stride * 2**k)) * stride for k in range(1, halo.bit_length())]
    if not (radii := sorted({r for r in halves if r < card.radius}, reverse=True)):
        raise InputError(f"model: {card.name} sees {card.radius} pixels, and no smaller halo is on its stride {stride}")
    return radii


def _measure(predictor: Predictor, pieces: Sequence[Piece], radii: Sequence[int], read: Reader) -> dict[int, Measured]:
    """By radius what it changes, on the pixels of pieces whose whole sight lies in their scene; empty without any."""
    usual = predictor.grid
    core = _core(predictor.card)
    small = min(core, 2 * usual.halo)  # every distance that a smaller halo can matter at, and no more
    seen = np.zeros(small // 2 + 1, np.int64)
    changed = {radius: np.zeros_like(seen) for radius in radii}
    for piece in pieces:
        sample, scene = read(piece.scene), piece.scene.window
        window = piece.window.intersect(scene.expand(-usual.halo))
        if window.empty or not (valid := sample.valid[window.slices(scene)]).any():
            continue
        exact = _classes(predictor, sample, window, scene)
        distance = _distance(window, small)[valid]
        seen += np.bincount(distance, minlength=len(seen))
        for radius in radii:
            chips = copy(predictor)
            chips.grid = ChipGrid(small + 2 * radius, small, radius, usual.stride, whole=True)
            other = (_classes(chips, sample, window, scene) != exact)[valid]
            changed[radius] += np.bincount(distance[other], minlength=len(seen))
    if not seen.any():
        return {}
    return {radius: Measured(_share(n, seen, core), int(seen.sum())) for radius, n in changed.items()}


def _core(card: MapCard) -> int:
    """Pixels of a core of the package to be written: those of the exact one, before memory has a say."""
    return card.chip_grid().step


def _classes(predictor: Predictor, sample: Sample, window: Window, within: Window) -> NDArray[np.number]:
    """(y, x) of the class, as stored."""
    rows = map_sample(predictor, sample, window, within)
    return np.concatenate([part[CLASS][0] for part in rows])


def _distance(window: Window, core: int) -> NDArray[np.intp]:
    """(y, x) pixels from each pixel to the nearest edge of its core, 0 beside it."""

    def axis(start: int, stop: int) -> NDArray[np.intp]:
        place = np.arange(start, stop) % core
        return np.minimum(place, core - 1 - place)

    return np.minimum(axis(window.y0, window.y1)[:, None], axis(window.x0, window.x1)[None])


def _share(changed: NDArray[np.int64], seen: NDArray[np.int64], core: int) -> float:
    """The share of pixels changed in cores of ``core`` pixels, of counts by distance; between those seen, a line."""
    known = np.flatnonzero(seen)
    away = np.arange(min(len(seen), core // 2))
    at = np.interp(away, known, changed[known] / seen[known])
    sides = core - 2 * away
    return float((at * (sides**2 - (sides - 2) ** 2)).sum() / core**2)


def _published(
    model: str | Path,
    recipe: RasterRecipe,
    tolerance: float,
    radius: int,
    found: Mapping[int, Measured],
    precision: str,
    out: str | Path,
) -> MapCard:
    card, path, content = weights.read(str(model), MapCard)
    assert card.radius is not None
    record = ShortRadius(
        radius_before=card.radius,
        core=_core(card),
        tolerance=tolerance,
        changed=found[radius].changed,
        pixels=found[radius].pixels,
        recipe=recipe.hash,
        split=SPLIT,
        precision=precision,
        tried=tuple(RadiusShare(radius=r, changed=m.changed) for r, m in found.items()),
    )
    new = {"radius": radius, "short_radius": record, "name": Path(out).resolve().name}
    return weights.write(card.model_copy(update=new), content, out, path.parent)
