"""Teach a locator what it is not for: a second head on the same features, its limit chosen on pictures it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoml.errors import InputError, ModelError
from geoml.geolocation.locate.card import Domained
from geoml.geolocation.nn.domains import DomainClassifier, told
from geoml.geolocation.training.recipe import Foreign

Features = NDArray[np.float32]
BATCH, RATE, DECAY = 512, 1e-3, 0.05


def fit(inside: Features, foreign: Mapping[str, Features], how: Foreign, seed: int) -> DomainClassifier:
    """The head in eval mode, from (N, F) features of pictures that the locator is for and those of each other kind.

    Half of what it sees is inside, and of the other half every kind has its share. Raises ModelError when the loss is
    not finite.
    """
    torch.manual_seed(seed)
    x = torch.from_numpy(np.concatenate([inside, *foreign.values()]).astype(np.float32))
    counts = [len(inside), *(len(v) for v in foreign.values())]
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    share = np.array([0.5, *[0.5 / len(foreign)] * len(foreign)]) / counts
    weight = np.repeat(share, counts)
    domain = DomainClassifier(inside.shape[1], len(foreign), how.hidden)
    domain.standardise.measure(x[: len(inside)])
    draw = np.random.default_rng([seed, 0xD0A])
    steps = math.ceil(len(x) / BATCH)
    optimiser = torch.optim.AdamW(domain.parameters(), RATE, weight_decay=DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps * how.epochs)
    domain.train()
    for _ in range(how.epochs):
        order = torch.from_numpy(draw.choice(len(x), len(x), p=weight / weight.sum()))
        for rows in order.split(BATCH):  # type: ignore[no-untyped-call]
            loss = nn.functional.cross_entropy(domain(x[rows]), y[rows], label_smoothing=0.01)
            if not bool(torch.isfinite(loss)):
                raise ModelError("domain: loss is not finite")
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            cycle.step()
    return domain.eval()


def choose(domain: DomainClassifier, sure: Features, foreign: Mapping[str, Features], how: Foreign) -> Domained:
    """The card's part: the limit that keeps the asked share of ``sure`` (N, F), pictures that the locator answers.

    ``foreign`` are other pictures than those that trained, to tell how many of each kind are refused. Raises InputError
    for fewer than 20 sure pictures.
    """
    if len(sure) < 20:
        raise InputError(f"foreign: {len(sure)} validation pictures have a sure answer; expected at least 20")
    kinds = tuple(foreign)
    score = np.array(told(domain, sure, kinds)[0])
    limit = float(np.quantile(score, 1 - how.kept))
    refused = {k: float((np.array(told(domain, v, kinds)[0]) < limit).mean()) for k, v in foreign.items()}
    return Domained(kinds=kinds, hidden=how.hidden, limit=limit, kept=float((score >= limit).mean()), refused=refused)
