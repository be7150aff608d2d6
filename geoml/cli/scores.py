"""Scores as tables for a terminal, by what they hold: classes of a map, places of pictures, or tiles known again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from geoml.cli.common import out_console
from geoml.errors import InputError

_TOTALS = {"miou": "mean IoU", "mean_f1": "mean F1", "overall_accuracy": "overall accuracy", "ece": "ECE"}
_CHANGE = {
    "f1": "F1",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "kappa": "kappa",
    "average_precision": "average precision",
}


def show(scores: Mapping[str, Any]) -> None:
    """Print scores as `geoml.pipeline.evaluate` gives them, or as a card holds them."""
    if "sets" in scores:
        _places(scores["sets"])
    elif "confusion" in scores:  # these have a recall too, one for each class
        _classes(scores)
    else:
        _years(scores["recall"])


def write_report(path: Path, scores: Mapping[str, Any]) -> None:
    """Write the scores as one HTML file. Raises InputError for scores of retrieval, which have no page."""
    from geoml.geolocation.locate.report import locator_report
    from geoml.io.report.page import evaluation_report
    from geoml.io.stores.store import write_text

    if "sets" not in scores and "confusion" not in scores:
        raise InputError("report: scores of retrieval have no page; leave --report out")
    write_text(path, (locator_report if "sets" in scores else evaluation_report)(scores))


def number(value: Any) -> str:
    """Three decimals; nothing for a score that has no meaning."""
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _classes(scores: Mapping[str, Any]) -> None:
    """A row for each class; the totals beside those of the commonest class everywhere; of change, all changes too."""
    from geoml.io.report.score_notes import score_notes

    columns = ("iou", "f1", "precision", "recall")
    title = f"{scores['split']} split, {scores['pixels']} pixels"
    table = Table("class", "IoU", "F1", "precision", "recall", "pixels", "places", title=title)
    support = scores.get("support", {})  # packages from before have none
    for name in scores["iou"]:
        stands = (str(support.get(name, {}).get(k, "")) for k in ("pixels", "places"))
        table.add_row(name, *(number(scores[k][name]) for k in columns), *stands)
    out_console.print(table)
    _line({shown: scores[k] for k, shown in _TOTALS.items()})
    for note in score_notes(scores):
        out_console.print(note, highlight=False)
    if base := scores.get("baseline"):
        _line({f"{_TOTALS[k]} if all were {base['class']}": base[k] for k in ("miou", "overall_accuracy")})
    if "change" in scores:
        _change(scores["change"], scores.get("consistency") or {})


def _change(change: Mapping[str, Any], consistency: Mapping[str, Any]) -> None:
    """All changes together against none, how many objects were found, and what the dates alone should not change."""
    _line({shown: change[k] for k, shown in _CHANGE.items() if k in change}, "any change against none: ")
    if sizes := change.get("by_size"):
        table = Table("changed objects", "in truth", "found", "of their pixels")
        for row in sizes:
            table.add_row(_span(row), str(row["objects"]), number(row["recall"]), number(row["pixel_recall"]))
        out_console.print(table)
    for key, said in (
        ("equal_dates", "changed when a date is compared with itself"),
        ("swapped", "the same change the other way when the dates are turned round"),
    ):
        if consistency.get(key) is not None:
            _line({said: f"{consistency[key]:.2%}"})


def _span(row: Mapping[str, Any]) -> str:
    unit = "m²" if "from_m2" in row else "pixels"
    low, high = (row["from_m2"], row["below_m2"]) if "from_m2" in row else (row["from"], row["below"])
    return f"from {low:g} {unit}" if high is None else f"{low:g} to {high:g} {unit}"


def _line(values: Mapping[str, Any], before: str = "") -> None:
    if values:
        said = "  ".join(f"{name} {number(value) or 'none'}" for name, value in values.items())
        out_console.print(f"{before}{said}", highlight=False)


def _places(sets: Mapping[str, Mapping[str, Any]]) -> None:
    """A row for each test set of geolocation: how far off, and how many within what distance."""
    km = (25, 200, 750, 2500)
    table = Table("set", "median km", *(f"≤ {d} km" for d in km), "GeoScore", title="geolocation")
    for name, row in sets.items():
        shares = (f"{row[f'within_{d}']:.1%}" for d in km)
        table.add_row(name, f"{row['median_km']:.0f}", *shares, f"{row['geoscore']:.0f}")
    out_console.print(table)


def _years(rows: Sequence[Mapping[str, Any]]) -> None:
    """A row for each two dates of a test of retrieval: share of pictures whose nearest tile is the right one."""
    table = Table(
        "ground", "reference", "query", "tiles", "chance", "north up", "any heading", title="known again, R@1"
    )
    for row in rows:
        shares = (f"{row[k]:.1%}" for k in ("chance", "north_up", "any_heading"))
        table.add_row(*(str(row[k]) for k in ("ground", "reference", "query", "tiles")), *shares)
    out_console.print(table)
