"""Where a forecast is better than the simple methods: its skill at every place, as a COG beside the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoml.io.cog.write import CogWriter
from geoml.io.report import images
from geoml.texts import percent

Floats = NDArray[np.float32]

LEAST = 30
"""Known values of a square, of fewer it has no skill."""
MOST, WIDEST = 0.8, 16
"""Share of the squares that are to have as many, and pixels of a side up to which they are made larger for it."""
LARGEST = 1_000_000
"""Squares of a map at most."""


DRAWN = 4
"""Rows that are drawn at most, from the first to the last."""
WORSE, SAME, BETTER = "#be123c", "#ffffff", "#047857"
FULL = 0.5
"""Skill of the full colour."""


class SkillMap:
    """Sums of absolute errors of ``methods`` at ``rows`` (leads, or distances) in squares of ``side`` pixels.

    Only what every method speaks of counts, so that all are scored on the same.
    """

    def __init__(self, shape: tuple[int, int], rows: Sequence[str], methods: Sequence[str]) -> None:
        self.rows, self.methods = tuple(rows), tuple(methods)
        self.side = max(1, math.ceil(math.sqrt(shape[0] * shape[1] / LARGEST)))
        self.size = -(-shape[0] // self.side), -(-shape[1] // self.side)
        self.errors = np.zeros((len(rows), len(methods), *self.size))
        self.count = np.zeros((len(rows), *self.size), np.int64)

    def update(self, row: int, forecasts: Sequence[Floats], truth: Floats) -> None:
        """Count (y, x) values of each method, NaN where nothing is said or known."""
        known = np.isfinite(truth)
        for forecast in forecasts:
            known = known & np.isfinite(forecast)
        self.count[row] += squares(known, self.side)
        for method, forecast in enumerate(forecasts):
            self.errors[row, method] += squares(np.where(known, np.abs(forecast - truth), np.float32(0)), self.side)

    def widen(self) -> None:
        """Double the squares until most of those that know something, at each row, know enough: of few reference times
        a place by itself says nothing."""
        while self.side < WIDEST and min(self.size) > 1 and any(map(self._few, self.count)):
            self.side, self.count, self.errors = 2 * self.side, squares(self.count, 2), squares(self.errors, 2)
            self.size = self.count.shape[1], self.count.shape[2]

    @staticmethod
    def _few(count: NDArray[np.int64]) -> bool:
        some = count[count > 0]
        return bool(len(some)) and float((some >= LEAST).mean()) < MOST

    def skill(self, best: Mapping[str, str], name: str) -> Floats:
        """(row, y, x) 1 - error of ``name`` / error of the ``best`` method of each row; NaN where fewer than `LEAST`
        values are known, and where the best one makes no error."""
        found = np.full((len(self.rows), *self.size), np.nan, np.float32)
        for n, row in enumerate(self.rows):
            if row in best:
                mine, theirs = (self.errors[n, self.methods.index(m)] for m in (name, best[row]))
                enough = (self.count[n] >= LEAST) & (theirs > 0)
                found[n, enough] = 1 - mine[enough] / theirs[enough]
        return found

    def write(self, path: Path, box: GeoBox, skill: Floats) -> None:
        """A band for each row, float32, NaN where nothing is said, on squares of the grid ``box``."""
        place = GeoBox(self.size, box.affine @ Affine.scale(self.side), box.crs)
        names = tuple(f"skill {row}" for row in self.rows)
        with CogWriter(path, place, "float32", bands=len(names), nodata=float("nan"), descriptions=names) as writer:
            writer.write(skill)
            writer.close()


def squares(values: NDArray[Any], side: int) -> NDArray[Any]:
    """(…, y, x) sums over squares; those at the end may be cut."""
    *_, height, width = values.shape
    pads = [(0, 0)] * (values.ndim - 2) + [(0, -height % side), (0, -width % side)]
    padded = np.pad(values, pads)
    *front, height, width = padded.shape
    kind = np.int64 if values.dtype.kind in "bi" else np.float64
    found: NDArray[Any] = padded.reshape(*front, height // side, side, width // side, side).sum((-3, -1), dtype=kind)
    return found


def pictures(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Some rows of a written map, as `geoml.forecasting.rows.page.score_page` takes them."""
    with rasterio.open(about["path"]) as file:
        bands, names = file.count, [name.removeprefix("skill ") for name in file.descriptions]
        chosen = sorted({round(n * (bands - 1) / max(DRAWN - 1, 1)) for n in range(DRAWN)})
        return [_picture(names[n], file.read(n + 1), about["best"].get(names[n], "")) for n in chosen]


def _picture(row: str, skill: Floats, best: str) -> dict[str, Any]:
    known = np.isfinite(skill)
    stops = np.array([images.rgb(c) for c in (WORSE, SAME, BETTER)], float)
    at = np.clip(np.where(known, skill, 0), -FULL, FULL)
    channels = [np.interp(at, (-FULL, 0, FULL), stops[:, k]) for k in range(3)]
    colours = np.stack([*channels, np.full(skill.shape, 255.0)], -1).round().astype(np.uint8)
    colours[~known] = images.GREY
    if not known.any():
        said = "too little is known anywhere"
    else:
        said = f"better than {best} on {percent(float((skill[known] > 0).mean()), 0)} of what is known enough"
    return {"title": row, "src": images.png(colours), "alt": f"Map of the skill, {row}: {said}.", "text": said}
