"""Regression: every pixel gets a value of one quantity, such as a height, and how far it may be off.

Raw output is (B, 2, H, W), see `geoml.nn.quantity_losses`; targets are (B, H, W) float32 in the unit of the quantity,
NaN where unknown. What is stored: `geoml.outputs.quantity`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from pydantic import Field

from geoml.data.recipe import RasterRecipe
from geoml.data.targets.quantity import QuantityTarget
from geoml.engine.packages import cards
from geoml.engine.task import OnEpoch
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard
from geoml.io.report.score_table import ScoreTable, number, sentence
from geoml.nn.quantity_scores import QuantityScores
from geoml.outputs.quantity import Config
from geoml.recipe import Frozen
from geoml.tasks import _loop

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = {"mae": "MAE", "rmse": "RMSE", "bias": "bias", "r2": "R²", "coverage": "within 90 %"}


class QuantityRecipe(RasterRecipe):
    """A training run of a map of a quantity."""

    quantity: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9 _-]*$", description="name of the mapped quantity, such as height"
    )
    unit: str | None = Field(default=None, description="unit of the quantity, such as m; stored in the COGs")
    step: float = Field(
        default=0.1, gt=0, description="resolution of the values, in the unit; int16 values count steps of it"
    )
    dtype: Literal["int16", "float32"] = Field(default="int16", description="data type of the COGs")
    loss: Literal["crps", "gaussian"] = Field(
        default="crps", description="in geoml/nn/quantity_losses.py: all quantiles equally, or the likelihood"
    )

    @property
    def target(self) -> QuantityTarget:
        """Values in the unit."""
        return QuantityTarget(self.step)

    @property
    def card_fields(self) -> dict[str, Any]:
        """How values are stored."""
        return {"classes": (), "channels": 2, "made": self.made}

    @property
    def made(self) -> dict[str, Any]:
        """As `geoml.outputs.quantity.Config`, without what only the training data say."""
        return {"name": self.quantity, "unit": self.unit, "step": self.step, "dtype": self.dtype}


@final
@dataclass(frozen=True)
class Task:
    """``mean`` and ``std`` are those of the training data, in the unit."""

    step: float = 0.1
    mean: float = 0.0
    std: float = 1.0
    loss_name: str = "crps"
    notes: Mapping[str, Any] = field(default_factory=dict)
    card_fields: Mapping[str, Any] = field(default_factory=dict)

    name: ClassVar = "regression"
    recipe: ClassVar[type[Frozen]] = QuantityRecipe
    card: ClassVar[type[Frozen]] = MapCard
    input: ClassVar = "mosaic"
    output: ClassVar = "quantity"
    key: ClassVar = QuantityScores.key
    larger_is_better: ClassVar = QuantityScores.larger_is_better

    @staticmethod
    def learning(recipe: QuantityRecipe, train: NDArray[np.int64], val: NDArray[np.int64]) -> Task:
        """By the values of both splits. Raises InputError for a split without one, and a step too small for them."""
        seen, _ = (recipe.target.summary(counted) for counted in (train, val))
        std = seen["std"] or recipe.step
        made = {**recipe.made, "mean": seen["mean"], "std": std}
        return Task(recipe.step, seen["mean"], std, recipe.loss, {"target": seen}, {"made": made})

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Scalar float32 loss in standard deviations; pixels whose target is NaN are left out."""
        from geoml.nn.quantity_losses import LOSSES  # torch, which a task that is only named does without

        return LOSSES[self.loss_name](raw, (target - self.mean) / self.std)

    def scores(self) -> QuantityScores:
        """An empty accumulator of metrics; feed it the answers of the output."""
        return QuantityScores(self.step)

    @staticmethod
    def check_fit(card: MapCard, recipe: QuantityRecipe) -> None:
        """Raise InputError if a card and a recipe are of different quantities."""
        made = _made(card)
        for name, have, want in (("quantity", made.name, recipe.quantity), ("unit", made.unit, recipe.unit)):
            if have != want:
                raise InputError(f"{name}: the model maps {have}, the recipe has {want}")

    @staticmethod
    def held_out(card: MapCard, recipe: QuantityRecipe) -> HeldOutQuantity:
        """As `QuantityScores`, beside a map that is the median of the training data everywhere."""
        return HeldOutQuantity(_made(card), card.training.get("target", {}).get("median"))

    check_labels = staticmethod(_loop.any_labels)
    judged = staticmethod(_loop.no_record)
    more = staticmethod(_loop.no_more)

    @staticmethod
    def fit(recipe: QuantityRecipe, out: Path, on_epoch: OnEpoch | None = None) -> None:
        """By the common loop, which says what is raised; the card gets the scores of linear regression too."""
        from geoml.engine.train.fit import fit

        card = fit(recipe, out, on_epoch=on_epoch)
        if "linear" not in card.scores:
            scores = {**card.scores, "linear": _linear(recipe, card.scores["split"])}
            cards.write(card.model_copy(update={"scores": scores}), out)

    @staticmethod
    def score(model: str | Path, recipe: QuantityRecipe, split: str) -> dict[str, Any]:
        """As `geoml.engine.train.evaluate.evaluate`, and ``linear``: regression on the bands, fitted on train."""
        from geoml.engine.train.evaluate import evaluate

        return {**evaluate(model, recipe, split), "linear": _linear(recipe, split)}

    @staticmethod
    def table(scores: Mapping[str, Any]) -> list[ScoreTable | str]:
        """A row for the model, for doing nothing and for the best simple method."""
        unit = f", in {scores['unit']}" if scores.get("unit") else ""
        title = f"{scores['split']} split, {scores['pixels']} pixels{unit}"
        rows = [("model", scores)]
        rows += [(said, scores[k]) for k, said in _BESIDE.items() if scores.get(k)]
        cells = tuple((said, *(number(found.get(k)) for k in COLUMNS)) for said, found in rows)
        table = ScoreTable(title, ("", *COLUMNS.values()), cells)
        return [table, sentence({"mean spread that the map gives": scores.get("spread")})]

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """The table as one page."""
        table, *said = Task.table(scores)
        assert isinstance(table, ScoreTable)
        cell, line = Markup("<td>{}</td>"), Markup("<tr>{}</tr>")
        lines = [line.format(Markup().join(cell.format(c) for c in row)) for row in (table.columns, *table.rows)]
        body = Markup("<h1>{}</h1><table>{}</table>{}").format(table.title, Markup().join(lines), _paragraphs(said))
        return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(table.title)}</title>{body}</html>'


