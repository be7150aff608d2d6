"""Inputs besides pixels that a network may request by naming them in its ``forward``, with the default None (unknown).

==========  ====================  ==================================================================
``looks``   (B, step, y, x) bool  True where a step has data; the channels of a step are 0 elsewhere
``months``  (B, step) int64       month of each step, 0 to 11
``place``   (B, 2, y, x) float32  longitude and latitude of each pixel, degrees
==========  ====================  ==================================================================
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from torch import Tensor, nn

Context = Mapping[str, Tensor]
"""By name, what is known of it."""

NAMES = frozenset({"looks", "months", "place"})


def asked(module: nn.Module) -> frozenset[str]:
    """Those of `NAMES` that the ``forward`` of a network takes."""
    return NAMES & set(inspect.signature(module.forward).parameters)
