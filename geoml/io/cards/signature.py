"""What a back end must know about a network, whatever kind of card its package has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from geoml.io.cards.int8 import Int8


@dataclass(frozen=True)
class Signature:
    """Shapes of what a network takes and gives, and what it is beside its weights."""

    name: str
    """Of the model, for messages."""
    channels: int
    """Of an image (B, channel, y, x), all dates together."""
    chip_size: int
    """Pixels of a side."""
    stride: int = 1
    """On which images are computed, where the network does not say it itself."""
    dates: int = 1
    vector: bool = False
    """True where an image gives one row of features, (B, F); else raw output of pixels, (B, K, y, x)."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """Plain values that decide, with the weights and the layers, what the network computes."""
    float32: bool = False
    """True where less precision would be seen in what is stored; computed in float32 whatever the device is good at."""
    int8: Int8 | None = None
    """Ranges and loss of its program in int8."""
