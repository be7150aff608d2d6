"""Land cover from few labels: classes, and layers that tell how far they can be trusted.

=================  ===================================================================================================
``sets``           prediction sets: how many classes are in the set, then for each class 1 where it is
``dissimilarity``  to the training pixels, over the largest that is inside of the area of applicability; above 1 is
                   outside (Meyer and Pebesma 2021, https://doi.org/10.1111/2041-210X.13650)
``disagreement``   1 where another model, learnt from other features, says another class
=================  ===================================================================================================

``made`` of the card says which of them there are: ``limit`` is the probability from which on a class is in a set,
``references`` whether distances are known, ``other`` the name of the other model. Raw output is that of
`geoml.models.few_labels`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoml.engine.contract import Layer
from geoml.errors import ModelError
from geoml.models.few_labels import channels
from geoml.outputs import classes

if TYPE_CHECKING:
    from torch import Tensor

    from geoml.outputs._landcover_report import LandCoverReport

TINY: Mapping[str, object] = {
    "classes": ("low", "middle", "high"),
    "task": "landcover",
    "made": {"limit": 0.3, "level": 0.9, "references": True, "other": "bands, ridge"},
}
"""Arguments of `geoml.testing.card`, for the contract tests."""
FINE = 100
"""A dissimilarity of 1 is stored as this."""
FURTHEST = 253
NODATA = 255


@dataclass(frozen=True)
class Output(classes.Output):
    """As `geoml.outputs.classes`, with what the card's ``made`` says."""

    @property
    def limit(self) -> float | None:
        """Probability from which on a class is in a prediction set; None without sets."""
        found: float | None = self.card.made.get("limit")
        return found

    @property
    def references(self) -> bool:
        return bool(self.card.made.get("references"))

    @property
    def other(self) -> str:
        """The name of the other model, "" without one."""
        return str(self.card.made.get("other") or "")

    @property
    def raw(self) -> int:
        return channels(self.channels_of_classes, references=self.references, other=bool(self.other))

    @property
    def channels_of_classes(self) -> int:
        return len(self.card.classes)

    @property
    def channels(self) -> int:
        return self.raw

    @property
    def about(self) -> str:
        return "class, its confidence, and how far it can be trusted"

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        found, names = [*super().layers], tuple(c.name for c in self.card.classes)
        if self.limit is not None:
            level = f"{100 * float(self.card.made.get('level', 0)):g} %"
            found.append(
                Layer(
                    key="sets", title=f"prediction sets that hold the truth {level} of the time on like ground",
                    nodata=NODATA, bands=("size", *names), overview="nearest", predictor=False, extra=True,
                    description="classes in the set; 1 where a class is in it",
                )
            )  # fmt: skip
        if self.references:
            found.append(
                Layer(
                    key="dissimilarity", title="distance to the training pixels; above 1 the model was never taught",
                    nodata=NODATA, scale=1 / FINE, extra=True,
                )
            )  # fmt: skip
        if self.other:
            found.append(
                Layer(
                    key="disagreement", title=f"1 where another model predicts another class: {self.other}",
                    nodata=NODATA, overview="average", extra=True,
                )
            )  # fmt: skip
        return tuple(found)

    # on the device

    def average(self, raw: Tensor) -> Tensor:
        """(B, channel, y, x) float32: probabilities, dissimilarity, probabilities of the other model."""
        import torch

        k = self.channels_of_classes
        parts = [raw[:, :k].float().softmax(dim=1)]
        if self.references:
            parts.append(raw[:, k : k + 1].float())
        if self.other:
            parts.append(raw[:, -k:].float().softmax(dim=1))
        return torch.cat(parts, 1)

    def encode(self, averaged: Tensor) -> list[Tensor]:
        """As `geoml.outputs.classes`, and the further layers: (B, band, y, x) uint8."""
        import torch

        k = self.channels_of_classes
        probability = averaged[:, :k]
        found = super().encode(probability)
        best = probability.argmax(1, keepdim=True)
        if self.limit is not None:
            inside = (probability >= self.limit).scatter(1, best, True)
            found.append(torch.cat([inside.sum(1, keepdim=True), inside], 1).byte())
        if self.references:
            steps = averaged[:, k : k + 1].mul(FINE).round_().clamp_(0, FURTHEST)
            found.append(steps.nan_to_num_(nan=classes.BROKEN).byte())
        if self.other:
            found.append((averaged[:, -k:].argmax(1, keepdim=True) != best).byte())
        return found

    def encode_raw(self, raw: Tensor) -> list[Tensor]:
        """As `encode`."""
        return self.encode(self.average(raw))

    # on the host

    def stored(self, encoded: Sequence[NDArray[np.number]], known: NDArray[np.bool_]) -> dict[str, NDArray[np.number]]:
        """As `geoml.engine.contract.PixelOutput.stored`."""
        found = super().stored(encoded, known)
        if self.references and (bad := int(np.count_nonzero(found["dissimilarity"] == classes.BROKEN))):
            raise ModelError(f"the dissimilarity is not finite in {bad} pixels; check weights and normalisation")
        return found

    # the run

    def report(self, out: Path) -> LandCoverReport:
        """Classes, and what held-out labels say of them."""
        from geoml.outputs._landcover_report import LandCoverReport

        return LandCoverReport(self.card, self.layers[1].key, classes.STEPS, NODATA, FINE)
