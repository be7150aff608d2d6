"""A fan chart: quantiles of a forecast by lead as bands around the median, after the Bank of England's of 1996."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 400.0, 180.0
INK, BAND = "#1d4ed8", "#93c5fd"

Line = Sequence[float | None]


def fan_chart(labels: Sequence[str], quantiles: Mapping[float, Line], unit: str, lines: Mapping[str, Line]) -> Markup:
    """An SVG with a point for each of ``labels``; pairs of ``quantiles`` that are symmetric about 0.5 become bands.

    ``lines`` are drawn dashed, under their names; None is a gap. The same numbers give the same bytes.
    """
    values = [v for line in (*quantiles.values(), *lines.values()) for v in line if v is not None and math.isfinite(v)]
    if not values or not labels:
        return Markup("<p>No value is known.</p>")
    low, high = min(values), max(values)
    low = 0.0 if 0 < low < high else low  # what is small beside its level should look so
    span = (high - low) or 1.0
    x = [WIDTH * (n + 0.5) / len(labels) for n in range(len(labels))]

    def at(n: int, value: float) -> str:
        return f"{x[n]:.1f},{HEIGHT * (1 - (value - low) / span):.1f}"

    def path(line: Line) -> str:
        return " ".join(at(n, v) for n, v in enumerate(line) if v is not None and math.isfinite(v))

    shapes = [
        Markup(
            '<polygon fill="{}" fill-opacity=".45" points="{} {}"><title>{:.0f} % interval</title></polygon>'
        ).format(
            BAND, path(quantiles[1 - q if 1 - q in quantiles else other]), _back(path(quantiles[q])), 100 * (1 - 2 * q)
        )
        for q in sorted(quantiles)
        if q < 0.5 and (other := next((p for p in quantiles if abs(p + q - 1) < 1e-9), None)) is not None
    ]
    if 0.5 in quantiles:
        shapes.append(
            Markup('<polyline fill="none" stroke="{}" stroke-width="2" points="{}"/>').format(INK, path(quantiles[0.5]))
        )
    for name, line in lines.items():
        dashed = (
            '<polyline fill="none" stroke="#6b7280" stroke-dasharray="4 3" points="{}"><title>{}</title></polyline>'
        )
        shapes.append(Markup(dashed).format(path(line), name))
    every = -(-len(labels) // 8)
    ticks = [
        Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(x[n], HEIGHT + 14, label)
        for n, label in enumerate(labels)
        if n % every == 0
    ]
    ends = Markup(
        '<text x="-4" y="{}" text-anchor="end">{:.3g}</text><text x="-4" y="8" text-anchor="end">{:.3g}</text>'
    )
    frame = Markup('<path d="M0,0 V{} H{}" fill="none" stroke="#9ca3af"/>').format(HEIGHT, WIDTH)
    middle = quantiles.get(0.5) or next(iter(lines.values()), ())
    told = "; ".join(f"{n} {v:.3g}" for n, v in zip(labels, middle, strict=False) if v is not None)
    return Markup(
        '<svg class="plot" style="max-width:520px" viewBox="-46 -8 460 212" role="img" aria-label="By lead, in {}: {}">'
        "{}{}{}{}</svg>"
    ).format(
        unit or "the unit", told, frame, Markup().join(shapes), Markup().join(ticks), ends.format(HEIGHT, low, high)
    )


def _back(points: str) -> str:
    return " ".join(reversed(points.split(" ")))
