"""The record of a detector in a card, besides its scores: thresholds, calibration, counts, sizes.

All of it was learnt on the training and validation splits, and nothing on what is held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from geoml.recipe import Frozen

MOST = 256
"""Points that any list of the record has at most."""
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class _Record(Frozen):
    model_config = ConfigDict(allow_inf_nan=False)


class Sizes(_Record):
    """Longer sides of the boxes that it was trained on, in metres."""

    least: NotNegative
    most: NotNegative
    seen: NotNegative = Field(description="what the network can see at once: of more it cannot find both ends")


class FoundClass(_Record):
    """Of one class, on the validation split; matches are at an overlap of 0.4."""

    threshold: Share = Field(description="score from which on its boxes are reported")
    chosen: str = Field(description="how: f1, precision 0.9, default")
    calibration: Literal["isotonic", "platt"] | None = Field(description="of the knots; None: too few match")
    knots: tuple[tuple[Share, Share], ...] = Field(
        default=(), max_length=MOST, description="score and chance to be a true object; straight between them"
    )
    candidates: Count = Field(description="of any score; so many of them match one of")
    matched: Count
    truth: Count
    found: Count = Field(description="from the threshold on; so many of them match, by the best assignment")
    hits: Count
    curve: tuple[tuple[Share, Share, Share], ...] = Field(
        default=(), max_length=MOST, description="score, precision and recall from it on"
    )
    reliability: tuple[tuple[Share, Share, Count], ...] = Field(
        default=(), max_length=MOST, description="mean confidence, share that is true, boxes"
    )
    d_ece: Share | None = Field(default=None, description="of all candidates, by curves fitted without them")
    squares: tuple[tuple[NotNegative, Count], ...] = Field(
        default=(), max_length=MOST, description="of ground: sum of confidences, true objects"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for before, after in zip(self.knots, self.knots[1:], strict=False):
            if not (before[0] < after[0] and before[1] <= after[1]):
                raise ValueError(f"knots: {list(after)} after {list(before)}; expected scores that rise, and no fall")
        if self.hits > min(self.found, self.truth):
            raise ValueError(
                f"hits: {self.hits} of {self.found} found and {self.truth} true; expected no more than either"
            )
        return self

    @property
    def precision(self) -> float | None:
        """From the threshold on; None if nothing was found."""
        return self.hits / self.found if self.found else None

    @property
    def recall(self) -> float | None:
        """From the threshold on; None without a true object."""
        return self.hits / self.truth if self.truth else None


class Detection(_Record):
    """The record of a detector."""

    least: Share = Field(description="score of the weakest candidate, by which objects are counted")
    overlap: Share = Field(default=0.4, description="intersection over union of a match")
    split: str = Field(default="val", description="what it was measured on")
    square: NotNegative = Field(description="metres of a side of a square of ground")
    sizes: Sizes | None = Field(default=None, description="of training boxes; None: there was none")
    classes: Mapping[str, FoundClass] = Field(description="by name")
