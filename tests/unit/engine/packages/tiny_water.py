"""A small map package for the tests of packages: water in two radar bands."""

from __future__ import annotations

import torch
from torch import nn

from geoml.engine.packages import package
from geoml.io.cards.map_card import Band, ClassInfo, MapCard

CARD = MapCard(
    name="tiny-water",
    architecture="segnet",
    config={"bands": 2, "classes": 2, "channels": [4, 4], "convolutions": [1, 1]},
    bands=(Band(name="vv", mean=-11.0, std=4.0), Band(name="vh", mean=-18.0, std=5.0)),
    gsd=10.0,
    chip_size=64,
    classes=(ClassInfo(value=0, name="land", color="#a0a000"), ClassInfo(value=7, name="water", color="#0000FF")),
    training={"seed": 3, "init": None},
    scores={"miou": 0.5},
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return package.build(CARD)
