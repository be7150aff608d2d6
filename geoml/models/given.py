"""The input, unchanged: for inputs that already compute the result, such as heights from points.

No network: `build` is the identity (https://docs.pytorch.org/docs/stable/generated/torch.nn.Identity.html) with a
stride of one pixel, so that it takes part in a run over blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from geoml.errors import InputError

TASKS = ()
TINY: dict[str, object] = {}


@dataclass(frozen=True)
class Config:
    """``bands`` channels pass, of so many ``dates``; ``classes`` is 0, since nothing is told apart.

    Raises InputError for less than one channel.
    """

    bands: int
    dates: int = 1
    classes: int = 0

    def __post_init__(self) -> None:
        if self.bands < 1 or self.dates < 1:
            raise InputError(f"bands: {self.bands} of {self.dates} dates; expected at least one")


class Given(nn.Module):
    """The identity."""

    stride = 1

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y x"]:
        """``x``."""
        return x


build = Given
