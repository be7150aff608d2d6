"""What the page of a run shows of objects: their boxes on the map, and how many there are of each class."""

from __future__ import annotations

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
from geoml.io.cards.map_card import MapCard
from geoml.io.report import images
from geoml.io.report.canvas import Canvas
from geoml.io.report.page import area
from geoml.io.report.part import Drawing, ReportLayer
from geoml.io.report.template import template
from geoml.outputs._objects_tables import FEATURES, SUMMARY


@dataclass(frozen=True)
class ObjectRow:
    """A line of the legend; ``confidence`` is None where there is no object."""

    name: str
    color: str
    count: int
    confidence: float | None
    density: float | None
    """Objects in a km² that was searched; None where none was."""


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

    def __init__(self, out: Path, card: MapCard) -> None:
        self.out, self.card = out, card

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
        """Outlines of the boxes in the colours of their classes."""
        picture = np.zeros((*canvas.shape, 4), np.uint8)
        table = self._read(FEATURES, ["class", "geometry"])
        value = table["class"].to_numpy()
        outline = shapely.boundary(np.asarray(shapely.from_wkb(table["geometry"].to_numpy()), object).reshape(-1))
        for c in self.card.classes:
            if len(lines := shapely.get_parts(outline[value == c.value])):
                picture[canvas.mask([shapely.multilinestrings(lines)])] = (*images.rgb(c.color), 255)
        said = ", ".join(f"{row.count:,} {row.name}" for row in self.rows)
        return [Drawing("Objects", picture, f"Boxes of objects: {said}; {canvas.extent()}.", self._part("legend"))]

    def section(self, scores: Mapping[str, Any] | None) -> Markup:
        """Counts by class."""
        left = self._summary[0]["unsearched_km2"]
        return self._part("section", area(1e6 * left) if left else "")

    @cached_property
    def rows(self) -> tuple[ObjectRow, ...]:
        """A line for each class of the card."""
        colours = {c.value: c.color for c in self.card.classes}
        return tuple(
            ObjectRow(
                name=row["name"],
                color=colours[row["class"]],
                count=row["count"],
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
        module = template(Path(__file__).with_name("_objects_report.html.j2")).module
        return Markup(str(vars(module)[name](self.rows, *more)).rstrip("\n"))
