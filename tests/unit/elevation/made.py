"""Clouds of known truth: sloping ground, boxes with flat roofs and trees of several returns, scanned at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import laspy
import numpy as np
from numpy.typing import NDArray

from geoml.engine.packages.points import PointColumns
from geoml.io.points.cloud import Cloud

GROUND, TREE, BUILDING = 2, 5, 6


def scanned(
    seed: int, size: float = 40.0, density: float = 6.0, x: float = 1000.0, y: float = 2000.0
) -> tuple[PointColumns, NDArray[np.uint8]]:
    """A cloud whose south-west corner is at ``x``, ``y``, and its classes."""
    random = np.random.default_rng(seed)
    n = int(size * size * density)
    at = random.uniform(0, size, (n, 2))
    z = 50 + 0.1 * at[:, 0] + random.normal(0, 0.03, n)
    code = np.full(n, GROUND, np.uint8)
    returned, returns = np.ones(n, np.uint8), np.ones(n, np.uint8)
    for _ in range(3):
        corner, side = random.uniform(0, max(size - 10, 1), 2), random.uniform(6, 10, 2)
        roof = ((at >= corner) & (at <= corner + side)).all(1)
        z[roof] = 50 + 0.1 * corner[0] + 6 + random.normal(0, 0.03, roof.sum())
        code[roof] = BUILDING
    for _ in range(4):
        centre, radius = random.uniform(0, size, 2), random.uniform(2, 4)
        far = np.hypot(*(at - centre).T)
        crown = (far < radius) & (code == GROUND)
        z[crown] += random.uniform(1, 8, crown.sum())
        code[crown] = TREE
        returns[crown] = random.integers(1, 4, crown.sum())
        returned[crown] = random.integers(1, returns[crown] + 1)
    points = np.rint(np.column_stack([at[:, 0] + x, at[:, 1] + y, z]) * 1000).astype(np.int64)
    return PointColumns(points, returned, returns), code


def write(path: Path, columns: PointColumns, code: NDArray[np.uint8], **more: Any) -> Path:
    """A LAZ file of a cloud, in millimetres, without a CRS."""
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = np.full(3, 0.001), np.zeros(3)
    las = laspy.LasData(header)
    las.X, las.Y, las.Z = columns.points.T.astype(np.int32)
    las.classification, las.return_number, las.number_of_returns = code, columns.returned, columns.returns
    for name, value in more.items():
        setattr(las, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    las.write(path)
    return path


def cloud_of(columns: PointColumns) -> Cloud:
    """The same points as they are read, in their own order."""
    x, y, z = columns.points.T / 1000
    none = np.zeros(len(x), np.uint8)
    return Cloud(x, y, z, none, columns.returned, columns.returns, none.astype(np.uint16), none > 0)
