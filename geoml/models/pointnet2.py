"""PointNet++: classes for the points of a cloud, from voxels of a lattice grouped at growing scales.

Qi et al. 2017, https://arxiv.org/abs/1706.02413: set abstraction (sample, group, shared perceptron, maximum) and
feature propagation. Samples are centroids of voxels of a lattice in place of farthest points
(`geoml.cube.clouds.pyramid`), and in eval mode every layer is exact (`geoml.nn.points.exact`): the class of a point is
the same bit for bit whichever other points are given, as long as those within `Config.halo` are. The input features of
a point are its position in its voxel, which return it is, and its height above openings of the lowest points
(`geoml.cube.clouds.openings`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml.cube.clouds.openings import heights_above_openings, reach
from geoml.cube.clouds.pyramid import Pyramid, PyramidShape, pyramid
from geoml.errors import InputError
from geoml.nn.points.exact import ExactLayer, ExactOutput, held, taken
from geoml.nn.points.sets import FeaturePropagation, SetAbstraction, group_maximum, parts, perceptron

TASKS = ("point_classes",)
TINY = {"classes": 3, "widths": (8, 8, 12), "openings": (1, 2), "head": 8}

OF_A_GROUP = 5
"""Tensors of each level above the finest: see `geoml.cube.clouds.pyramid.Group`."""
RETURNS = ("first", "last", "single", "share")


@dataclass(frozen=True)
class Config:
    """``voxel`` is the side of the finest voxels in metres; there is one level for each of the ``widths``, each with
    twice the side. ``openings`` are the half widths, in cells of ``cell`` metres, of those that heights are above.
    ``head`` is the width of the last layer, ``dropout`` the share of it that is left out in training.

    Raises InputError for others.
    """

    classes: int
    voxel: float = 0.5
    widths: tuple[int, ...] = (32, 64, 96, 128)
    openings: tuple[int, ...] = (1, 2, 4, 8, 16)
    cell: float = 1.0
    head: int = 64
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise InputError(f"classes: {self.classes}; expected at least two")
        for name in ("voxel", "cell"):
            if (
                not 0.01 <= getattr(self, name) <= 100
                or round(getattr(self, name) * 1000) != getattr(self, name) * 1000
            ):
                raise InputError(f"{name}: {getattr(self, name)}; expected whole millimetres from 0.01 to 100 m")
        if not 2 <= len(self.widths) <= 8 or not all(1 <= w <= 128 for w in (*self.widths, self.head)):
            raise InputError(f"widths: {self.widths}, head: {self.head}; expected two to eight widths from 1 to 128")
        if not all(1 <= r <= 64 for r in self.openings) or list(self.openings) != sorted(set(self.openings)):
            raise InputError(f"openings: {self.openings}; expected whole cells from 1 to 64, rising")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout: {self.dropout}; expected 0 to below 1")

    @property
    def shape(self) -> PyramidShape:
        return PyramidShape(round(self.voxel * 1000), len(self.widths))

    @property
    def halo(self) -> float:
        """Metres along x or y within which lies all that the class of a point depends on."""
        return self.shape.reach(reach(round(self.cell * 1000), self.openings)) / 1000

    @property
    def seen(self) -> float:
        """The same of points that know already what `known_of` says."""
        return self.shape.reach() / 1000


class PointNet2(nn.Module):
    """`tensors` makes its arguments of a cloud, rows in the order of `geoml.cube.clouds.pyramid.Pyramid.order`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.halo = config.halo
        first, *above = config.widths
        self.points = perceptron(3 + len(RETURNS) + len(config.openings), first, first)
        self.down = nn.ModuleList(SetAbstraction(a, b) for a, b in zip(config.widths, above, strict=False))
        told = config.widths[-1]
        up = []
        for own in reversed(config.widths[:-1]):
            up.append(FeaturePropagation(told, own, width := max(own, config.head)))
            told = width
        self.up = nn.ModuleList(up)
        self.mixed = perceptron(told + first, config.head)
        self.dropout = nn.Dropout(config.dropout)
        self.classes = ExactOutput(config.head, config.classes)

    def forward(
        self, values: Float[Tensor, "point column"], count: Int[Tensor, " voxel"], *groups: Tensor
    ) -> Float[Tensor, "point class"]:
        """Logits of points in the order of their voxels, of which each holds ``count``.

        In eval mode they are float64, whole numbers of `geoml.nn.points.exact.VALUE`.

        ``groups`` are five tensors for each level above, the fields of `geoml.cube.clouds.pyramid.Group`.
        """
        kind = torch.float32 if self.training else torch.float64
        levels = [_typed(groups[k : k + OF_A_GROUP], kind, self.training) for k in range(0, len(groups), OF_A_GROUP)]
        if self.training:
            own = self.points(values.to(kind))
            told = self._told(group_maximum(own, count), levels)
            of = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
            last: Tensor = self.classes(self.dropout(self.mixed(torch.cat([taken(told, of), own], 1))))
            return last
        known = [group_maximum(self._own(values[rows]), count[voxels]) for voxels, rows in parts(count)]
        told = self._told(torch.cat(known), levels)
        return torch.cat([self._of_points(told, values, count, voxels, rows) for voxels, rows in parts(count)])

    def _told(self, finest: Tensor, levels: Sequence[tuple[Tensor, ...]]) -> Tensor:
        """What the finest voxels know after all levels, of what they know of their points."""
        known = [finest]
        for layer, (source, number, place, _, _) in zip(self.down, levels, strict=True):
            known.append(layer(known[-1], source, number, place))
        told = known.pop()
        for layer, (_, _, _, near, weight) in zip(self.up, reversed(levels), strict=True):
            told = layer(told, known.pop(), near, weight)
        return told

    def _own(self, values: Tensor) -> Tensor:
        """What points know of themselves, in eval mode."""
        out: Tensor = self.points(held(values.double()))
        return out

    def _of_points(self, told: Tensor, values: Tensor, count: Tensor, voxels: slice, rows: slice) -> Tensor:
        """Logits of some points in eval mode; what they know of themselves is cheaper to make again than to keep."""
        (mixed,) = self.mixed
        assert isinstance(mixed, ExactLayer)
        number = count[voxels]
        of = torch.repeat_interleave(torch.arange(len(number), device=number.device), number)
        out: Tensor = self.classes(mixed.beside(mixed.of_known(told[voxels]), of, self._own(values[rows])))
        return out


