"""Teach a locator what it is not for: a second head on the same features, its limit chosen on pictures it answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from geoml.engine.train.loop import Training, learn
from geoml.errors import InputError
from geoml.geolocation.cards.locator import FittedDomain
from geoml.geolocation.nn.domains import DomainHead, odds_and_kinds
from geoml.geolocation.training.recipe import OutlierExposure
from geoml.geolocation.training.sampling import FeatureBatches

Features = NDArray[np.float32]
BATCH, RATE, DECAY, SMOOTH = 512, 1e-3, 0.05, 0.01


def fit(
    inside: Features, outliers: Mapping[str, Features], how: OutlierExposure, seed: int, folder: Path | None = None
) -> DomainHead:
    """The head in eval mode, from (N, F) features of pictures that the locator is for and those of each other kind.

    Half of what it sees is inside, and of the other half every kind has its share. Goes on with the state in
    ``folder``. Raises ModelError if the loss is not finite or the state is damaged, InputError for a batch too small
    for the processes, DataError if the state cannot be written, TransientError for a process that was killed.
    """
    torch.manual_seed(seed)
    x = torch.from_numpy(np.concatenate([inside, *outliers.values()]).astype(np.float32))
    counts = [len(inside), *(len(v) for v in outliers.values())]
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    share = np.array([0.5, *[0.5 / len(outliers)] * len(outliers)]) / counts
    weight = np.repeat(share, counts)
    domain = DomainHead(inside.shape[1], len(outliers), how.hidden)
    domain.standardise.measure(x[: len(inside)])
    batches = FeatureBatches(x, y, weight / weight.sum(), BATCH, np.random.default_rng([seed, 0xD0A]))
    training = Training(
        name="domain", lower="its learning rate", net=domain, batches=batches, epochs=how.epochs,
        loss=partial(functional.cross_entropy, label_smoothing=SMOOTH),
        optimiser=partial(AdamW, list(domain.parameters()), RATE, weight_decay=DECAY),
        schedule=partial(OneCycleLR, max_lr=RATE, total_steps=len(batches) * how.epochs),
        generators=(batches.rng,), buffers=False,
    )  # fmt: skip
    learn(training, folder)
    return domain


def choose(domain: DomainHead, sure: Features, outliers: Mapping[str, Features], how: OutlierExposure) -> FittedDomain:
    """The card's part: the limit that keeps the wanted share of ``sure`` (N, F), pictures that the locator answers.

    ``outliers`` are other pictures than those that trained, to tell how many of each kind are refused. Raises
    InputError for fewer than 20 sure pictures.
    """
    if len(sure) < 20:
        raise InputError(f"foreign: {len(sure)} validation pictures have a sure answer; expected at least 20")
    kinds = tuple(outliers)
    odds = odds_and_kinds(domain, sure, kinds)[0]
    limit = float(np.quantile(odds, 1 - how.kept))
    refused = {k: float((odds_and_kinds(domain, v, kinds)[0] < limit).mean()) for k, v in outliers.items()}
    kept = float((odds >= limit).mean())
    return FittedDomain(kinds=kinds, hidden=how.hidden, limit=limit, kept=kept, refused=refused)
