"""Several dates through one encoder: its weights are shared, and what it finds is compared afterwards.

Images come as (B, dates * bands, H, W), all bands of the first date first. All dates go through the encoder as one
batch, so in training its batch normalisations see the statistics of all dates together, as they do at inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import segmentation_models_pytorch as smp
import torch
from jaxtyping import Float
from torch import Tensor, nn

from geoml.errors import InputError
from geoml.nn.encoders import EncoderConfig, segmentation_model


@dataclass(frozen=True)
class SiameseConfig(EncoderConfig):
    """What the configs of such models begin with; ``bands`` are those of one date."""

    dates: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dates < 2:
            raise InputError(f"dates: {self.dates}; expected at least two, there is nothing to compare")


class FeaturePyramid(nn.Module):
    """``encoder`` alone: its feature maps at the ``depths`` 1, 2, … (stride 2, 4, …)."""

    def __init__(
        self,
        encoder_name: str,
        encoder_weights: str | bool | None,
        in_channels: int,
        depths: Sequence[int],
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            encoder_name, in_channels, max(depths), encoder_weights, output_stride=output_stride
        )
        self.depths = tuple(depths)
        self.channels = tuple(self.encoder.out_channels[d] for d in depths)
        if 0 in self.channels:
            raise ValueError(f"no features at one of the depths {self.depths}")

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> list[Float[Tensor, "batch _ _ _"]]:
        levels = self.encoder(x)
        return [levels[d] for d in self.depths]


def features(config: SiameseConfig, depths: Sequence[int], output_stride: int = 32) -> FeaturePyramid:
    """The encoder of ``config`` as `FeaturePyramid` for one date. Raises InputError or TransientError."""
    return segmentation_model(
        FeaturePyramid, config.encoder, config.encoder_weights, config.bands, depths=depths, output_stride=output_stride
    )


def stacked(x: Float[Tensor, "batch bands y x"], dates: int) -> Float[Tensor, "batch*{dates} bands//{dates} y x"]:
    """Dates from the axis of the bands to the axis of the batch; the dates of a sample follow each other."""
    return x.reshape(-1, x.shape[1] // dates, *x.shape[2:])


def apart(x: Float[Tensor, "image channel y x"], dates: int) -> tuple[Float[Tensor, "batch channel y x"], ...]:
    """One batch for each date of what `stacked` put together."""
    return x.reshape(-1, dates, *x.shape[1:]).unbind(1)


def concatenated(x: Float[Tensor, "image channel y x"], dates: int) -> Float[Tensor, "batch {dates}*channel y x"]:
    """Dates back from the axis of the batch to that of the bands."""
    return torch.cat(apart(x, dates), dim=1)


def differences(parts: Sequence[Float[Tensor, "batch channel y x"]], signed: bool) -> Float[Tensor, "batch change y x"]:
    """Of n dates the n - 1 changes from each to the next, side by side.

    Absolute values know no direction: a swap of two dates gives the same. ``signed`` ones tell a gain from a loss.
    """
    steps = [later - earlier for earlier, later in pairwise(parts)]
    change = steps[0] if len(steps) == 1 else torch.cat(steps, dim=1)
    return change if signed else change.abs()
