"""A model that ends its process when it sees one value, as a library with a bug does; otherwise it takes its time."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

TASKS = ("segmentation",)
POISON = (6.49, 6.51)
"""What no other pixel is, nor random numbers that models are tried with."""


@dataclass(frozen=True)
class Config:
    bands: int
    classes: int
    pause: float = 0.0
    """Seconds for a forward."""


TINY = {"bands": 2, "classes": 3}


class Brittle(nn.Module):
    """Classes are levels of the first band, 0.2 apart."""

    stride = 1

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.pause = config.pause
        self.layer = nn.Conv2d(config.bands, config.classes, 1)
        with torch.no_grad():
            self.layer.weight.zero_()
            self.layer.weight[:, 0, 0, 0] = 100.0 * torch.arange(config.classes)
            steps = torch.tensor([sum(0.20005 * (k + 1) for k in range(n)) for n in range(config.classes)])
            self.layer.bias.copy_(-100.0 * steps)

    def forward(self, x: Tensor) -> Tensor:
        if bool(((x[:, 0] > POISON[0]) & (x[:, 0] < POISON[1])).any()):
            os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(self.pause * float(os.environ.get("BRITTLE_SLOWER", "1")))
        return self.layer(x)


def build(config: Config) -> nn.Module:
    return Brittle(config)