def _typed(group: tuple[Tensor, ...], kind: torch.dtype, training: bool) -> tuple[Tensor, ...]:
    source, number, place, near, weight = group
    return source, number, place.to(kind) if training else held(place.to(kind)), near, weight.to(kind)


def known_of(
    config: Config, points: NDArray[np.int64], returned: NDArray[np.uint8], returns: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """(n, columns) what each of the ``points`` (n, 3), mm from the origin of the CRS, knows before the network.

    ``returned`` and ``returns`` (n,) are number of the return and how many there were. It depends on points farther
    away than the network sees, and costs little.
    """
    height = heights_above_openings(points, round(config.cell * 1000), config.openings) / 1000
    all_ = np.maximum(returns, 1).astype(np.float64)
    echo = [returned <= 1, returned >= all_, all_ == 1, np.minimum(returned / all_, 1)]
    return np.concatenate([np.stack(echo, 1), np.sign(height) * np.sqrt(np.abs(height))], 1)


def tensors(
    config: Config, points: NDArray[np.int64], known: NDArray[np.float64]
) -> tuple[NDArray[np.int64], tuple[Shaped[Tensor, ...], ...]]:
    """Order and arguments of the network for ``points`` (n, 3), at least one, that know ``known`` (`known_of`)."""
    built = pyramid(points, config.shape)
    values = np.concatenate([built.place, known[built.order]], 1)
    return built.order, tuple(torch.from_numpy(a) for a in _flat(built, values))


def _flat(built: Pyramid, values: NDArray[np.float64]) -> Iterator[NDArray[np.generic]]:
    yield values
    yield built.count
    for group in built.groups:
        yield from group


def build(config: Config) -> PointNet2:
    """The network of a `Config`."""
    return PointNet2(config)
