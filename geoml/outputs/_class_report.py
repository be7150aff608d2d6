"""What the page of a run shows of classes: their map and areas, and what stands beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from markupsafe import Markup
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geoml.io.cards.map_card import MapCard
from geoml.io.report import images
from geoml.io.report.areas import PixelAreas
from geoml.io.report.canvas import Canvas
from geoml.io.report.page import area, percent
from geoml.io.report.part import Drawing, ReportLayer
from geoml.io.report.template import template


@dataclass
class Census:
    """Counts over all pixels at full resolution, by the uint8 value that the files store."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Pixels of each class value."""
    area: NDArray[np.float64] = field(default_factory=lambda: np.zeros(256))
    """m² on the WGS 84 ellipsoid of each class value."""
    sure: NDArray[np.int64] = field(default_factory=lambda: np.zeros((256, 256), np.int64))
    """Pixels by class value (row) and what is stored beside it (column)."""

    def add(self, other: Census) -> None:
        """Take the counts of another part."""
        self.pixels += other.pixels
        self.area += other.area
        self.sure += other.sure


@dataclass(frozen=True)
class ClassRow:
    """A line of the legend; ``confidence`` is None where no pixel has one."""

    name: str
    color: str
    pixels: int
    area: float
    share: float
    confidence: float | None


@dataclass(frozen=True)
class _View:
    """What the templates show."""

    classes: tuple[ClassRow, ...]
    confidence: float | None
    sure: str
    """What stands beside the class: confidence, probability of change, or score of change."""
    ends: tuple[str, str]
    """What the ends of its scale mean."""
    low: float
    """Confidence at the dark end of the scale: that of a guess among all classes; 0 for what says changed or not."""
    histogram: tuple[float, ...]
    """Share of the pixels in each tenth of confidence."""
    gradient: str


class ClassReport:
    """`geoml.io.report.part.ReportPart` of maps of classes.

    ``beside`` is the asset that stands beside the class, where ``steps`` mean 1 and ``nodata`` nothing; ``change``
    says what it is of a map of changes, "" for any other.
    """

    def __init__(self, card: MapCard, beside: str, steps: int, nodata: int, change: str = "") -> None:
        self.card, self.steps, self.nodata, self.said = card, steps, nodata, change
        self.change = bool(change)
        self.layers: Mapping[str, ReportLayer] = {
            "class": ReportLayer("class", "classes", Resampling.nearest, card.nodata),
            "confidence": ReportLayer(beside, "confidence", Resampling.average, nodata),
        }
        self.census = Census()

    def count(self, opened: Mapping[str, rasterio.DatasetReader]) -> Census:
        """Counts of a block, tile by tile."""
        found, first = Census(), opened["class"]
        areas = PixelAreas(first)
        for _, window in first.block_windows(1):
            classes = first.read(1, window=window)
            found.pixels += np.bincount(classes.ravel(), minlength=256)
            found.area += np.bincount(classes.ravel(), areas.of(window).ravel(), minlength=256)
            if "confidence" in opened:
                both = classes.astype(np.int64) * 256 + opened["confidence"].read(1, window=window)
                found.sure += np.bincount(both.ravel(), minlength=65536).reshape(256, 256)
        return found

    def add(self, counted: Census) -> None:
        """Take the counts of a block."""
        self.census.add(counted)

    def known(self, valid: int) -> int:
        """Pixels with a class."""
        return int(self.census.pixels.sum() - self.census.pixels[self.card.nodata])

    def facts(self) -> Sequence[tuple[str, str]]:
        """Mean confidence, area with a class."""
        view = self._view()
        mean = "–" if view.confidence is None else f"{view.confidence:.2f}"
        return (f"mean {view.sure}", mean), ("area with a class", area(sum(r.area for r in view.classes)))

    def drawings(self, stored: Mapping[str, NDArray[np.number]], canvas: Canvas) -> Sequence[Drawing]:
        """Classes, and what stands beside them."""
        view = self._view()
        mean = view.confidence
        colours = images.class_colours({c.value: c.color for c in self.card.classes}, self.card.nodata)
        scale = images.quantity_colours(view.low * self.steps, self.steps, self.nodata)
        said = ", ".join(f"{r.name} {100 * r.share:.1f} %" for r in view.classes)
        what = view.sure.capitalize() if self.change else "Confidence of the class"
        sure = f"{what}; mean {mean if mean is None else round(mean, 3)}."
        return (
            Drawing(
                "Classes", colours[stored["class"]], f"Map of classes: {said}; {canvas.extent()}.", self._part("legend")
            ),
            Drawing(view.sure.capitalize(), scale[stored["confidence"]], sure, self._part("scale")),
        )

    def section(self, scores: Mapping[str, Any] | None) -> Markup:
        """Areas of the classes, and pixels by confidence."""
        return self._part("section", scores)

    def _part(self, name: str, *more: object) -> Markup:
        module = template(Path(__file__).with_name("_class_report.html.j2"), percent=percent, area=area).module
        return Markup(str(vars(module)[name](self._view(), *more)).rstrip("\n"))

    def _view(self) -> _View:
        by_step = self.census.sure.copy()
        by_step[self.card.nodata] = 0
        by_step = by_step[:, : self.nodata].sum(axis=0)
        return _View(
            self._rows(),
            self._mean(by_step),
            self.said or "confidence",
            ("unchanged", "changed") if self.change else ("a guess", "sure"),
            0.0 if self.change else 1 / max(len(self.card.classes), 1),
            tuple(self._tenths(by_step) / max(int(by_step.sum()), 1)),
            images.gradient(),
        )

    def _rows(self) -> tuple[ClassRow, ...]:
        """All classes of the card, and any other value that the maps hold, so that nothing is left out of the sum."""
        census, nodata = self.census, self.card.nodata
        names = {c.value: (c.name, c.color) for c in self.card.classes}
        values = [*names, *(int(v) for v in np.flatnonzero(census.pixels) if v not in names and v != nodata)]
        total = sum(float(census.area[v]) for v in values)
        return tuple(
            ClassRow(
                *names.get(v, (f"value {v} (not in the card)", "#000000")),
                pixels=int(census.pixels[v]),
                area=float(census.area[v]),
                share=float(census.area[v]) / total if total else 0.0,
                confidence=self._mean(census.sure[v, : self.nodata]),
            )
            for v in values
        )

    def _mean(self, by_step: NDArray[np.int64]) -> float | None:
        total = int(by_step.sum())
        return float(by_step @ np.arange(len(by_step))) / self.steps / total if total else None

    def _tenths(self, by_step: NDArray[np.int64]) -> NDArray[np.float64]:
        which = np.minimum(np.arange(len(by_step)) * 10 // self.steps, 9)
        return np.array([float(by_step[which == k].sum()) for k in range(10)])
