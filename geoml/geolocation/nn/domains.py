"""Whether a picture is of the kind that a locator is for: a second head beside the one that answers.

A network is as sure of what it never saw as of what it knows, so a softmax over places is no sign. The head is taught
with pictures of other kinds (outlier exposure: Hendrycks, Mazeika, Dietterich 2019,
https://arxiv.org/abs/1812.04606), which carries over to kinds that were not among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml.geolocation.nn.locating import HeadConfig, Standardise, network


class DomainClassifier(nn.Module):
    """(B, features) to (B, 1 + kinds) logits: of a picture that the locator is for, then of each other kind."""

    def __init__(self, features: int, kinds: int, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.standardise = Standardise(features)
        self.net = network(HeadConfig(features, hidden, dropout), 1 + kinds)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.standardise(x))  # type: ignore[no-any-return]


def log_odds(logits: Tensor) -> Tensor:
    """(B,) that a picture is of the first kind against all others, from (B, 1 + kinds)."""
    return logits[:, 0] - logits[:, 1:].logsumexp(1)


def inside(domain: DomainClassifier, features: NDArray[np.float32], limit: float) -> NDArray[np.bool_]:
    """(N,) True for features (N, F) of pictures that the locator is for, by the ``limit`` of its card."""
    with torch.inference_mode():
        odds = log_odds(domain(torch.from_numpy(np.ascontiguousarray(features, np.float32))))
    return np.asarray(odds.numpy() >= limit)


def told(
    domain: DomainClassifier, features: NDArray[np.float32], kinds: Sequence[str]
) -> tuple[list[float], list[str]]:
    """Of (N, F) features the log odds, and the name of the likeliest other kind."""
    with torch.inference_mode():
        logits = domain(torch.from_numpy(np.ascontiguousarray(features, np.float32)))
        likeliest = logits[:, 1:].argmax(1).tolist()
    return log_odds(logits).tolist(), [kinds[k] for k in likeliest]
