"""How embeddings of a region are stored: the step of each band, and the axes along which they are shown as colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.outputs._embedding_coding import COMPONENTS, DEVIATIONS, LARGEST

SHOWN = (2, 98)
"""Percentiles of the sample that are the ends of a colour."""


def fitted(vectors: NDArray[np.float32]) -> dict[str, Any]:
    """The fields of `geoml.outputs.embedding.Config`, of (N, width) embeddings of a sample."""
    values = vectors.astype(np.float64)
    mean = values.mean(axis=0)
    std = np.maximum(values.std(axis=0), 1e-6 * np.maximum(np.abs(mean), 1.0))
    scale, offset = _rounded(DEVIATIONS * std / LARGEST), _rounded(mean)
    axes, explained = _components((values - mean) / std)
    steps = np.clip(np.round((values - offset) / scale), -LARGEST, LARGEST)
    low, high = np.percentile(steps @ axes.T, SHOWN, axis=0)
    return {
        "scale": scale,
        "offset": offset,
        "axes": axes.astype(int).tolist(),
        "middle": _rounded((low + high) / 2),
        "gain": _rounded(254 / np.maximum(high - low, 1.0)),
        "explained": _rounded(explained),
    }


def _components(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, width) principal axes of standardised values, their largest number 127, and their shares of the variance."""
    variance, axes = np.linalg.eigh(values.T @ values / len(values))
    count = len(COMPONENTS)
    found, share = np.zeros((count, values.shape[1])), np.zeros(count)
    kept = min(count, len(variance))
    found[:kept], share[:kept] = axes.T[::-1][:kept], variance[::-1][:kept] / max(float(variance.sum()), 1e-12)
    largest = np.take_along_axis(found, np.abs(found).argmax(axis=1)[:, None], axis=1)
    found /= np.where(largest == 0, 1.0, largest)  # an axis has two directions; this one is the same everywhere
    return np.round(found * LARGEST), share


def _rounded(values: NDArray[np.float64]) -> list[float]:
    """To six digits, which JSON, GDAL and STAC write alike."""
    return [float(f"{v:.6g}") for v in values]
