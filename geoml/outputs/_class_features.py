"""Polygons of classes: of a block, and whole ones of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import geopandas
import numpy as np
from numpy.typing import NDArray

from geoml.engine.contract import FinishedRun, Rows
from geoml.grid.plane import Window
from geoml.io.cog.polygonise import polygonise
from geoml.io.stac.times import time_range
from geoml.io.tables.features import features_frame
from geoml.io.tables.parts import read_polygons, write_polygons
from geoml.vector.merge import FeatureMerger


@dataclass
class ClassPart:
    """Classes of a block and the layer ``beside`` them, until they are polygons; the class ``quiet`` is none."""

    window: Window
    beside: str
    nodata: int
    quiet: int | None = None
    classes: NDArray[np.uint8] = field(init=False)
    confidence: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.classes, self.confidence = (np.empty(self.window.shape, np.uint8) for _ in range(2))

    def add(self, rows: Rows) -> None:
        """Keep rows."""
        part = rows.window.slices(self.window)
        self.classes[part], self.confidence[part] = rows["class"][0], rows[self.beside][0]

    def write(self, path: Path, outside: NDArray[np.bool_] | None) -> None:
        """Write the polygons. Raises DataError."""
        classes = self.classes
        if self.quiet is not None:
            classes = np.where(classes == self.quiet, np.uint8(self.nodata), classes)
        write_polygons(polygonise(classes, self.confidence, self.nodata, self.window, outside), path)


def merged_frame(run: FinishedRun, scale: float) -> geopandas.GeoDataFrame:
    """Whole features of a run, see `geoml.io.tables.features.features_frame`; stored confidence times ``scale``."""
    merger, card, recipe = FeatureMerger(), run.plan.card, run.plan.recipe
    for block, polygons in run.parts(read_polygons):
        merger.add(block, polygons)
    return features_frame(
        merger.merged(),
        card=card,
        model_id=f"{card.name}/{card.version}/{card.sha256[:12]}",
        datetime=time_range(run.items),
        scale=scale,
        min_area=recipe.min_area,
        simplify=recipe.simplify,
    )
