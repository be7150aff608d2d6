"""Train by a recipe of the task retrieval: grounds at several dates in, a package out.

The package is a locator: the backbone `geoml.geolocation.nn.places` as trained, and a head that answers with the places
of the most similar tiles of the first source. Nothing calibrated it, so it abstains; what it is for are its features
(``geoml geolocate similar``, an index of a map).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.transforms import Normalize

from geoml.engine.train.state import FolderClaim
from geoml.engine.train.team import OnEpoch
from geoml.errors import InputError
from geoml.geolocation import heads
from geoml.geolocation.cards.locator import LocatorCard
from geoml.geolocation.locate import locator
from geoml.geolocation.locate.features import Extractor
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.nn import places
from geoml.geolocation.nn.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from geoml.geolocation.nn.head_parts import FeatureConfig
from geoml.geolocation.training import contrastive
from geoml.geolocation.training.contrastive import Embedder
from geoml.geolocation.training.positives import DateStack, positives
from geoml.geolocation.training.recall import RecallScores, recall
from geoml.geolocation.training.retrieval_recipe import RetrievalRecipe, StacYears, read_stacks
from geoml.grid import sphere

NEAREST_KM = 1.0
"""Kernel of the head: its places are kept in single precision."""
QUERIES = 400
"""Pictures that ask, of each two dates."""


def fit(recipe: RetrievalRecipe, out: str | Path, on_epoch: OnEpoch | None = None) -> Locator:
    """Train by the recipe and write a package to ``out``.

    A run that was stopped goes on after its last epoch, `geoml.geolocation.training.contrastive.EPOCH` steps. Raises
    InputError for a test that shares ground with what trains and for a folder of another recipe, and as the sources do
    and as `geoml.geolocation.training.contrastive.fit`.
    """
    claim = FolderClaim(Path(out), recipe, recipe.hash)
    claim.check()
    sources = [(source.share, read_stacks(source)) for source in recipe.sources]
    trained = [stack for _, stacks in sources for stack in stacks]
    if any(_overlap(a, b) for source in recipe.tests for a in read_stacks(source) for b in trained):
        raise InputError("tests: leak, a ground of the test is trained on too; give them bounds that are apart")
    model, losses = contrastive.fit(sources, recipe.training, recipe.seed, claim.take(), on_epoch)
    backbone = _backbone(model)
    first, side = sources[0][1], recipe.training.side
    gallery, lonlat = _gallery(first, side)
    features = Extractor(backbone, side)
    head = heads.build("retrieval", {"features": backbone.features, "kernel_km": NEAREST_KM})
    rows = np.concatenate([features(gallery[k : k + 32]) for k in range(0, len(gallery), 32)])
    xyz = sphere.to_xyz(lonlat[:, 0], lonlat[:, 1]).astype(np.float32)
    head.start(torch.from_numpy(rows), torch.from_numpy(xyz))
    package = Locator(backbone, head.eval(), _card(recipe, backbone, head.config, first, lonlat, losses))
    package = dataclasses.replace(package, card=locator.save(package, out, recipe.half), path=Path(out))
    claim.forget()
    return package


def score(model: str | Path, recipe: RetrievalRecipe, queries: int = QUERIES) -> dict[str, object]:
    """R@1 of a package between every two dates of the recipe's tests, as plain JSON values.

    Raises InputError for a recipe without tests or another package, and as `geoml.geolocation.training.recall.recall`.
    """
    package = locator.load(model)
    card = package.card
    if not recipe.tests or card.backbone != places.NAME:
        raise InputError(f"tests: {len(recipe.tests)}, backbone {card.backbone}; expected a test and {places.NAME}")
    net = nn.Sequential(Normalize(IMAGENET_MEAN, IMAGENET_STD), package.backbone).eval()
    rows = []
    for place, stack in enumerate(s for source in recipe.tests for s in read_stacks(source)):
        for a, b in stack.pairs:
            scores, tiles = RecallScores(), 0
            for heading in scores.counts:
                counts = recall(net, stack, (a, b), card.size, queries, turn=heading == "any_heading")
                scores.update(heading, counts)
                tiles = counts.tiles
            shares = scores.compute()
            count = shares.pop("queries")
            rows.append({"ground": place, "reference": a, "query": b, **shares, "tiles": tiles, "queries": count})
    return {"model": card.name, "sha256": card.sha256, "recipe": recipe.hash, "recall": rows}


def _backbone(model: Embedder) -> Backbone:
    """The trained network as a backbone."""
    backbone = places.build()
    names = backbone.net.state_dict()
    backbone.net.load_state_dict({k: v for k, v in model.state_dict().items() if k in names})
    return backbone.eval()


def _gallery(stacks: list[DateStack], side: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """(N, S, S, 3) every tile at every date, and (N, 2) where: degrees, lon first."""
    pictures, lonlat = [], []
    for stack in stacks:
        tiles = positives(stack, side, side // 2)
        pictures += [tile.pictures for tile in tiles]
        places = np.array([tile.place for tile in tiles])
        lonlat.append(np.repeat(stack.lonlat(places), [len(tile.pictures) for tile in tiles], 0))
    return np.concatenate(pictures), np.concatenate(lonlat)


def _card(
    recipe: RetrievalRecipe,
    backbone: Backbone,
    config: FeatureConfig,
    stacks: list[DateStack],
    lonlat: NDArray[np.float64],
    losses: list[float],
) -> LocatorCard:
    source = recipe.sources[0]
    metres = source.gsd if isinstance(source, StacYears) else _metres(stacks[0])
    wide = recipe.training.side * metres / 1000
    (west, south), (east, north) = lonlat.min(0), lonlat.max(0)
    return LocatorCard(
        name=recipe.name, description=recipe.description, kind="overhead", license=recipe.license,
        data_license=recipe.data_license, backbone=backbone.name, head="retrieval",
        head_config=dataclasses.asdict(config),
        features=backbone.features, size=recipe.training.side, mean=IMAGENET_MEAN, std=IMAGENET_STD,
        width_km=(wide * recipe.training.zoom[0], wide * recipe.training.zoom[1]),
        bbox=(float(west), float(south), float(east), float(north)),
        coverage_note="features that know a place again at another date; not calibrated, so it gives no answers",
        training={"recipe": recipe.model_dump(mode="json"), "recipe_hash": recipe.hash, "pictures": len(lonlat),
                  "loss": [float(np.mean(part)) for part in np.array_split(losses, min(len(losses), 10))]},
    )  # fmt: skip


def _overlap(a: DateStack, b: DateStack) -> bool:
    """Whether two stacks share ground, as boxes of degrees; within a pixel they only touch."""
    boxes = []
    for stack in (a, b):
        height, width = stack.valid.shape[1:]
        corners = stack.lonlat(np.array([[1, 1], [1, width - 1], [height - 1, 1], [height - 1, width - 1]], float))
        boxes.append((corners.min(0), corners.max(0)))
    (low, high), (start, end) = boxes
    return bool((np.maximum(low, start) < np.minimum(high, end)).all())


def _metres(stack: DateStack) -> float:
    """Pixel size from the distance between two places, since files may be in degrees."""
    size = float(stack.valid.shape[1])
    (west, east), (south, north) = stack.lonlat(np.array([[0.0, 0.0], [size, 0.0]])).T
    return float(sphere.distance(west, south, east, north)) * 1000 / size
