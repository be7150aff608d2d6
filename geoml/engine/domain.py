"""Whether a run is inside the domain of its model: measured at training, compared before the model runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoml.cube.domain import fit
from geoml.data.chips import Reader
from geoml.data.prepare import Splits
from geoml.data.recipe import TrainRecipe
from geoml.engine.calibrate import draw
from geoml.errors import NothingFound
from geoml.io.domain import Domain

TRAIN, HELD_OUT = 300_000, 200_000
"""Pixels of a split that a record is measured on at most."""


def measured(splits: Splits, recipe: TrainRecipe, reader: Reader) -> Domain:
    """The record of all valid pixels of the train split, labelled or not, with a threshold by those of the val split.

    Raises NothingFound for a split without a valid pixel.
    """
    bands = len(recipe.bands)
    train, held_out = (
        _finite(draw(splits[name], reader, most // recipe.dates).reshape(-1, bands), name)  # all dates are one domain
        for name, most in (("train", TRAIN), ("val", HELD_OUT))
    )
    scenes = [p.scene for p in splits["train"]]
    return fit(
        train,
        held_out,
        months=tuple(sorted({m for s in scenes for m in s.months})),
        platforms=tuple(sorted({p for s in scenes for p in s.platforms})),
    )


def _finite(pixels: NDArray[np.float32], split: str) -> NDArray[np.float32]:
    known = pixels[np.isfinite(pixels).all(axis=1)]
    if not len(known):
        raise NothingFound(f"split: {split} holds no pixel with a finite value in every band")
    return known
