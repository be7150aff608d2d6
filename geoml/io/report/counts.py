"""The summary of a block in its item, so that its pixels need not be read again: counts, and a sketch.

Counts are over all pixels at full resolution and add up; the sketch is a picture of `SIDE` x `SIDE` pixels of every
layer, which is all that a page shows of a block when there are thousands.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoml.io.report.part import ReportLayer, ReportPart

COUNTS, SKETCH = "geoml:counts", "geoml:sketch"
"""Properties of the item of a block."""

SIDE = 8
"""Pixels of a side of a sketch."""

UNKNOWN = 255
"""nodata of the valid count: outside the region."""


class BlockCounter:
    """Counts a block of (rows, columns) whose rows pass from the top, for the part that its output has on the page."""

    def __init__(self, part: ReportPart, shape: tuple[int, int], grid: Affine, crs: str) -> None:
        self.part, self.counter = part, part.counter(shape, grid, crs)
        self.observed = np.zeros(256, np.int64)
        """Pixels by number of valid observations."""
        self.rows, self.cols = (_middles(n) for n in shape)
        self.sketch: dict[str, NDArray[np.number]] = {}

    def add(self, row: int, layers: Mapping[str, NDArray[np.number]]) -> None:
        """Take (h, width) values as stored, by name of the layer and ``valid``, of the rows from ``row`` on."""
        if "valid" in layers:
            self.observed += np.bincount(layers["valid"].ravel(), minlength=256)
        self.counter.add(row, layers)
        for name, values in layers.items():
            inside = np.flatnonzero((self.rows >= row) & (self.rows < row + len(values)))
            sketch = self.sketch.setdefault(name, np.zeros((SIDE, SIDE), values.dtype))
            sketch[inside] = values[np.ix_(self.rows[inside] - row, self.cols)]

    def counts(self) -> dict[str, Any]:
        """What was counted, as JSON."""
        numbers = np.flatnonzero(self.observed[:UNKNOWN])
        observed = {"numbers": numbers.tolist(), "pixels": self.observed[numbers].tolist()}
        return {"observed": observed, **self.counter.result()}

    def sketches(self, pictures: Mapping[str, NDArray[np.uint8]]) -> dict[str, str]:
        """The sketch of each layer and of (y, x, 4) pictures: rows of bytes, little-endian, as base64."""
        small = {k: p[np.ix_(_middles(len(p)), _middles(p.shape[1]))] for k, p in pictures.items()}
        return {name: _text(values) for name, values in {**self.sketch, **small}.items()}


def observed_of(counts: Mapping[str, Any]) -> NDArray[np.int64]:
    """(256,) pixels by number of valid observations. Raises what a `ReportPart` does for counts that are none."""
    observed = np.zeros(256, np.int64)
    observed[np.array(counts["observed"]["numbers"], np.intp)] = counts["observed"]["pixels"]
    return observed


def sketch_of(text: str, layer: ReportLayer | None) -> NDArray[np.number]:
    """(bands, `SIDE`, `SIDE`) of a layer, or of a picture of four bands. Raises ValueError for other text."""
    raw = base64.b64decode(text, validate=True)
    if layer is None:
        return np.moveaxis(np.frombuffer(raw, np.uint8).reshape(SIDE, SIDE, 4), -1, 0)
    return np.frombuffer(raw, np.dtype(layer.dtype).newbyteorder("<")).reshape(1, SIDE, SIDE)


def _text(values: NDArray[np.number]) -> str:
    little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
    return base64.b64encode(little.tobytes()).decode()


def _middles(size: int) -> NDArray[np.intp]:
    """The pixel in the middle of each of `SIDE` equal parts."""
    return ((np.arange(SIDE) + 0.5) * size / SIDE).astype(np.intp)
