"""Land cover from few labels: an encoder that stays as it is, and a head that some polygons or points are enough for.

What is learnt and how it is judged is `geoml.engine.learn`; the map has the output `landcover`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from geoml.engine.learn.recipe import LearnRecipe
from geoml.engine.task import OnEpoch
from geoml.io.cards.map_card import MapCard
from geoml.io.report.score_notes import score_notes
from geoml.io.report.score_table import ScoreTable, number, sentence
from geoml.texts import counted, percent

_COLUMNS = {"f1": "F1", "precision": "precision", "recall": "recall"}


@final
class Task:
    """Macro F1 over the classes on held-out ground."""

    name: ClassVar[str] = "landcover"
    recipe: ClassVar[type[LearnRecipe]] = LearnRecipe
    card: ClassVar[type[MapCard]] = MapCard
    input: ClassVar[str] = "series"
    output: ClassVar[str] = "landcover"
    key: ClassVar[str] = "macro_f1"
    larger_is_better: ClassVar[bool] = True

    @staticmethod
    def fit(recipe: LearnRecipe, out: Path, on_epoch: OnEpoch | None = None) -> None:
        """As `geoml.engine.learn.fit.fit`, which also lists the errors; there are no epochs."""
        from geoml.engine.learn.fit import fit, prepare  # torch, which a task that is only named does without

        fit(prepare(recipe), out)

    @staticmethod
    def score(model: str | Path, recipe: LearnRecipe, split: str) -> dict[str, Any]:
        """Scores of a package on the labels of a recipe: those that it has learnt from are scored by heads that had not
        seen them. As `geoml.engine.learn.score.score`, which also lists the errors."""
        from geoml.engine.learn.score import score

        return score(model, recipe, split)

    @staticmethod
    def table(scores: Mapping[str, Any]) -> list[ScoreTable | str]:
        """A row for each class; all that was tried; the learning curve."""
        support = scores.get("support", {})
        rows = [
            (
                n,
                *(number(scores[k][n]) for k in _COLUMNS),
                *(str(support.get(n, {}).get(k, "")) for k in ("pixels", "places")),
            )
            for n in scores["f1"]
        ]
        title = f"{scores['split']}, {counted(scores['pixels'], 'pixel')}"
        base = scores["baseline"]
        found: list[ScoreTable | str] = [
            ScoreTable(title, ("class", *_COLUMNS.values(), "pixels", "places"), tuple(rows)),
            sentence({"macro F1": scores["macro_f1"], "OA": scores["overall_accuracy"], "ECE": scores["ece"]}),
            *score_notes(scores),
            sentence({f"OA if all were {base['class']}": base["overall_accuracy"]}),
        ]
        if learnt := scores.get("learnt"):
            found += [*_tried(learnt), *_curve(learnt), *_said(learnt)]
        found.append(
            "Held-out labels are not a random sample of the map: for its accuracy and areas see geoml area draw."
        )
        return found

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """Classes, confusion and calibration, see `geoml.io.report.page.evaluation_report`."""
        from geoml.io.report.page import evaluation_report

        return evaluation_report(scores)


def _tried(learnt: Mapping[str, Any]) -> list[ScoreTable | str]:
    rows = sorted(learnt["rows"], key=lambda r: -r["mean"])
    cells = tuple(
        (f"{r['name']} *" if r["name"] == learnt["chosen"] else r["name"], number(r["mean"]), number(r["deviation"]))
        for r in rows
    )
    title = f"mean of {learnt['repeats']} ways to cut {learnt['folds']} folds of ground (* is chosen)"
    return [ScoreTable(title, ("features and head", "macro F1", "±"), cells)]


def _curve(learnt: Mapping[str, Any]) -> list[ScoreTable | str]:
    if not learnt["curve"]:
        return []
    names = tuple(cell["name"] for cell in learnt["curve"][0]["macro_f1"])
    rows = tuple(
        (str(row["labels"]), *(f"{c['mean']:.3f} ± {c['deviation']:.3f}" for c in row["macro_f1"]))
        for row in learnt["curve"]
    )
    title = f"macro F1 by {learnt['kind']}s a class, {learnt['curve'][0]['draws']} draws"
    return [ScoreTable(title, (f"{learnt['kind']}s", *names), rows)]


def _said(learnt: Mapping[str, Any]) -> list[str]:
    sets = learnt["sets"]
    if sets["limit"] is None:
        said = f"no prediction sets: {counted(sets['places'], 'place')} cannot calibrate {100 * sets['level']:g} %;"
        return [f"{said} expected at least {sets['least']}", *learnt["said"]]
    held = (
        f"; on held-out ground they contain the true class {percent(sets['coverage'])} of the time,"
        f" with {sets['size']:.2f} classes on average"
        if "coverage" in sets
        else ""
    )
    return [
        f"prediction sets for {100 * sets['level']:g} %, calibrated on {counted(sets['places'], 'place')}{held}",
        *learnt["said"],
    ]
