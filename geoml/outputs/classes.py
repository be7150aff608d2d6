"""Classes: every pixel gets one class of a closed list, and the model's confidence.

Raw output are logits (B, K, y, x); index k means ``card.classes[k]``. What leaves the device are small integers only:
a probability of 1 is stored as 250. No other file knows that number: readers take scale and nodata from the COG, or
ask the output.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from geoml import models
from geoml.engine.contract import BlockRun, FinishedRun, Layer, Rows
from geoml.engine.following import Follower
from geoml.errors import InputError, ModelError
from geoml.io.cards.map_card import TEMPERATURE, MapCard
from geoml.io.report.images import rgb
from geoml.recipe import PredictRecipe

if TYPE_CHECKING:  # a plan asks an output for its layers and needs no torch, table or page
    from torch import Tensor

    from geoml.outputs._class_features import ClassPart
    from geoml.outputs._class_report import ClassReport

STEPS: Final = 250
"""A probability of 1.0 is stored as this."""
SCALE: Final = 1 / STEPS
NODATA: Final = 255
BROKEN: Final = 254
"""Stored where the logits were not finite; `Output.stored` refuses it."""
FEATURES: Final = "features.parquet"
TINY: Final[Mapping[str, object]] = {"classes": ("low", "middle", "high")}
"""Arguments of `geoml.testing.card`, for the contract tests."""


@dataclass(frozen=True)
class Output:
    """Confidence is the probability of the class. ``recipe`` may ask for ``probabilities`` of all, and ``features``."""

    card: MapCard
    recipe: PredictRecipe | None = None

    joiner: ClassVar[Literal["pixels"]] = "pixels"
    changes: ClassVar[bool] = False
    beside: ClassVar[str] = "confidence"
    """Key of the layer beside the class."""
    means: ClassVar[str] = "probability of that class"
    quiet: ClassVar[int | None] = None
    """Index of the class that is not a feature."""

    def __post_init__(self) -> None:
        if self.probabilities and models.calibrated(self.card.architecture):
            why = "needs no training and has none; expected false, or a trained model"
            raise InputError(f"probabilities: {self.card.name} {why}")

    @property
    def probabilities(self) -> bool:
        return self.recipe is not None and self.recipe.probabilities

    @property
    def raw(self) -> int:
        return len(self.card.classes)

    @property
    def channels(self) -> int:
        return self.raw

    @property
    def about(self) -> str:
        return "class, its confidence"

    @property
    def tables(self) -> Mapping[str, str]:
        wanted = self.recipe is not None and self.recipe.features
        return {FEATURES: "GeoParquet 1.1: polygons of the classes"} if wanted else {}

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        card = self.card
        found = [
            Layer(
                key="class",
                title="class of each pixel",
                nodata=card.nodata,
                overview="mode",
                predictor=False,
                colormap={c.value: (*rgb(c.color), 255) for c in card.classes},
                fields={"classification:classes": _described(card)},
            ),
            self._sure_layer(),
        ]
        if self.probabilities:
            names = tuple(c.name for c in card.classes)
            found.append(_share("probabilities", "probability of every class", bands=names, extra=True))
        return tuple(found)

    def _sure_layer(self) -> Layer:
        return _share(self.beside, self.means)

    @cached_property
    def temperature(self) -> float:
        """Divides the logits, see `geoml.nn.linear_heads.temperature`. Raises InputError if it is not above zero."""
        found = self.card.made.get(TEMPERATURE, 1.0)
        if not isinstance(found, int | float) or not 0 < found < math.inf:
            raise InputError(f"{self.card.name}: {TEMPERATURE} {found!r}; expected a number above zero")
        return float(found)

    # on the device

    def average(self, raw: Tensor) -> Tensor:
        """(B, K, y, x) float32 probabilities of logits."""
        return (raw.float() / self.temperature).softmax(dim=1)

    def sure(self, probability: Tensor, top: Tensor) -> Tensor:
        """(B, y, x) what is stored beside the class, of (B, K, y, x) probabilities and the largest of them."""
        return top

    def encode(self, averaged: Tensor) -> list[Tensor]:
        """Index, its confidence and, when asked, all probabilities: (B, band, y, x) uint8."""
        top, index = averaged.max(dim=1)
        encoded = [index.byte().unsqueeze(1), _steps(self.sure(averaged, top)).unsqueeze(1)]
        return [*encoded, _steps(averaged)] if self.probabilities else encoded

    def encode_raw(self, raw: Tensor) -> list[Tensor]:
        """As `encode`; without the probabilities the softmax of one class is enough."""
        if self.probabilities:
            return self.encode(self.average(raw))
        top, index = raw.max(dim=1)  # many times faster than argmax, and the softmax needs the maximum anyway
        total = (raw - top.unsqueeze(1)).float().div_(self.temperature).exp_().sum(dim=1)
        return [index.byte().unsqueeze(1), _steps(total.reciprocal_()).unsqueeze(1)]

    # on the host

    @cached_property
    def values(self) -> NDArray[np.uint8]:
        """(K,) class value of each index."""
        return np.array([c.value for c in self.card.classes], np.uint8)

    def stored(self, encoded: Sequence[NDArray[np.number]], known: NDArray[np.bool_]) -> dict[str, NDArray[np.number]]:
        """As `geoml.engine.contract.PixelOutput.stored`."""
        index, *shares = encoded
        found = {"class": np.where(known, self.values[index], np.uint8(self.card.nodata))}
        for layer, share in zip(self.layers[1:], shares, strict=True):
            found[layer.key] = np.where(known, share, np.uint8(NODATA))
        if bad := int(np.count_nonzero(found[self.layers[1].key] == BROKEN)):
            raise ModelError(f"the output of the model is not finite in {bad} pixels; check weights and normalisation")
        return found

    def answer(self, rows: Rows) -> tuple[NDArray[np.number], ...]:
        """Index of the class and confidence in `STEPS`, both (y, x) uint8; 255 where nothing is known."""
        index = np.full(256, NODATA, np.uint8)
        index[self.values] = np.arange(len(self.values), dtype=np.uint8)
        return index[rows["class"][0]], rows[self.layers[1].key][0]

    # the run

    def part(self, run: BlockRun) -> ClassPart:
        """Polygons of the classes of a block."""
        from geoml.outputs._class_features import ClassPart

        quiet = None if self.quiet is None else self.card.classes[self.quiet].value
        whole = not run.plan.recipe.simplify  # that needs the neighbours of all polygons
        return ClassPart(run.block, self.layers[1].key, self.card.nodata, quiet, whole)

    def collect(self, run: FinishedRun) -> None:
        """Whole features, as GeoParquet."""
        from geoml.outputs._class_features import write_rows

        write_rows(run, SCALE, run.out / FEATURES)

    def follower(self) -> Follower[Any] | None:
        """Nothing keeps its id."""
        return None

    def report(self, out: Path) -> ClassReport:
        """Classes, confidence and areas."""
        from geoml.outputs._class_report import ClassReport

        return ClassReport(self.card, self.layers[1].key, STEPS, NODATA)


def _steps(probability: Tensor) -> Tensor:
    """Probabilities as uint8 steps; NaN becomes `BROKEN`, so finding it costs no look at the device."""
    return probability.mul(STEPS).round_().nan_to_num_(nan=BROKEN).byte()


def _share(key: str, title: str, **more: Any) -> Layer:
    """A layer of numbers from 0 to 1."""
    return Layer(key=key, title=title, nodata=NODATA, scale=SCALE, **more)


def _described(card: MapCard) -> list[dict[str, object]]:
    """Classes as the classification extension wants them: names without blanks, colours without #."""
    classes: list[dict[str, object]] = [
        {
            "value": c.value,
            "name": re.sub(r"[^0-9A-Za-z_-]+", "-", c.name).strip("-") or f"class-{c.value}",
            "title": c.name,
            "color_hint": c.color.lstrip("#").upper(),
        }
        for c in card.classes
    ]
    return [*classes, {"value": card.nodata, "name": "nodata", "title": "no data", "nodata": True}]
