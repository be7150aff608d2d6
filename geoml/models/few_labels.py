"""A map from few labels: an encoder and the bands, a linear head on both, and measures of how far to trust it.

Channels of the output, in this order: logits of the classes; the dissimilarity to the training pixels over its
threshold (Meyer and Pebesma 2021, https://doi.org/10.1111/2041-210X.13650; see `geoml.nn.applicability`), where
``references`` is not 0; logits of another model, where ``other`` names its features. Heads are fitted outside
(`geoml.nn.linear_heads`) and folded into one layer with the scaling of the features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from geoml import models
from geoml.errors import InputError
from geoml.nn.context import asked
from geoml.nn.linear_heads import SHARP
from geoml.nn.steps import filled

TASKS = ("landcover",)
TINY = {"encoder": None, "features": ("bands",), "classes": 3}
PARTS = ("embedding", "bands")
ROWS = 8192
"""Pixels that are held beside landmarks and training pixels at once."""
STRIP = 65_536
"""Pixels whose features are in memory at once, about."""


@dataclass(frozen=True)
class Config:
    """Arguments of `build`: ``bands`` of each of ``dates``, of which the encoder sees ``encoder_bands`` (all, where
    empty); ``classes`` are all channels of the output. ``encoder`` is a file of `geoml.models` with an encoder, of
    ``encoder_config``, or None; ``features`` and ``other`` are of `PARTS`; ``references`` how many training pixels are
    kept. ``landmarks`` and ``other_landmarks`` are those of a head of kernels; 0 is a linear one."""

    bands: int
    classes: int
    dates: int = 1
    encoder: str | None = None
    encoder_config: dict[str, Any] = field(default_factory=dict)
    encoder_bands: tuple[int, ...] = ()
    features: tuple[str, ...] = ("bands",)
    other: tuple[str, ...] = ()
    references: int = 0
    landmarks: int = 0
    other_landmarks: int = 0

    def __post_init__(self) -> None:
        if min(self.bands, self.classes, self.dates) < 1:
            raise InputError(f"few_labels: {self}; expected at least one of each")
        for name in ("features", "other"):
            given = tuple(getattr(self, name))
            object.__setattr__(self, name, given)
            if strange := set(given) - set(PARTS):
                raise InputError(f"{name}: {sorted(strange)}; expected some of {list(PARTS)}")
            if "embedding" in given and self.encoder is None:
                raise InputError(f"{name}: an embedding needs an encoder, and none is given")
        if not self.features:
            raise InputError("features: none given; expected embedding, bands or both")
        if (self.classes - bool(self.references)) % (1 + bool(self.other)):
            raise InputError(
                f"classes: {self.classes} channels; expected those of both models and of the dissimilarity"
            )

    @property
    def logits(self) -> int:
        """Classes of a head."""
        return (self.classes - bool(self.references)) // (1 + bool(self.other))


def channels(classes: int, *, references: bool, other: bool) -> int:
    """Channels of the output for so many classes."""
    return classes * (1 + other) + references


def squares(x: Float[Tensor, "row feature"], others: Float[Tensor, "other feature"]) -> Float[Tensor, "row other"]:
    """Squared distances of all rows to some others."""
    return ((x**2).sum(1, keepdim=True) - 2 * x @ others.T + (others**2).sum(1)).clamp(min=0)


def by_pixel(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "batch feature y x"]
) -> Float[Tensor, "batch out y x"]:
    """What a function of rows (row, feature) gives for every pixel, in parts of `ROWS`, the last filled up.

    So memory does not grow with the chip, and products of matrices have one size however pixels are cut.
    """
    batch, _, height, width = x.shape
    flat = x.permute(0, 2, 3, 1).flatten(0, 2)
    count = len(flat)
    flat = torch.cat([flat, flat[-1:].expand(-count % ROWS, -1)])
    out = torch.cat([function(part) for part in torch.split(flat, ROWS)])[:count]
    return torch.unflatten(out, 0, (batch, height, width)).permute(0, 3, 1, 2)


class Decision(nn.Module):
    """Logits of (batch, feature, y, x): linear, or of the likeness to landmarks, for which ``scale`` and ``offset``
    standardise; see `geoml.nn.linear_heads.KernelHead`."""

    def __init__(self, width: int, classes: int, landmarks: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(landmarks or width, classes, 1)
        self.landmarks: Tensor
        self.scale: Tensor
        self.offset: Tensor
        self.register_buffer("landmarks", torch.zeros(landmarks, width if landmarks else 0))
        self.register_buffer("scale", torch.ones(width if landmarks else 0))
        self.register_buffer("offset", torch.zeros(width if landmarks else 0))

    def forward(self, x: Float[Tensor, "batch feature y x"]) -> Float[Tensor, "batch class y x"]:
        logits: Tensor = by_pixel(self.likely, x) if len(self.landmarks) else self.linear(x)
        return logits

    def likely(self, x: Float[Tensor, "row feature"]) -> Float[Tensor, "row class"]:
        """Logits of rows by their likeness to the landmarks."""
        likeness = (squares(x * self.scale - self.offset, self.landmarks) * (-SHARP / x.shape[1])).exp()
        return nn.functional.linear(likeness, self.linear.weight[:, :, 0, 0], self.linear.bias)


class FewLabels(nn.Module):
    """See the module's documentation; nothing is known of a pixel without a look, so its channels say nothing."""

    radius = 0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.dates = config, config.dates
        self.encoder: nn.Module | None = None
        width = 0
        if config.encoder is not None:
            chosen = config.encoder_bands or tuple(range(config.bands))
            self.encoder = models.encoder(config.encoder, {**config.encoder_config, "bands": len(chosen)})
            width = int(self.encoder.width)  # type: ignore[arg-type]
            if config.dates > int(self.encoder.steps):  # type: ignore[arg-type]
                raise InputError(f"dates: {config.dates}; {config.encoder} takes at most {self.encoder.steps}")
            self.channels = [d * config.bands + b for d in range(config.dates) for b in chosen]
            self.radius = int(getattr(self.encoder, "radius", 0))
        self.stride: int = int(getattr(self.encoder, "stride", 1))
        self.widths = {"embedding": width, "bands": config.bands * config.dates}
        self.head = Decision(self._width(config.features), config.logits, config.landmarks)
        others = self._width(config.other), config.logits, config.other_landmarks
        self.other = Decision(*others) if config.other else None
        self.references: Tensor
        self.weights: Tensor
        self.offset: Tensor
        self.reach: Tensor
        count = self._width(config.features) if config.references else 0
        self.register_buffer("references", torch.zeros(config.references, count))
        self.register_buffer("weights", torch.ones(count))
        self.register_buffer("offset", torch.zeros(count))
        self.register_buffer("reach", torch.ones(()))

    def _width(self, parts: tuple[str, ...]) -> int:
        return sum(self.widths[p] for p in parts)

    def features(
        self,
        x: Float[Tensor, "batch channel y x"],
        looks: Bool[Tensor, "batch step y x"] | None = None,
        months: Int[Tensor, "batch step"] | None = None,
        place: Float[Tensor, "batch 2 y x"] | None = None,
    ) -> dict[str, Tensor]:
        """By name (batch, feature, y, x): the embedding, and the bands of all steps, a gap filled by the mean of the
        pixel's other steps."""
        found: dict[str, Tensor] = {"bands": filled(x, looks, self.dates)}
        if self.encoder is not None:
            context = {"looks": looks, "months": months, "place": place}
            given = {n: v for n, v in context.items() if n in asked(self.encoder)}
            found["embedding"] = self.encoder(x[:, self.channels], **given)
        return found

    def forward(
        self,
        x: Float[Tensor, "batch channel y x"],
        looks: Bool[Tensor, "batch step y x"] | None = None,
        months: Int[Tensor, "batch step"] | None = None,
        place: Float[Tensor, "batch 2 y x"] | None = None,
    ) -> Float[Tensor, "batch raw y x"]:
        height, width = x.shape[-2:]
        rows = max(1, STRIP // (len(x) * width * self.stride)) * self.stride
        if self.radius >= self.stride or rows >= height:  # windows are cut between, not within
            return self.strip(x, looks, months, place)
        parts = []
        for top in range(0, height, rows):
            here = (..., slice(top, top + rows), slice(None))
            seen, where = (None if v is None else v[here] for v in (looks, place))
            parts.append(self.strip(x[here], seen, months, where))
        return torch.cat(parts, 2)

    def strip(
        self,
        x: Float[Tensor, "batch channel y x"],
        looks: Bool[Tensor, "batch step y x"] | None,
        months: Int[Tensor, "batch step"] | None,
        place: Float[Tensor, "batch 2 y x"] | None,
    ) -> Float[Tensor, "batch raw y x"]:
        """As `forward`, of some rows: features are many times as large as what is said of them."""
        known = self.features(x, looks, months, place)
        mine = torch.cat([known[p] for p in self.config.features], 1)
        out = [self.head(mine)]
        if self.config.references:
            out.append(self.dissimilarity(mine))
        if self.other is not None:
            out.append(self.other(torch.cat([known[p] for p in self.config.other], 1)))
        return torch.cat(out, 1)

    def dissimilarity(self, features: Float[Tensor, "batch feature y x"]) -> Float[Tensor, "batch 1 y x"]:
        """Distance to the nearest training pixel; 1 is the largest that is inside."""

        def away(x: Float[Tensor, "row feature"]) -> Float[Tensor, "row 1"]:
            return squares(x * self.weights - self.offset, self.references).amin(1, keepdim=True).sqrt()

        return by_pixel(away, features) / self.reach


build = FewLabels
