"""Results of a change model where the truth is known without labels: equal dates, and dates swapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geoml.data.chips import Reader
from geoml.data.recipe import swapped
from geoml.data.scene import LabelledScene, Piece, Sample
from geoml.engine.inference.predict import Predictor, map_sample
from geoml.engine.packages.calibrate import Read, calibrated, is_calibrated, sample_pixels
from geoml.engine.packages.package import Package
from geoml.io.cards.map_card import MapCard


def consistency(loaded: Package, pieces: Sequence[Piece], reader: Read | None = None) -> dict[str, float | None]:
    """Shares of the valid pixels of pieces of two dates, labelled or not.

    ``equal_dates``: called changed although both dates are one, the mean of either date. ``swapped``: called what they
    should be when the dates are turned round (the same change the other way); None if the classes have no other
    way, and for a model of more than two dates. A model that is calibrated on a run is calibrated on each such pair.
    """
    read = reader or Reader()
    card = loaded.card
    false = valid = 0
    for date in range(card.dates):
        for changed, known in _maps(loaded, pieces, _reordered(read, card, [date] * card.dates)):
            false, valid = false + int((changed[known] > 0).sum()), valid + int(known.sum())
    turned = _turned(card)
    same = seen = 0
    if turned is not None:
        there = _maps(loaded, pieces, read)
        back = _maps(loaded, pieces, _reordered(read, card, [1, 0]))
        for (first, known), (second, _) in zip(there, back, strict=True):
            same, seen = same + int((turned[first[known]] == second[known]).sum()), seen + int(known.sum())
    return {"equal_dates": false / valid if valid else None, "swapped": same / seen if seen else None}


def _turned(card: MapCard) -> NDArray[np.uint8] | None:
    """For each class index the one of the dates turned round."""
    if card.dates != 2:
        return None
    try:
        return np.array(swapped(card.classes), np.uint8)
    except ValueError:
        return None


def _reordered(read: Read, card: MapCard, order: Sequence[int]) -> Read:
    channels = np.concatenate([np.arange(len(card.bands)) + d * len(card.bands) for d in order])

    def other(scene: LabelledScene) -> Sample:
        sample = read(scene)
        return replace(sample, image=sample.image[channels])

    return other


def _maps(loaded: Package, pieces: Sequence[Piece], read: Read) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Class index (0 unchanged) and what is known, of each piece."""
    if not is_calibrated(loaded):
        loaded = calibrated(loaded, sample_pixels(pieces, read))
    predictor = Predictor(loaded)
    found = []
    for piece in pieces:
        sample = read(piece.scene)
        parts = [predictor.output.answer(rows)[0] for rows in map_sample(predictor, sample, piece.window)]
        found.append((np.concatenate(parts), sample.valid[piece.window.slices(piece.scene.window)]))
    return found
