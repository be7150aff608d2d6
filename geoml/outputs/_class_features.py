"""Polygons of classes: of a block, and whole ones of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from geoml.engine.contract import FinishedRun, Rows
from geoml.grid.plane import Block
from geoml.io.stac.times import time_range
from geoml.io.tables import geoparquet
from geoml.io.tables.features import FeatureRows, Labels, on_ground, outlined, simplified, types_of
from geoml.io.tables.geoparquet import EDGES, Extent, Spill
from geoml.io.tables.parts import read_edges, read_inside, write_part
from geoml.vector.merge import merged
from geoml.vector.polygonise import polygonise
from geoml.vector.polygons import Polygons


@dataclass
class ClassPart:
    """Classes of a block and the layer ``beside`` them, until they are polygons; the class ``quiet`` is none.

    ``of`` is the layer of the classes.
    """

    block: Block
    beside: str
    nodata: int
    quiet: int | None = None
    whole: bool = True
    """Polygons inside of the block are finished with it."""
    of: str = "class"
    classes: NDArray[np.uint8] = field(init=False)
    confidence: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.classes, self.confidence = (np.empty(self.block.window.shape, np.uint8) for _ in range(2))

    def add(self, rows: Rows) -> None:
        """Keep rows."""
        part = rows.window.slices(self.block.window)
        self.classes[part], self.confidence[part] = rows[self.of][0], rows[self.beside][0]

    def write(self, path: Path, outside: NDArray[np.bool_] | None) -> None:
        """Write the polygons. Raises DataError."""
        classes = self.classes
        if self.quiet is not None:
            classes = np.where(classes == self.quiet, np.uint8(self.nodata), classes)
        polygons = polygonise(classes, self.confidence, self.nodata, self.block.window, outside)
        write_part(self.block, polygons, path, whole=self.whole)


def write_rows(run: FinishedRun, scale: float, path: Path, rows: FeatureRows | None = None) -> None:
    """Write the whole features of a run, see `geoml.io.tables.features.Labels`; stored confidence times ``scale``.

    Blocks are read twice: first what lies on their edges, which is joined row by row of blocks, and the bounds of all
    others; then those, which were finished with their block. ``rows`` may make other rows of them. Raises DataError.
    """
    card, recipe = run.plan.card, run.plan.recipe
    labels = Labels(
        card, f"{card.name}/{card.version}/{card.sha256[:12]}", time_range(run.items), scale, recipe.min_area
    )
    rows = rows or FeatureRows()
    with geoparquet.scratch(path) as folder:
        extent, joined = Extent(), Spill(folder / "joined", rows.schema, geoparquet.HELD // 4)

        def edges() -> Iterator[tuple[Block, Polygons]]:
            for block, part in run.parts(read_edges):
                part = part.finished(block, whole=not recipe.simplify)
                ground = rows.kept(labels.large(part.inner))
                extent.add(np.stack([ground[edge].to_numpy() for edge in EDGES], 1), types_of(ground))
                yield block, part.edge

        def inside() -> Iterator[pa.Table]:
            for block, part in run.parts(read_inside):
                ground = rows.kept(labels.large(part.finished(block, whole=not recipe.simplify).inner))
                if len(ground):
                    blocks = pa.array([[block.id]] * len(ground), pa.list_(pa.string()))
                    yield rows.made(labels.rows(ground, block.plane, blocks))

        batches = merged(edges())
        for batch in simplified(batches, recipe.simplify) if recipe.simplify else map(outlined, batches):
            for some, ground in on_ground(batch):
                ground = ground.append_column("blocks", pa.array(some.blocks.tolist(), pa.list_(pa.string())))
                ground = rows.kept(labels.large(ground))
                extent.add(np.stack([ground[edge].to_numpy() for edge in EDGES], 1), types_of(ground))
                joined.add(rows.made(labels.rows(ground, batch.plane, ground["blocks"])))
        geoparquet.write_sorted(chain(joined.tables(), inside()), extent, rows.schema, path, folder)
