"""How long frames took: every one of them, so that the slowest hundredth is measured and not guessed."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

import numpy as np

STAGES = ("read", "wait", "model", "latency", "write")
"""``latency`` is ``read``, ``wait`` and ``model``: from the file to the answer in memory. ``write`` comes after it."""


class Latency:
    """Milliseconds of the stages of all frames that are done; 8 bytes each."""

    def __init__(self) -> None:
        self._ms = {stage: array("d") for stage in STAGES}

    def add(self, ms: Mapping[str, float]) -> None:
        """Count the stages of one frame."""
        for stage, value in ms.items():
            self._ms[stage].append(value)

    def __len__(self) -> int:
        return len(self._ms["model"])

    def summary(self) -> dict[str, dict[str, float]]:
        """Of each stage ``p50``, ``p99`` and ``mean``, milliseconds; empty without a frame."""
        return {stage: _summary(np.array(values)) for stage, values in self._ms.items() if len(values)}


def _summary(values: np.ndarray) -> dict[str, float]:
    p50, p99 = np.percentile(values, (50, 99))
    return {name: round(float(v), 3) for name, v in (("p50", p50), ("p99", p99), ("mean", values.mean()))}
