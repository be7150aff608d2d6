"""The report of objects: boxes on the map, the number of each class, and how reliable the scores are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from affine import Affine
from markupsafe import Markup
from numpy.typing import NDArray

from geoml.errors import DataError
from geoml.io.cards.detection import FoundClass
from geoml.io.cards.map_card import MapCard
from geoml.io.report import images
from geoml.io.report.canvas import Canvas
from geoml.io.report.page import area
from geoml.io.report.part import Drawing, ReportLayer
from geoml.io.report.score_table import sentence
from geoml.io.report.template import template
from geoml.outputs._objects.tables import FEATURES, SUMMARY

SIDE = 200
"""Of a plot."""


@dataclass(frozen=True)
class ObjectRow:
    """A line of the legend; ``confidence`` is None if there is no object."""

    name: str
    color: str
    count: int
    expected: float | None
    interval: tuple[int, int] | None
    """Of the true number, 95 %; both None if the card does not know."""
    confidence: float | None
    density: float | None
    """Objects in a km² that was searched; None if none was."""


@dataclass(frozen=True)
class ClassPlots:
    """Points of the plots of a class, of a side of `SIDE`, with y downwards."""

    name: str
    color: str
    record: FoundClass

    @property
    def curve(self) -> str:
        """Precision over recall."""
        return " ".join(_point(recall, precision) for _, precision, recall in self.record.curve)

    @property
    def chosen(self) -> tuple[float, float] | None:
        """Where the threshold lies on it."""
        precision, recall = self.record.precision, self.record.recall
        return None if precision is None or recall is None else (SIDE * recall, SIDE * (1 - precision))

    @property
    def worth(self) -> list[tuple[float, float, float]]:
        """Dots of the share that is true over confidence, and their radius by the number of boxes."""
        most = max((n for *_, n in self.record.reliability), default=1)
        return [
            (SIDE * sure, SIDE * (1 - true), 2.5 + 4.5 * math.sqrt(n / most))
            for sure, true, n in self.record.reliability
        ]


def _point(x: float, y: float) -> str:
    return f"{SIDE * x:.2f},{SIDE * (1 - y):.2f}"


class ObjectCounter:
    """Counts nothing: the tables of the run do."""

    def add(self, row: int, layers: Mapping[str, NDArray[np.number]]) -> None:
        """As `geoml.io.report.part.PartCounter.add`."""

    def result(self) -> dict[str, Any]:
        """Nothing."""
        return {}


class ObjectReport:
    """`geoml.io.report.part.ReportPart` of the tables of a run in the folder ``out``."""

    layers: Mapping[str, ReportLayer] = {}
    change = False

    def __init__(self, out: Path, card: MapCard, score: float, levels: Sequence[Mapping[str, Any]] = ()) -> None:
        """``levels`` of a pyramid are as in ``run.json``."""
        self.out, self.card, self.score, self.levels = out, card, score, levels

    def counter(self, shape: tuple[int, int], grid: Affine, crs: str) -> ObjectCounter:
        """Blocks hold no layer to count."""
        return ObjectCounter()

    def add(self, counted: Mapping[str, Any]) -> None:
        """Nothing is counted in blocks."""

    def known(self, valid: int) -> int:
        """Every valid pixel was searched."""
        return valid

    def facts(self) -> Sequence[tuple[str, str]]:
        """All objects, and the ground that was searched."""
        total = sum(row["count"] for row in self._summary)
        return ("objects", f"{total:,}"), ("searched", area(1e6 * self._summary[0]["searched_km2"]))

    def drawings(self, stored: Mapping[str, NDArray[np.number]], canvas: Canvas) -> Sequence[Drawing]:
        """Outlines of the objects, which are boxes where nothing more is known, in the colours of their classes."""
        picture = np.zeros((*canvas.shape, 4), np.uint8)
        table = self._read(FEATURES, ["class", "geometry"])
        value = table["class"].to_numpy()
        outline = shapely.boundary(np.asarray(shapely.from_wkb(table["geometry"].to_numpy()), object).reshape(-1))
        for c in self.card.classes:
            if len(lines := shapely.get_parts(outline[value == c.value])):
                picture[canvas.mask([shapely.multilinestrings(lines)])] = (*images.rgb(c.color), 255)
        said = ", ".join(f"{row.count:,} {row.name}" for row in self.rows)
        what = "Outlines" if self.card.config.get("masks") else "Boxes"
        alt = f"{what} of objects: {said}; {canvas.extent()}."
        return [Drawing("Objects", picture, alt, self._part("legend"), over=True)]

    def section(self, scores: Mapping[str, Any] | None) -> Markup:
        """Counts by class."""
        left = self._summary[0]["unsearched_km2"]
        said = area(1e6 * left) if left else ""
        return self._part(
            "section", said, self.card.detection, self._plots(), self.score, self._held_out(), self.levels
        )

    def _held_out(self) -> str:
        """The scores of the card in one line; empty if it has none."""
        scores, names = self.card.scores, {"ap50": "AP50", "precision": "precision", "recall": "recall", "f1": "F1"}
        if not names.keys() <= scores.keys():
            return ""
        shown = {v: scores[k] for k, v in names.items()}
        return sentence(shown, f"On the {scores.get('split')} split, {scores.get('truth')} true boxes: ")

    def _plots(self) -> list[ClassPlots]:
        """Of the classes that have a curve."""
        if (record := self.card.detection) is None:
            return []
        found = ((c, record.classes[c.name]) for c in self.card.classes)
        return [ClassPlots(c.name, c.color, one) for c, one in found if one.curve]

    @cached_property
    def rows(self) -> tuple[ObjectRow, ...]:
        """A line for each class of the card."""
        colours = {c.value: c.color for c in self.card.classes}
        return tuple(
            ObjectRow(
                name=row["name"],
                color=colours[row["class"]],
                count=row["count"],
                expected=row["expected"],
                interval=None if row["expected_low"] is None else (row["expected_low"], row["expected_high"]),
                confidence=row["confidence"],
                density=row["count"] / row["searched_km2"] if row["searched_km2"] else None,
            )
            for row in self._summary
        )

    @cached_property
    def _summary(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._read(SUMMARY).to_pylist()
        return found

    def _read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        try:
            return pq.read_table(self.out / name, columns=columns, page_checksum_verification=True)
        except (OSError, LookupError, pa.ArrowException) as err:
            raise DataError(f"{name}: cannot be read ({err})") from err

    def _part(self, name: str, *more: object) -> Markup:
        module = template(Path(__file__).with_name("report.html.j2")).module
        return Markup(str(vars(module)[name](self.rows, *more)).rstrip("\n"))
