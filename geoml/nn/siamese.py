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
    """``encoder`` alone: (B, bands, H, W) to its feature maps at the ``depths`` 1, 2, … (stride 2, 4, …)."""

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

    def forward(self, x: Tensor) -> list[Tensor]:
        found = self.encoder(x)
        return [found[d] for d in self.depths]


def features(config: SiameseConfig, depths: Sequence[int], output_stride: int = 32) -> FeaturePyramid:
    """The encoder of ``config`` as `FeaturePyramid` for one date. Raises as `segmentation_model`."""
    return segmentation_model(
        FeaturePyramid, config.encoder, config.encoder_weights, config.bands, depths=depths, output_stride=output_stride
    )


def stacked(x: Tensor, dates: int) -> Tensor:
    """(B, dates * C, H, W) to (B * dates, C, H, W); the dates of a sample follow each other."""
    return x.reshape(-1, x.shape[1] // dates, *x.shape[2:])


def apart(x: Tensor, dates: int) -> tuple[Tensor, ...]:
    """(B * dates, …) as `stacked` gives it to one (B, …) for each date."""
    return x.reshape(-1, dates, *x.shape[1:]).unbind(1)


def concatenated(x: Tensor, dates: int) -> Tensor:
    """(B * dates, C, H, W) as `stacked` gives it to (B, dates * C, H, W)."""
    return torch.cat(apart(x, dates), dim=1)


def differences(parts: Sequence[Tensor], signed: bool) -> Tensor:
    """Of n dates (B, C, H, W) the n - 1 changes from each to the next, (B, (n - 1) * C, H, W).

    Absolute values know no direction: a swap of two dates gives the same. ``signed`` ones tell a gain from a loss.
    """
    steps = [later - earlier for earlier, later in pairwise(parts)]
    change = steps[0] if len(steps) == 1 else torch.cat(steps, dim=1)
    return change if signed else change.abs()
