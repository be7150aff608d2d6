"""An encoder of series, trained without labels on search results, for `geoml learn`, `geoml embed` or more training.

How it learns is `geoml.engine.learn.pretrain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.learn.pretrain_recipe import PretrainRecipe
from geoml.engine.task import OnEpoch
from geoml.errors import InputError
from geoml.io.report.score_table import ScoreTable, sentence


@final
class Task:
    """Scored by how often a view of held-out ground finds the other one among 64."""

    name: ClassVar[str] = "pretrain"
    recipe: ClassVar[type[PretrainRecipe]] = PretrainRecipe
    card: ClassVar[type[EncoderCard]] = EncoderCard
    input: ClassVar[str] = "series"
    output: ClassVar[str] = "embedding"
    key: ClassVar[str] = "retrieval"
    larger_is_better: ClassVar[bool] = True
    no_page: ClassVar[str] = "an encoder has no page of scores; geoml learn writes one of what it is good for"

    @staticmethod
    def fit(recipe: PretrainRecipe, out: Path, on_epoch: OnEpoch | None = None) -> None:
        """As `geoml.engine.learn.pretrain.fit`, which also lists the errors."""
        from geoml.engine.learn.pretrain import fit  # torch, which a task that is only named does without

        fit(recipe, out, on_epoch)

    @staticmethod
    def score(model: str | Path, recipe: PretrainRecipe, split: str) -> dict[str, Any]:
        """Scores of an encoder on the held-out ground of a recipe. Raises InputError for one of other bands, and what
        reading raises."""
        from geoml.engine.learn.pretrain import scores_of

        return scores_of(model, recipe, split)

    @staticmethod
    def table(scores: Mapping[str, Any]) -> list[ScoreTable | str]:
        """One sentence: the encoder, the bands, chance."""
        found = {"other view found": scores["retrieval"], "by the mean of the bands": scores["bands"]}
        return [sentence({**found, "by chance": scores["chance"]}, f"{scores['split']}, {scores['rows']} pixels: ")]

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """Raises InputError: there is none."""
        raise InputError(f"report: {Task.no_page}")
