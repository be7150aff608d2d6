"""What the page of a run shows of a quantity: its map, its spread, and their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from affine import Affine
from markupsafe import Markup
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geoml.engine.contract import Layer
from geoml.io.cog.each_band import of_each
from geoml.io.report import images
from geoml.io.report.blocks import is_known
from geoml.io.report.canvas import Canvas
from geoml.io.report.part import Drawing, ReportLayer


@dataclass
class LayerNumbers:
    """Of a layer over all pixels at full resolution, as stored. ``sums`` are those of blocks."""

    pixels: int = 0
    sums: list[float] = field(default_factory=list)
    low: float = math.inf
    high: float = -math.inf

    def add(self, counted: Mapping[str, Any]) -> None:
        """Take what a `QuantityCounter` counted of a layer."""
        if counted["pixels"]:
            self.pixels += int(counted["pixels"])
            self.sums.append(float(counted["sum"]))
            self.low, self.high = min(self.low, float(counted["low"])), max(self.high, float(counted["high"]))

    @property
    def mean(self) -> float | None:
        """Summed up exactly, so that the order of the blocks has no part in it."""
        return math.fsum(self.sums) / self.pixels if self.pixels else None


class QuantityCounter:
    """Counts a block; sums are of each row first, so that they are the same for any cut of the rows."""

    def __init__(self, nodata: Mapping[str, float]) -> None:
        self.nodata = nodata
        self.pixels = dict.fromkeys(nodata, 0)
        self.sums: dict[str, list[float]] = {key: [] for key in nodata}
        self.ends: dict[str, list[float]] = {key: [] for key in nodata}

    def add(self, row: int, layers: Mapping[str, NDArray[np.number]]) -> None:
        """As `geoml.io.report.part.PartCounter.add`."""
        for key in self.nodata.keys() & layers.keys():
            stored = layers[key]
            known = is_known(stored, self.nodata[key])
            if count := int(known.sum()):
                self.pixels[key] += count
                self.sums[key] += np.where(known, stored, 0).astype(np.float64).sum(axis=1).tolist()
                values = stored[known]
                self.ends[key] += [float(values.min()), float(values.max())]

    def result(self) -> dict[str, Any]:
        """As `geoml.io.report.part.PartCounter.result`, by layer."""
        return {
            key: {
                "pixels": count,
                "sum": math.fsum(self.sums[key]),
                "low": min(self.ends[key], default=None),
                "high": max(self.ends[key], default=None),
            }
            for key, count in self.pixels.items()
        }


class LayersReport:
    """The part of a `geoml.io.report.part.ReportPart` that counts layers of quantities."""

    change = False

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.nodata = {layer.key: float("nan" if layer.nodata is None else layer.nodata) for layer in layers}
        self.layers: Mapping[str, ReportLayer] = {
            layer.key: ReportLayer(layer.key, layer.title, Resampling.nearest, self.nodata[layer.key], layer.dtype)
            for layer in layers
        }
        self.tallies = {key: LayerNumbers() for key in self.layers}

    def counter(self, shape: tuple[int, int], grid: Affine, crs: str) -> QuantityCounter:
        """Counts a block."""
        return QuantityCounter(self.nodata)

    def add(self, counted: Mapping[str, Any]) -> None:
        """Take the numbers of a block."""
        for key, tally in self.tallies.items():
            tally.add(counted[key])


class QuantityReport(LayersReport):
    """`geoml.io.report.part.ReportPart` of the value called ``name`` and its spread."""

    def __init__(self, name: str, unit: str, layers: Sequence[Layer], scores: Mapping[str, Any]) -> None:
        super().__init__(layers)
        self.name, self.unit, self.scores = name, unit, scores
        self.scale = {layer.key: of_each(layer.scale, 1)[0] for layer in layers}

    def known(self, valid: int) -> int:
        """Pixels with a value."""
        return self.tallies["value"].pixels

    def facts(self) -> Sequence[tuple[str, str]]:
        """Means."""
        return (f"mean {self.name}", self._mean("value")), ("mean spread", self._mean("spread"))

    def drawings(self, stored: Mapping[str, NDArray[np.number]], canvas: Canvas) -> Sequence[Drawing]:
        """The map, and how far it may be off."""
        titles = {"value": self.name.capitalize(), "spread": "Spread"}
        return tuple(
            self._drawing(key, titles[key], stored[key], canvas.extent()) for key in self.layers if key in stored
        )

    def _drawing(self, key: str, title: str, stored: NDArray[Any], extent: str) -> Drawing:
        known = stored != np.asarray(self.nodata[key], stored.dtype)
        low, high = np.percentile(stored[known], (2, 98)) if known.any() else (0.0, 1.0)
        colours = images.ramp((stored.ravel() - low) / max(high - low, 1e-9)).reshape(*stored.shape, 4)
        colours[~known] = images.CLEAR
        ends = [self._text(v * self.scale[key]) for v in (low, high)]
        bar = Markup('<p class="small soft">{} <span style="background:{};padding:0 4em"></span> {}</p>')
        alt = f"Map of {title.lower()}, from {ends[0]} to {ends[1]}; {extent}."
        return Drawing(title, colours, alt, bar.format(ends[0], images.gradient(), ends[1]))

    def section(self, scores: Mapping[str, Any] | None) -> Markup:
        """Least, mean and largest value and spread, and the held-out errors of the card."""
        row = Markup("<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>")
        rows = [
            row.format(layer.what, self._end(key, tally.low), self._mean(key), self._end(key, tally.high))
            for key, layer in self.layers.items()
            if (tally := self.tallies[key])
        ]
        head = "<tr><th></th><th>least</th><th>mean</th><th>largest</th></tr>"
        table = Markup("<table>{}{}</table>").format(Markup(head), Markup().join(rows))
        return Markup("<section><h2>Numbers of the map</h2>{}{}</section>").format(table, self._held_out())

    def _held_out(self) -> str:
        """The mean absolute error of the model, beside those of doing nothing and of a line."""
        found = {"": self.scores, "the median of train": self.scores.get("baseline", {})}
        found["linear regression"] = self.scores.get("linear", {})
        told = [f"{of['mae']:.3g} {self.unit} {said}".strip() for said, of in found.items() if of.get("mae")]
        return f"Mean absolute error on held-out ground: {'; '.join(told)}." if told else ""

    def _mean(self, key: str) -> str:
        mean = self.tallies[key].mean
        return "–" if mean is None else self._text(mean * self.scale[key])

    def _end(self, key: str, value: float) -> str:
        return self._text(value * self.scale[key]) if math.isfinite(value) else "–"

    def _text(self, value: float) -> str:
        return f"{value:.4g} {self.unit}".rstrip()
