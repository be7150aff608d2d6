"""Scores of objects as tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geoml.io.report.score_table import ScoreTable, number, sentence
from geoml.nn.objects.box_scores import AT

_COLUMNS = {
    "ap": "AP", "ap50": "AP50", "ap75": "AP75", "precision": "precision", "recall": "recall", "f1": "F1",
    "truth": "true", "found": "found", "threshold": "threshold",
}  # fmt: skip
_WHOLE = {k: v for k, v in _COLUMNS.items() if k != "threshold"}
_MASKS = {"mask_ap": "mask AP", "mask_ap50": "mask AP50"}
"""Of outlines, where there are some."""


def table(scores: Mapping[str, Any]) -> list[ScoreTable | str]:
    """A row for each class and for each size; all beside a map without any object and beside guesses.

    ``scores`` are those of `_detection_scores.HeldOutObjects`; cards of before have some of them.
    """
    rows = [(name, *(number(row.get(k)) for k in _COLUMNS)) for name, row in scores["by_class"].items()]
    title = f"{scores['split']} split, {scores['truth']} true boxes"
    said: list[ScoreTable | str] = [ScoreTable(title, ("class", *_COLUMNS.values()), tuple(rows))]
    masks = _MASKS.keys() <= scores.keys()
    if masks:
        rows = [(name, *(number(row[k]) for k in _MASKS)) for name, row in scores["by_class"].items()]
        said.append(ScoreTable("by the pixels of outlines", ("class", *_MASKS.values()), tuple(rows)))
    if sizes := scores.get("by_size"):
        rows = [(_between(row), number(row["ap"]), str(row["truth"])) for row in sizes]
        said.append(ScoreTable("by the longer side", ("metres", "AP", "true"), tuple(rows)))
    whole = {**_WHOLE, **(_MASKS if masks else {})}
    said.append(sentence({shown: scores.get(k) for k, shown in whole.items()}))
    if scores["count_error"] is not None:
        said.append(f"count {100 * scores['count_error']:+.1f} %")
    confident = f" and a score of {scores['confident']:g} or more" if "confident" in scores else ""
    said.append(f"AP: mean of overlaps of 0.50 to 0.95; precision, recall and F1 at {AT:g}{confident or _AT}")
    if points := scores.get("points"):
        shown = {"precision": "precision", "recall": "recall", "f1": "F1", "rmse": "RMSE (m)"}
        said.append(sentence({v: points[k] for k, v in shown.items()}, f"centres within {points['distance']:g} m: "))
    if calibration := scores.get("calibration"):
        said += _calibration(calibration)
    if base := scores.get("nothing"):
        said.append(sentence({_COLUMNS[k]: base[k] for k in ("ap50", "recall", "f1")}, "a map without objects: "))
    if base := scores.get("guess"):
        names = {"ap50": "AP50", "recall": "recall", "f1": "F1", "points_f1": "F1 of centres"}
        said.append(sentence({v: base[k] for k, v in names.items()}, "as many boxes of the median size on a lattice: "))
    return said


_AT = ", from the threshold of the class on"


def _calibration(found: Mapping[str, Any]) -> list[str]:
    names = {"d_ece": "D-ECE of what is reported", "d_ece_candidates": "of all candidates"}
    kind = "calibrated confidence: " if found["calibrated"] else "confidence that is not calibrated: "
    said = sentence({v: found[k] for k, v in names.items()}, kind)
    counts = {"sum_error": "sum of confidences", "count_error": "expected count"}
    parts = [f"{v} {100 * found[k]:+.1f} %" for k, v in counts.items() if found[k] is not None]
    if found["squares"]:
        parts.append(
            f"95 % intervals contain the true count of {found['inside']} of {found['squares']} squares of ground"
        )
    return [said, *(["against the true count: " + "; ".join(parts)] if parts else [])]


def _between(row: Mapping[str, Any]) -> str:
    below = row["below"]
    return f"from {row['from']:g}" if below is None else f"{row['from']:g} to {below:g}"