_BESIDE = {"baseline": "median of train", "linear": "linear regression"}


class HeldOutQuantity:
    """Scores of pieces, and of a map that is ``nothing`` everywhere: the median of the training data."""

    def __init__(self, made: Config, nothing: float | None) -> None:
        self.made, self.value = made, nothing
        self.model, self.nothing = QuantityScores(made.step), QuantityScores(made.step)

    def add(self, answer: Sequence[NDArray[Any]], truth: NDArray[Any], window: Window) -> None:
        """Count a piece: value, spread and truth (y, x)."""
        value, spread = answer
        self.model.update(value, spread, truth)
        if self.value is not None:
            self.nothing.update(np.full(truth.shape, self.value), np.zeros(truth.shape), truth)

    def compute(self) -> dict[str, Any]:
        """As of the map, and ``baseline``."""
        found = {"unit": self.made.unit, **self.model.compute()}
        if self.value is None:
            return found
        nothing = {k: v for k, v in self.nothing.compute().items() if k in ("mae", "rmse", "bias", "r2")}
        return {**found, "baseline": {"value": self.value, **nothing}}


def _linear(recipe: QuantityRecipe, split: str) -> dict[str, Any]:
    from geoml.data.chips import Reader
    from geoml.data.prepare import held_out, prepare
    from geoml.tasks._linear import linear

    splits = prepare(recipe)
    return linear(splits["train"], held_out(splits, split), Reader(), recipe.step)


def _made(card: MapCard) -> Config:
    return Config.model_validate(card.made)


def _paragraphs(said: Sequence[ScoreTable | str]) -> Markup:
    return Markup().join(Markup("<p>{}</p>").format(s) for s in said)
