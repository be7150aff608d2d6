"""The page of a locator's scores: one self-contained HTML file with the reliability and risk-coverage curves.

Nothing is loaded from elsewhere, no script runs, every text is escaped, and the same scores give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geoml.io.report.template import template

SIDE = 300
"""Units of the side of a plot."""
COLOURS = ("#2563eb", "#b45309", "#047857", "#9333ea", "#be123c")


def locator_report(scores: Mapping[str, Any]) -> str:
    """The page of what `geoml.geolocation.training.head.score` gives: a table, and two curves of every test set."""
    sets = [
        {
            "name": name,
            "colour": COLOURS[i % len(COLOURS)],
            "row": row,
            "reliability": _line(row["reliability"]["forecast"], row["reliability"]["observed"]),
            "risk": _line(*zip(*row["risk_coverage"], strict=True)),
        }
        for i, (name, row) in enumerate(scores["sets"].items())
    ]
    page = template(Path(__file__).with_name("locator_report.html.j2"))
    return page.render(title=f"Where {scores['model']} is right", scores=scores, sets=sets, side=SIDE)


def _line(x: Sequence[float], y: Sequence[float]) -> str:
    """Points of an SVG polyline in a square of `SIDE`, both axes from 0 to 1."""
    return " ".join(f"{SIDE * a:.1f},{SIDE * (1 - b):.1f}" for a, b in zip(x, y, strict=True))
