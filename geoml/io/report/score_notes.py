"""Notes on scores: classes that were not tested, and classes that were tested on few labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geoml.texts import counted, listed

FEW_PIXELS = 500
FEW_PLACES = 10
"""Below either, scores of a class are said to rest on few labels: one place of ten that goes wrong moves recall by
ten points, and neighbouring pixels of one place are no further evidence."""


def few_labels(support: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Names of classes with some labels, but fewer than ``FEW_PIXELS`` pixels or ``FEW_PLACES`` places."""
    return [n for n, s in support.items() if s["pixels"] and (s["pixels"] < FEW_PIXELS or s["places"] < FEW_PLACES)]


def score_notes(scores: Mapping[str, Any]) -> list[str]:
    """Sentences to put beside the scores of a split, which are those of `geoml.engine.train.evaluate.score`."""
    lines, support = [], scores.get("support") or {}
    if absent := scores.get("absent"):
        lines.append(f"Not tested, for lack of labelled pixels: {listed(absent)}; so there is no mean over classes.")
    if rare := few_labels(support):
        named = (
            f"{n} ({counted(support[n]['pixels'], 'pixel')} in {counted(support[n]['places'], 'place')})" for n in rare
        )
        limit = f"below {FEW_PIXELS} pixels or {FEW_PLACES} places a score is a hint"
        lines.append(f"Few labels: {listed(named)}; {limit}.")
    if known := scores.get("taught_with"):
        lines.append(f"{counted(known, 'label')} left out: the model was taught with them.")
    return lines
