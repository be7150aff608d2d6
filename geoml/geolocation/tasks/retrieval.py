"""Retrieval: features that know a place again at another date, learnt from pairs of dates of the same ground.

The loss (`geoml.geolocation.training.contrastive.info_nce`) pulls the two pictures of a place together and pushes the
others of the batch away; ground that is known at one date only is in no pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from geoml.engine.task import OnEpoch
from geoml.errors import InputError
from geoml.geolocation.tasks._locators import LocatorTask
from geoml.geolocation.training.recall import RecallScores
from geoml.geolocation.training.retrieval_recipe import RetrievalRecipe
from geoml.io.report.score_table import ScoreTable
from geoml.recipe import Frozen
from geoml.texts import percent


@final
class Task(LocatorTask):
    """Scored by R@1, the share of pictures whose nearest tile of another date is the right one, beside chance."""

    name: ClassVar = "retrieval"
    recipe: ClassVar[type[Frozen]] = RetrievalRecipe
    key: ClassVar = RecallScores.key
    larger_is_better: ClassVar = RecallScores.larger_is_better
    no_page: ClassVar[str] = "scores of retrieval have no page; leave --report out"

    @staticmethod
    def fit(recipe: RetrievalRecipe, out: Path, on_epoch: OnEpoch | None = None) -> None:
        """Pairs of dates of the sources.

        Raises InputError for a test that shares ground with what trains or a folder of another recipe, NothingFound for
        dates without pictures, DataError for a broken file, ModelError if the loss is not finite, MissingExtra
        without weights to start from.
        """
        from geoml.geolocation.training.retrieval import fit

        fit(recipe, out, on_epoch=on_epoch)

    @staticmethod
    def score(model: str | Path, recipe: RetrievalRecipe, split: str) -> dict[str, object]:
        """The recipe's tests, as `geoml.geolocation.training.retrieval.score`; raises InputError for a split."""
        from geoml.geolocation.training.retrieval import score

        Task.check_split(split)
        return score(model, recipe)

    @staticmethod
    def table(scores: Mapping[str, Any]) -> list[ScoreTable | str]:
        """A row for each two dates of a test."""
        rows = []
        for row in scores["recall"]:
            shares = (percent(row[k]) for k in ("chance", "north_up", "any_heading"))
            rows.append((*(str(row[k]) for k in ("ground", "reference", "query", "tiles")), *shares))
        columns = ("ground", "reference", "query", "tiles", "chance", "north up", "any heading")
        return [ScoreTable("known again, R@1", columns, tuple(rows))]

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """Raises InputError: there is no page of R@1."""
        raise InputError(f"report: {Task.no_page}")
