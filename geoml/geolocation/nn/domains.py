"""Whether a picture is of the kind that a locator is for: a second head next to the one that answers.

A network is as confident about what it never saw as about what it knows, so a softmax over places is no indicator. The
head is trained with pictures of other kinds (outlier exposure: Hendrycks, Mazeika, Dietterich 2019,
https://arxiv.org/abs/1812.04606), which carries over to kinds that were not among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml.geolocation.nn.head_parts import HeadConfig, Standardise, network


class DomainHead(nn.Module):
    """Features to 1 + kinds logits: of a picture that the locator is for, then of each other kind."""

    def __init__(self, features: int, kinds: int, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.standardise = Standardise(features)
        self.net = network(HeadConfig(features, hidden, dropout), 1 + kinds)

    def forward(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch kinds"]:
        logits: Tensor = self.net(self.standardise(x))
        return logits


def log_odds(logits: Float[Tensor, "batch kinds"]) -> Float[Tensor, " batch"]:
    """That a picture is of the first kind against all others."""
    return logits[:, 0] - logits[:, 1:].logsumexp(1)


def odds_and_kinds(
    domain: DomainHead, features: NDArray[np.float32], kinds: Sequence[str]
) -> tuple[NDArray[np.float64], list[str]]:
    """(N,) log odds that a picture of (N, F) features is one that the locator is for, and the likeliest other kind."""
    with torch.inference_mode():
        logits = domain(torch.from_numpy(np.ascontiguousarray(features, np.float32)))
    likeliest = logits[:, 1:].argmax(1).tolist()
    return np.asarray(log_odds(logits).double().numpy()), [kinds[k] for k in likeliest]
