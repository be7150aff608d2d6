"""Packages of networks that give each point of a cloud a class: built by their card, checked, saved, run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoml import models
from geoml.cube.clouds.pyramid import millimetres
from geoml.engine.cards.point_classes import PointCard
from geoml.engine.packages import weights
from geoml.errors import InputError, ModelError
from geoml.io.points.cloud import Cloud

MOST_POINTS = 1_000_000
"""That the network sees at once, where the cloud can be cut; some 1 kB each."""

Bools = NDArray[np.bool_]


def columns_of(cloud: Cloud) -> PointColumns:
    """What a network sees of a cloud: coordinates to the millimetre, and returns."""
    return PointColumns(millimetres(cloud.x, cloud.y, cloud.z), cloud.returned, cloud.returns)


class PointColumns(NamedTuple):
    """What a network sees of points: ``points`` (n, 3) int64, mm from the origin of the CRS and of heights;
    ``returned`` and ``returns`` (n,), number of the return and how many there were."""

    points: NDArray[np.int64]
    returned: NDArray[np.uint8]
    returns: NDArray[np.uint8]

    def take(self, those: Bools | NDArray[np.intp]) -> PointColumns:
        return PointColumns(self.points[those], self.returned[those], self.returns[those])


@dataclass(frozen=True)
class PointPackage:
    """A loaded classifier: ``module`` in eval mode on the CPU."""

    module: nn.Module
    card: PointCard
    path: Path

    @property
    def halo(self) -> float:
        """Metres along x or y within which lies all that the class of a point depends on."""
        return self.card.radius

    def classify(self, cloud: Cloud) -> NDArray[np.uint8]:
        """Codes of the classes (n,), as the card lists them.

        The class of a point is the same whichever others are given, as long as those within `halo` are, in any order.
        """
        columns = columns_of(cloud)
        codes = np.array([c.value for c in self.card.classes], np.uint8)
        found = np.zeros(len(cloud), np.uint8)
        if not len(cloud):
            return found
        known = _file(self.card).known_of(_config(self.card), *columns)
        for seen, own in _parts(columns.points, round(_config(self.card).seen * 1000)):
            found[seen[own]] = codes[_answer(self, columns.points[seen], known[seen])[own]]
        return found


def _parts(points: NDArray[np.int64], halo: int) -> Iterator[tuple[NDArray[np.intp], Bools]]:
    """Points to look at (indices), and which of these are decided then; each is decided once."""
    todo = [(np.arange(len(points)), np.ones(len(points), np.bool_))]
    while todo:
        seen, own = todo.pop()
        at = points[seen]
        low, high = at[own].min(0), at[own].max(0)
        axis = int(np.argmax((high - low)[:2]))
        if len(seen) <= MOST_POINTS or high[axis] - low[axis] <= halo:
            yield seen, own
            continue
        middle = int(low[axis] + high[axis]) // 2
        for inside, near in (
            (at[:, axis] <= middle, at[:, axis] <= middle + halo),
            (at[:, axis] > middle, at[:, axis] > middle - halo),
        ):
            todo.append((seen[near], (own & inside)[near]))


@torch.inference_mode()
def _answer(package: PointPackage, points: NDArray[np.int64], known: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the class of each point (n,); the first of those that are equally likely.

    Raises ModelError if the network gives another number of classes than the card has.
    """
    card = package.card
    order, arguments = _file(card).tensors(_config(card), points, known)
    logits = package.module(*arguments)
    if logits.shape[1] != len(card.classes):
        raise ModelError(f"{card.name}: {logits.shape[1]} classes come out, the card lists {len(card.classes)}")
    best = np.empty(len(order), np.int64)
    best[order] = logits.numpy().argmax(1)
    return best


def arguments_of(card: PointCard, columns: PointColumns) -> tuple[NDArray[np.int64], tuple[torch.Tensor, ...]]:
    """The order of the rows, and the arguments of the network, for points that are looked at all at once."""
    file, config = _file(card), _config(card)
    order, arguments = file.tensors(config, columns.points, file.known_of(config, *columns))
    return order, arguments


def load(name_or_dir: str | Path) -> PointPackage:
    """Read, check and build a package.

    Raises InputError for an unknown name, ModelError for a damaged package and when card and weights disagree.
    """
    card, path, content = weights.read(name_or_dir, PointCard)
    return PointPackage(weights.fill(build(card), weights.read_tensors(content, path), path), card, path.parent)


def build(card: PointCard) -> nn.Module:
    """The network of a card with fresh weights. Raises ModelError if the card does not fit it."""
    try:
        config = _config(card)
        module = models.build(card.architecture, {**card.config, "classes": len(card.classes)})
    except InputError as err:
        raise ModelError(f"{card.name}: {err}") from err
    if (card.voxel, card.radius) != (config.voxel, config.halo):
        raise ModelError(
            f"{card.name}: voxel and radius are {config.voxel} and {config.halo} m, the card says {card.voxel} and"
            f" {card.radius}"
        )
    return module


def save(module: nn.Module, card: PointCard, directory: str | Path) -> PointCard:
    """Write a package and give the card as written, with parameters and checksum. What fails leaves nothing.

    Raises ModelError for weights that are not finite, DataError if the folder cannot be written.
    """
    content = weights.packed(module.state_dict(), card.name)
    about = {
        "config": json.loads(json.dumps(card.config)),
        "weights": weights.WEIGHTS,
        "stored": "float32",
        "parameters": sum(p.numel() for p in module.parameters()),
    }
    return weights.write(card.model_copy(update=about), content, directory)


def _file(card: PointCard) -> ModuleType:
    return models.find(card.architecture)


def _config(card: PointCard) -> Any:
    """Raises InputError for an architecture that is not of points."""
    if "point_classes" not in _file(card).TASKS:
        raise InputError(f"architecture: {card.architecture}; expected one for points, such as pointnet2")
    return models.configure(card.architecture, {**card.config, "classes": len(card.classes)})
