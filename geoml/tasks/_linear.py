"""The best simple method for a quantity: linear regression on the bands of the pixel alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.data.scene import LabelledScene, Piece, Sample
from geoml.nn.quantity_scores import QuantityScores


def linear(
    train: Sequence[Piece], held_out: Sequence[Piece], read: Callable[[LabelledScene], Sample], step: float
) -> dict[str, Any]:
    """Scores on ``held_out`` of least squares over the known pixels of ``train``, as `QuantityScores` has them.

    Its spread is the standard deviation of what is left over in train, the same everywhere.
    """
    x, y = _known(train, read)
    centre = x.mean(0)
    weights, *_ = np.linalg.lstsq(_with_one(x - centre), y, rcond=None)
    left = float((y - _with_one(x - centre) @ weights).std())
    scores = QuantityScores(step)
    there, truth = _known(held_out, read)
    scores.update(_with_one(there - centre) @ weights, np.full(truth.shape, left), truth)
    return scores.compute()


def _known(
    pieces: Sequence[Piece], read: Callable[[LabelledScene], Sample]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, channels) values and (n,) truth of pixels that have both."""
    values, truth = [], []
    for piece in pieces:
        sample, part = read(piece.scene), piece.window.slices(piece.scene.window)
        target = sample.target[part]
        known = sample.valid[part] & np.isfinite(target)
        values.append(sample.image[:, *part][:, known].T.astype(np.float64))
        truth.append(target[known].astype(np.float64))
    return np.concatenate(values), np.concatenate(truth)


def _with_one(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)
