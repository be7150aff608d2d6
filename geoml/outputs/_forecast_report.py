"""What the page of a run shows of a forecast: maps of some leads, the fan of all, and its skill by lead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from affine import Affine
from markupsafe import Markup
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geoml.engine.contract import Layer
from geoml.io.cards.forecast import ForecastTerms, spelled
from geoml.io.cog.each_band import of_each
from geoml.io.report import images
from geoml.io.report.canvas import Canvas
from geoml.io.report.fan_chart import fan_chart
from geoml.io.report.part import Drawing, ReportLayer
from geoml.outputs._quantity_report import LayerNumbers, QuantityCounter

MAPS = 4
"""Leads that are drawn at most, from the first to the last."""


class ForecastReport:
    """`geoml.io.report.part.ReportPart` of the leads."""

    change = False

    def __init__(self, terms: ForecastTerms, layers: Sequence[Layer], scores: Mapping[str, Any]) -> None:
        self.terms, self.scores = terms, scores
        self.unit = "" if terms.unit in (None, "1") else terms.unit
        layers, ages = layers[: len(terms.written)], layers[len(terms.written) :]
        self.reference = str(layers[0].fields.get("forecast:reference_datetime", "")).rstrip("Z").replace("T", " ")
        self.scale = of_each(layers[0].scale, 1)[0]
        self.nodata = float(layers[0].nodata or 0)
        self.names: dict[tuple[str, int], str] = {}
        self.layers: dict[str, ReportLayer] = {}
        for layer in layers:
            for band, name in enumerate(layer.names, 1):
                key = f"{layer.key}_{name}"
                self.names[layer.key, band] = key
                what = f"{layer.title} ({name})"
                self.layers[key] = ReportLayer(layer.key, what, Resampling.nearest, self.nodata, layer.dtype, band)
        self.leads = [layer.key for layer in layers]
        self.ages = {layer.key: layer for layer in ages}
        for age in ages:
            self.layers[age.key] = ReportLayer(age.key, age.title, Resampling.nearest, self.nodata, age.dtype, 1)
        self.median = 1 + (terms.quantiles.index(0.5) if 0.5 in terms.quantiles else 0)
        self.tallies = {key: LayerNumbers() for key in self.layers}

    def counter(self, shape: tuple[int, int], grid: Affine, crs: str) -> QuantityCounter:
        """Counts a block."""
        return QuantityCounter(dict.fromkeys(self.layers, self.nodata))

    def add(self, counted: Mapping[str, Any]) -> None:
        """Take the numbers of a block."""
        for key, tally in self.tallies.items():
            tally.add(counted[key])

    def known(self, valid: int) -> int:
        """Pixels with a forecast at the first lead."""
        return self.tallies[self._key(self.leads[0])].pixels

    def facts(self) -> Sequence[tuple[str, str]]:
        """Means of the first and the last lead."""
        ends = dict.fromkeys((0, len(self.leads) - 1))
        means = {spelled(self.terms.written[n]): self._mean(self._key(self.leads[n])) for n in ends}
        return tuple((f"mean at {lead}", self._text(mean)) for lead, mean in means.items())

    def drawings(self, stored: Mapping[str, NDArray[np.number]], canvas: Canvas) -> Sequence[Drawing]:
        """Maps of the median at some leads, all in the same colours."""
        last = len(self.leads) - 1
        chosen = sorted({round(n * last / max(MAPS - 1, 1)) for n in range(MAPS)})
        maps = {n: stored[key] for n in chosen if (key := self._key(self.leads[n])) in stored}
        values = [m[m != np.asarray(self.nodata, m.dtype)] for m in maps.values()]
        every = np.concatenate(values) if values else np.zeros(0)
        low, high = np.percentile(every, (2, 98)) if len(every) else (0.0, 1.0)
        found = []
        for n, lead in maps.items():
            title = f"{self.terms.variable}, {spelled(self.terms.written[n])} ahead"
            ends = [self._text(v * self.scale) for v in (low, high)]
            found.append(self._drawing(title, lead, (float(low), float(high)), ends, canvas.extent()))
        for key in self.ages.keys() & stored.keys():
            tally, scale = self.tallies[key], of_each(self.ages[key].scale, 1)[0]
            low, high = (v if math.isfinite(v) else 0.0 for v in (tally.low, tally.high))
            ends = [f"{v * scale:g} days" for v in (low, high)]
            found.append(self._drawing(self.ages[key].title, stored[key], (low, high), ends, canvas.extent()))
        return tuple(found)

    def _drawing(
        self, title: str, stored: NDArray[Any], of: tuple[float, float], ends: Sequence[str], extent: str
    ) -> Drawing:
        low, high = of
        known = stored != np.asarray(self.nodata, stored.dtype)
        colours = images.ramp((stored.ravel() - low) / max(high - low, 1e-9)).reshape(*stored.shape, 4)
        colours[~known] = images.CLEAR
        bar = Markup('<p class="small soft">{} <span style="background:{};padding:0 4em"></span> {}</p>')
        alt = f"Map of {title}, from {ends[0]} to {ends[1]}; {extent}."
        return Drawing(title, colours, alt, bar.format(ends[0], images.gradient(), ends[1]))

    def section(self, scores: Mapping[str, Any] | None) -> Markup:
        """The mean of the region by lead as a fan, a table of it, and the skill that was measured before."""
        of = self.terms.quantiles or (0.5,)
        fan = {q: [self._mean(self.names[lead, band]) for lead in self.leads] for band, q in enumerate(of, 1)}
        chart = fan_chart([spelled(v) for v in self.terms.written], fan, self.unit, {})
        row = Markup("<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>")
        rows = []
        for lead, key in zip(self.terms.written, map(self._key, self.leads), strict=True):
            tally = self.tallies[key]
            ends = [self._text(v * self.scale if math.isfinite(v) else None) for v in (tally.low, tally.high)]
            rows.append(row.format(spelled(lead), ends[0], self._text(self._mean(key)), ends[1]))
        head = Markup("<tr><th>lead</th><th>least</th><th>mean</th><th>largest</th></tr>")
        said = Markup(
            "<p class='small soft'>From data known at {} UTC; nothing later was used. Means over the region of what"
            " is said of each pixel at each lead.</p>"
        ).format(self.reference)
        return Markup("<section><h2>By lead</h2>{}{}<table>{}{}</table>{}</section>").format(
            chart, said, head, Markup().join(rows), self._skill()
        )

    def _skill(self) -> Markup:
        methods = self.scores.get("methods")
        if not methods:
            return Markup("<p>Nothing is known of the skill of this forecast: it was not scored on later data.</p>")
        cell, row = Markup("<td>{}</td>"), Markup("<tr><th>{}</th>{}</tr>")
        rows = []
        apart = self.scores.get("by") == "distances"
        known = list(next(iter(methods.values()))["leads"])
        for lead in known if apart else map(spelled, self.terms.written):
            errors = [self._number(of["leads"].get(lead, {}).get("mae")) for of in methods.values()]
            skill = self.scores.get("skill", {}).get(lead, {}).get("mae", {}).get("skill")
            rows.append(row.format(lead, Markup().join(cell.format(v) for v in (*errors, self._number(skill)))))
        head = Markup().join(Markup("<th>{}</th>").format(n) for n in ("up to" if apart else "lead", *methods, "skill"))
        said = ", by the time since the last known value" if apart else ""
        title = Markup("<h3>Mean absolute error on later data, compared with the simple methods{}</h3>").format(said)
        note = "Skill is 1 - error / error of the best simple method; below 0 that one is better."
        return Markup("{}<table><tr>{}</tr>{}</table><p class='small soft'>{}</p>").format(
            title, head, Markup().join(rows), note
        )

    def _key(self, lead: str) -> str:
        return self.names[lead, self.median]

    def _mean(self, key: str) -> float | None:
        mean = self.tallies[key].mean
        return None if mean is None else mean * self.scale

    def _text(self, value: float | None) -> str:
        return "–" if value is None else f"{value:.4g} {self.unit}".rstrip()

    @staticmethod
    def _number(value: object) -> str:
        return f"{value:.3f}" if isinstance(value, float) else "–"
