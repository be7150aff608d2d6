"""A learned model of change on the run's own pixels, with one date instead of all: nothing can have changed there.

What it calls changed all the same says how it takes this ground, before a block is run and without any label. A model
that is calibrated is calibrated on such a pair, where no magnitude varies, so that it calls nothing changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from geoml import models
from geoml.cube.normalise import normalise
from geoml.engine.contract import ChangeOutput, output_of
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages.calibrate import calibrated
from geoml.engine.packages.package import Package
from geoml.engine.pixels import Pixels
from geoml.engine.run.blocks import predictor_of
from geoml.engine.run.plan import Plan, SelfChange
from geoml.engine.run.planned import load_planned
from geoml.grid.plane import Window
from geoml.texts import percent

T = TypeVar("T", bound=np.generic)
Together = Callable[[Sequence[Pixels]], Pixels]

LIMIT = 0.01
"""Share of equal dates called changed above which a run says so."""
SIDE = 256
"""Pixels of a chip at most, and of the part of a square that is looked at."""
SQUARES = 8
"""Squares that are looked at: half a million pixels of each date."""
CALIBRATION = 100_000
"""Pixels that a calibrated model is shown of each date at most."""


def self_change(
    plan: Plan, squares: Sequence[Sequence[Pixels]], pixels: NDArray[np.float32], together: Together
) -> SelfChange | None:
    """What the model of a plan makes of equal dates; None if it calls nothing changed.

    ``pixels`` are (N, date, band) physical values of the squares. Raises InputError for a package or a device
    that is not there, ModelError for a package that is damaged or replaced or an output that is not finite, DataError
    for values that it cannot be calibrated on, TransientError if the device has no memory.
    """
    if models.calibrated(plan.card.architecture):
        return _calibrated(load_planned(plan.model_path, plan.card), pixels)
    output = output_of(plan.card, plan.recipe)
    return _learnt(predictor_of(plan), output, squares, together) if isinstance(output, ChangeOutput) else None


def _learnt(
    predictor: Predictor, output: ChangeOutput, squares: Sequence[Sequence[Pixels]], together: Together
) -> SelfChange | None:
    """The share of the valid pixels of squares of several dates that is called changed of each date against itself.

    Of the first `SQUARES` the part with most data goes through the model, in chips without context. None without a
    valid pixel. Raises InputError if the output is none of pixels, ModelError if it is not finite or the device
    fails, TransientError if that has no memory for a chip.
    """
    card = predictor.card
    side = card.chip_size if predictor.backend.fixed or card.architecture == "exported" else min(card.chip_size, SIDE)
    changed = np.zeros(card.dates, np.int64)
    known = 0
    for dates in squares[:SQUARES]:
        valid = together(dates).valid
        for part in _chips(valid, side):
            seen = _padded(valid[part], side)
            for n, date in enumerate(dates):
                same = together([date] * card.dates)
                chip = normalise(_padded(same.data[:, *part], side), seen, *same.coefficients(card))
                changed[n] += int(output.called(predictor.alone(chip, seen)).sum())
            known += int(seen.sum())
    return _share(changed / known) if known else None


def _calibrated(loaded: Package, pixels: NDArray[np.float32]) -> SelfChange:
    """The same of a model that is calibrated, for (N, date, band) physical values: it is calibrated on equal dates."""
    thin = pixels[:: -(-len(pixels) // CALIBRATION)]
    shares = []
    for n in range(thin.shape[1]):
        same = np.concatenate([thin[:, n]] * thin.shape[1], axis=1)
        module = calibrated(loaded, same).module
        with torch.no_grad():
            found = module(torch.from_numpy(same.T[None, :, :, None]))[0].argmax(0)
        shares.append(float((found > 0).double().mean()))
    return _share(np.array(shares))


def doubt(found: SelfChange | None, when: Sequence[str]) -> str:
    """What is to be said of it, with the ``datetime`` of each date; empty if it is little."""
    if found is None or found.share <= LIMIT:
        return ""
    each = ", ".join(f"{percent(share)} of {date}" for share, date in zip(found.dates, when, strict=True))
    return (
        f"{percent(found.share)} is called changed when a date is compared with itself ({each}): the model does not "
        "fit this ground, and as much of what it calls changed may be none"
    )


def _share(dates: NDArray[np.float64]) -> SelfChange:
    return SelfChange(share=round(float(dates.mean()), 6), dates=tuple(round(float(d), 6) for d in dates))


def _chips(valid: NDArray[np.bool_], side: int) -> list[tuple[slice, slice]]:
    """Chips of ``side`` pixels with data, of the part of a square (`SIDE` pixels, or a whole chip) that has most."""
    whole = Window(0, 0, *valid.shape)
    parts = [w.intersect(whole) for w in _cut(whole, max(side, SIDE))]
    fullest = max(parts, key=lambda w: int(valid[w.slices(whole)].sum()))
    chips = (w.intersect(fullest).slices(whole) for w in _cut(fullest, side))
    return [part for part in chips if valid[part].any()]


def _cut(window: Window, side: int) -> list[Window]:
    return [
        Window(y, x, y + side, x + side)
        for y in range(window.y0, window.y1, side)
        for x in range(window.x0, window.x1, side)
    ]


def _padded(values: NDArray[T], side: int) -> NDArray[T]:
    """(…, side, side) with zeros below and to the right."""
    short = [(0, 0)] * (values.ndim - 2) + [(0, side - n) for n in values.shape[-2:]]
    return np.pad(values, short)
