"""The report of classes: their map, areas and the layers beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from markupsafe import Markup
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geoml.io.areas import PixelAreas
from geoml.io.cards.map_card import MapCard
from geoml.io.report import images
from geoml.io.report.canvas import Canvas
from geoml.io.report.page import area
from geoml.io.report.part import Drawing, ReportLayer
from geoml.io.report.template import template
from geoml.texts import percent


@dataclass
class Census:
    """Sums over all pixels at full resolution, by the uint8 value that the files store."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Pixels of each class value."""
    area: NDArray[np.float64] = field(default_factory=lambda: np.zeros(256))
    """m² on the WGS 84 ellipsoid of each class value."""
    sure: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Pixels of each class value that have a number beside the class."""
    sums: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Sums of these numbers, as stored."""
    tenths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(10, np.int64))
    """Pixels in each tenth of these numbers."""

    def add(self, counted: Mapping[str, Any]) -> None:
        """Take what a `ClassCounter` counted."""
        values = np.array(counted["values"], np.intp)
        for name in ("pixels", "area", "sure", "sums"):
            sums: NDArray[np.number] = getattr(self, name)
            sums[values] += np.array(counted[name], sums.dtype)
        self.tenths += np.array(counted["tenths"], np.int64)


class ClassCounter:
    """Counts a block; the sums of areas are of each row first, so that they are the same for any cut of the rows."""

    def __init__(self, areas: PixelAreas, height: int, steps: int, nodata: tuple[int, int]) -> None:
        self.areas, self.steps, self.nodata = areas, steps, nodata
        self.area = np.zeros((height, 256))
        self.both = np.zeros((256, 256), np.int64)
        """Pixels by class value (row) and what is stored beside it (column)."""

    def add(self, row: int, layers: Mapping[str, NDArray[np.number]]) -> None:
        """As `geoml.io.report.part.PartCounter.add`."""
        classes = layers["class"].astype(np.intp)
        rows = slice(row, row + len(classes))
        index = classes + 256 * np.arange(len(classes))[:, np.newaxis]
        areas = np.bincount(index.ravel(), self.areas.of(rows).ravel(), minlength=256 * len(classes))
        self.area[rows] = areas.reshape(-1, 256)
        beside = layers.get("confidence", np.uint8(self.nodata[1]))
        self.both += np.bincount((256 * classes + beside).ravel(), minlength=65536).reshape(256, 256)

    def result(self) -> dict[str, Any]:
        """As `geoml.io.report.part.PartCounter.result`: of the class values that are there."""
        none, unknown = self.nodata
        pixels = self.both.sum(axis=1)
        values = [v for v in np.flatnonzero(pixels).tolist() if v != none]
        known = self.both[values, :unknown]
        steps = np.arange(unknown)
        tenths = np.bincount(np.minimum(steps * 10 // self.steps, 9), known.sum(axis=0), minlength=10)
        counted = {
            "values": values,
            "pixels": pixels[values].tolist(),
            "area": self.area.sum(axis=0)[values].tolist(),
            "sure": known.sum(axis=1).tolist(),
            "sums": (known @ steps).tolist(),
            "tenths": tenths.astype(int).tolist(),
        }
        return {"classes": counted}


@dataclass(frozen=True)
class ClassRow:
    """A line of the legend; ``confidence`` is None if no pixel has one."""

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
    labels_for: str
    """What corrected places are for: ``add`` to the model's labels, a model of one's ``own``, or "" for neither."""


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

    def counter(self, shape: tuple[int, int], grid: Affine, crs: str) -> ClassCounter:
        """Counts a block."""
        return ClassCounter(PixelAreas(shape, grid, crs), shape[0], self.steps, (self.card.nodata, self.nodata))

    def add(self, counted: Mapping[str, Any]) -> None:
        """Take the counts of a block."""
        self.census.add(counted["classes"])

    def known(self, valid: int) -> int:
        """Pixels with a class."""
        return int(self.census.pixels.sum())

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
        said = ", ".join(f"{r.name} {percent(r.share)}" for r in view.classes)
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
        census = self.census
        sure = int(census.sure.sum())
        return _View(
            self._rows(),
            self._mean(sure, int(census.sums.sum())),
            self.said or "confidence",
            ("unchanged", "changed") if self.change else ("a guess", "sure"),
            0.0 if self.change else 1 / max(len(self.card.classes), 1),
            tuple((census.tenths / max(sure, 1)).tolist()),
            images.gradient(),
            "add" if self.card.takes_more_labels else "" if self.change else "own",
        )

    def _rows(self) -> tuple[ClassRow, ...]:
        """All classes of the card, and any other value that the maps hold, so that nothing is left out of the sum."""
        census = self.census
        names = {c.value: (c.name, c.color) for c in self.card.classes}
        values = [*names, *(int(v) for v in np.flatnonzero(census.pixels) if v not in names)]
        total = sum(float(census.area[v]) for v in values)
        return tuple(
            ClassRow(
                *names.get(v, (f"value {v} (not in the card)", "#000000")),
                pixels=int(census.pixels[v]),
                area=float(census.area[v]),
                share=float(census.area[v]) / total if total else 0.0,
                confidence=self._mean(int(census.sure[v]), int(census.sums[v])),
            )
            for v in values
        )

    def _mean(self, pixels: int, total: int) -> float | None:
        return total / self.steps / pixels if pixels else None
