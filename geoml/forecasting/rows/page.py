"""Pages of forecasts of tables: fan charts of a run; scores by lead and reliability of a model. No script runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from geoml.io.report.score_table import ScoreTable
from geoml.io.report.template import template

if TYPE_CHECKING:
    from geoml.forecasting.rows.run import TableForecast

WIDTH, HEIGHT, SIDE = 420.0, 150.0, 300.0
"""Units of a fan chart and of the side of a plot."""
MOST = 60
"""Places with a chart of their own."""
COLOURS = ("#2563eb", "#b45309", "#047857", "#9333ea", "#be123c", "#475569")


def run_page(found: TableForecast, reference: pd.Timestamp, warnings: Sequence[str]) -> str:
    """What was known and what is forecast, place by place."""
    target = found.card.table.variables[0]
    charts = [_fan(found, k, reference) for k in found.answered[:MOST]]
    rows = template(Path(__file__).with_name("forecast_run.html.j2"))
    return rows.render(
        title=f"{target.said} from {_time(reference)}",
        unit=target.unit,
        card=found.card,
        reference=_time(reference),
        leads=found.leads,
        warnings=warnings,
        charts=charts,
        more=len(found.answered) - len(charts),
        levels=[f"{100 * level:g} %" for level in found.card.levels],
        width=WIDTH,
        height=HEIGHT,
    )


def _fan(found: TableForecast, k: int, reference: pd.Timestamp) -> dict[str, Any]:
    """Bands between quantiles, outermost first, the median, and what was known, as points of SVG."""
    known = found.history[:, k]
    q = found.quantiles[k]
    seconds = np.array([(t - reference).total_seconds() for t in (*found.seen, *found.valid)])
    past, ahead = seconds[: len(known)], seconds[len(known) :]
    finite = np.concatenate([known[np.isfinite(known)], q.ravel()])
    low, high = float(finite.min()), float(finite.max())
    high = high if high > low else low + 1
    left, right = float(seconds.min()), float(seconds.max())

    def x(t: float) -> float:
        return WIDTH * (t - left) / (right - left)

    def y(v: float) -> float:
        return HEIGHT * (1 - (v - low) / (high - low))

    half = q.shape[1] // 2
    bands = [
        " ".join(
            f"{x(t):.1f},{y(v):.1f}"
            for t, v in (*zip(ahead, q[:, b], strict=True), *zip(ahead[::-1], q[::-1, -1 - b], strict=True))
        )
        for b in range(half)
    ]
    median = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in zip(ahead, q[:, half], strict=True))
    dots = [(f"{x(t):.1f}", f"{y(v):.1f}") for t, v in zip(past, known, strict=True) if np.isfinite(v)]
    said = ", ".join(
        f"{lead} {m:.3g} ({a:.3g} to {b:.3g})"
        for lead, m, a, b in zip(found.leads, q[:, half], q[:, 0], q[:, -1], strict=True)
    )
    return {"place": found.places.ids[k], "bands": bands, "median": median, "dots": dots, "now": f"{x(0):.1f}",
            "low": f"{low:.3g}", "high": f"{high:.3g}", "said": said}  # fmt: skip


def score_page(
    scores: Mapping[str, Any], parts: Iterable[ScoreTable | str], maps: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Tables, skill by lead against the best simple method, how often the truth lies below each quantile, and maps of
    the skill: of each ``title``, ``src``, ``alt`` and ``text``."""
    methods = scores["methods"]
    mine = methods[scores["name"]]["leads"]
    lines = [
        {
            "name": lead,
            "colour": COLOURS[k % len(COLOURS)],
            "points": _points(scores["levels"], np.cumsum(row["pit"])[:-1]),
        }
        for k, (lead, row) in enumerate(mine.items())
        if row["pit"]
    ]
    bars = [
        {"lead": lead, "skill": skill["crps"]["skill"], "best": skill["crps"]["best"]}
        for lead, skill in scores["skill"].items()
        if skill.get("crps", {}).get("skill") is not None
    ]
    return template(Path(__file__).with_name("forecast_scores.html.j2")).render(
        title=f"How good forecasts of {scores['variable']} are",
        scores=scores,
        parts=[p if isinstance(p, str) else {"title": p.title, "columns": p.columns, "rows": p.rows} for p in parts],
        lines=lines,
        bars=bars,
        maps=maps,
        about=scores.get("skill_map"),
        side=SIDE,
    )


def _points(x: Sequence[float], y: Iterable[float]) -> str:
    return " ".join(f"{SIDE * a:.1f},{SIDE * (1 - b):.1f}" for a, b in zip(x, y, strict=True))


def _time(time: pd.Timestamp) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC")
