"""What the page of a run shows of heights: shaded relief, how far it rests on measured points, buildings, accuracy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from geoml.engine.contract import Layer
from geoml.grid.relief import relief
from geoml.io.cards.elevation import ACCURACY, HeightTerms
from geoml.io.report import images
from geoml.io.report.blocks import is_known
from geoml.io.report.canvas import Canvas
from geoml.io.report.part import Drawing
from geoml.io.stores.store import read_small
from geoml.outputs._quantity_report import LayersReport

DRAWN: Final = ("dtm", "dsm", "height", "distance", "spread")
SHADED: Final = ("dtm", "dsm")


class ElevationReport(LayersReport):
    """`geoml.io.report.part.ReportPart` of surfaces."""

    def __init__(self, terms: HeightTerms, layers: Sequence[Layer], out: Path) -> None:
        super().__init__(layers)
        self.terms, self.out = terms, out
        self.titles = {layer.key: layer.title for layer in layers}

    def known(self, valid: int) -> int:
        """Pixels with a height."""
        return self.tallies[next(iter(self.layers))].pixels

    def facts(self) -> Sequence[tuple[str, str]]:
        """Above what the heights are, from where to where, and how much of the terrain is there."""
        main = self.tallies[next(iter(self.layers))]
        ends = f"{self._text(main.low)} to {self._text(main.high)}" if main.pixels else "none"
        return ("heights above", self.terms.vertical_name), (next(iter(self.layers)).upper(), ends)

    def drawings(self, stored: Mapping[str, NDArray[np.number]], canvas: Canvas) -> Sequence[Drawing]:
        """The maps."""
        res = float(canvas.box.affine.a)
        return tuple(self._drawing(key, stored[key], res, canvas.extent()) for key in DRAWN if key in stored)

    def _drawing(self, key: str, stored: NDArray[Any], res: float, extent: str) -> Drawing:
        known = is_known(stored, self.nodata[key])
        values = np.where(known, stored, np.nan)
        low, high = np.percentile(values[known], (2, 98)) if known.any() else (0.0, 1.0)
        places = np.nan_to_num((values - low) / max(high - low, 1e-9))
        colours = images.ramp(places.ravel()).reshape(*stored.shape, 4)
        if key in SHADED:
            light = np.nan_to_num(relief(values, res))[..., None]
            colours[..., :3] = (colours[..., :3] * (0.35 + 0.65 * light)).astype(np.uint8)
        colours[~known] = images.CLEAR
        title, ends = self.titles[key], [self._text(v) for v in (low, high)]
        bar = Markup('<p class="small soft">{} <span style="background:{};padding:0 4em"></span> {}</p>')
        alt = f"Map of {title}, from {ends[0]} to {ends[1]}; {extent}."
        return Drawing(title[:1].upper() + title[1:], colours, alt, bar.format(ends[0], images.gradient(), ends[1]))

    def section(self, scores: Mapping[str, Any] | None) -> Markup:
        """Numbers of each layer, and what check points say."""
        row = Markup("<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>")
        rows = [
            row.format(layer.what, self._number(key, t.low), self._number(key, t.mean), self._number(key, t.high))
            for key, layer in self.layers.items()
            if key != "building" and (t := self.tallies[key]).pixels
        ]
        head = Markup("<tr><th></th><th>least</th><th>mean</th><th>largest</th></tr>")
        return Markup("<section><h2>Numbers of the surfaces</h2><table>{}{}</table>{}</section>").format(
            head, Markup().join(rows), self._accuracy()
        )

    def _accuracy(self) -> Markup:
        try:
            found = json.loads(read_small(self.out / ACCURACY) or b"{}")
            rows, notes = found["table"], [str(words) for words in found["notes"]]
        except (ValueError, LookupError, TypeError):
            return Markup(
                "<p>No check points were given: nothing is known of how far the heights are from the truth"
                " (<code>--check-points</code>).</p>"
            )
        cell = Markup("<td>{}</td>")
        head = Markup().join(Markup("<th>{}</th>").format(name) for name in rows[0])
        body = Markup().join(Markup("<tr>{}</tr>").format(Markup().join(cell.format(v) for v in r)) for r in rows[1:])
        said = Markup().join(Markup("<p>{}</p>").format(words) for words in notes)
        table = Markup("<table><tr>{}</tr>{}</table>").format(head, body) if body else Markup()
        return Markup("<h3>Accuracy</h3>{}{}").format(table, said)

    def _number(self, key: str, value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return "–"
        return f"{value:.4g}" if key == "count" else self._text(value)

    @staticmethod
    def _text(value: float) -> str:
        return f"{value:.2f} m" if math.isfinite(value) else "–"
