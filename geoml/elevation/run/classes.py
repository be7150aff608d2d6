"""Points of a run written back with the classes that were used, a file for each of its files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoml.engine.run.plan import Plan
from geoml.grid.plane import Plane, blocks_touching
from geoml.inputs.points import GROUND, Input, sources_of, squares_of
from geoml.io.points.cloud import Cloud
from geoml.io.points.items import source_of
from geoml.io.points.source import PointSource
from geoml.io.points.write import write_classes
from geoml.io.stac.item_table import item_table
from geoml.io.stores.store import within

CLASSIFIED: Final = "points"
"""Folder of the run."""
UNASSIGNED: Final = 1
SIDE: Final = 512
"""Cells of a side of the squares that are looked at one after the other."""

Keys = NDArray[np.uint64]


def write_all(plan: Plan, out: Path) -> None:
    """``points/ITEM.laz`` for each file of the run. Raises InputError for EPT, and what reading raises."""
    table = item_table(out / "sources.parquet")
    items = table.items(table.ids)
    reads, plane = Input(plan.card, plan.recipe), plan.zones[0].plane
    sources, shifted = sources_of(items, squares_of(plan.recipe)), bool(reads.terms.shift)
    for item, sorted_one in zip(items, sources, strict=True):
        path = within(out, f"{CLASSIFIED}/{item.id}.laz")
        if not path.is_file():
            keys, classes = told(reads, plane, sorted_one, sources)
            write_classes(source_of(item), partial(_looked_up, keys, classes, shifted), path)


def told(reads: Input, plane: Plane, of: PointSource, sources: Sequence[PointSource]) -> tuple[Keys, NDArray[np.uint8]]:
    """Sorted keys of the points where a file lies, and their classes."""
    keys, classes = [np.empty(0, np.uint64)], [np.empty(0, np.uint8)]
    for block in blocks_touching(plane, SIDE, plane.window(*of.bounds).expand(1)):
        cloud, ground = reads.classified(sources, plane, block.window)
        found = cloud.classification.copy()
        if reads.filter is not None:
            found[(found == GROUND) & ~ground] = UNASSIGNED
            found[ground] = GROUND
        keys.append(key_of(cloud, shifted=bool(reads.terms.shift)))
        classes.append(found)
    every = np.concatenate(keys)
    order = np.argsort(every, kind="stable")
    return every[order], np.concatenate(classes)[order]


def key_of(cloud: Cloud, *, shifted: bool) -> Keys:
    """(n,) of the place and the return of each point; without its height where heights are ``shifted``."""
    mixed = np.full(len(cloud), 0x9E3779B97F4A7C15, np.uint64)
    place = (cloud.x, cloud.y) if shifted else (cloud.x, cloud.y, cloud.z)
    columns: list[NDArray[Any]] = [*(c.view(np.uint64) for c in place), cloud.intensity, cloud.returned, cloud.returns]
    with np.errstate(over="ignore"):
        for column in columns:
            mixed ^= column.astype(np.uint64)
            mixed *= np.uint64(0xFF51AFD7ED558CCD)
            mixed ^= mixed >> np.uint64(33)
    return mixed


def _looked_up(keys: Keys, classes: NDArray[np.uint8], shifted: bool, part: Cloud) -> NDArray[np.uint8]:
    """The classes of points of a file; those that were left out keep theirs."""
    found = part.classification.copy()
    if len(keys):
        mine = key_of(part, shifted=shifted)
        at = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
        known = keys[at] == mine
        found[known] = classes[at[known]]
    return found
