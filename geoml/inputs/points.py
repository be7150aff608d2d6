"""Clouds of points: surfaces through those of a block and around it, by a ground filter and a triangulation.

Each item is a file, whose `PointSource` is in its properties. Everything that decides a cell lies within `around` of
it, so a block has the same bytes however the region is cut.
"""

from __future__ import annotations

import fcntl
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import pystac
from numpy.typing import NDArray

from geoml.engine.cards.point_classes import PointCard
from geoml.engine.packages import cards
from geoml.engine.run.plan import Plan
from geoml.errors import InputError, ModelError
from geoml.grid.plane import Plane, Window
from geoml.inputs._heights import HeightInput
from geoml.io.stores.hrefs import redact
from geoml.io.stores.remote import is_url
from geoml.recipe import PredictRecipe

if TYPE_CHECKING:
    from geoml.cube.clouds.ground import GroundFilter
    from geoml.cube.clouds.surfaces import SurfaceOptions
    from geoml.engine.packages.points import PointPackage
    from geoml.io.points.cloud import Cloud
    from geoml.io.points.source import PointSource

CATALOG: Final = "points"
"""Folder of the catalog that a run writes of its clouds."""
GROUND: Final = 2
NEVER_GROUND: Final = (9, 17)
"""Water and bridges, where the files tell them; neither a filter of places nor a package can."""
LARGE: Final = 1_000_000
"""Points of a file of this machine without an index that is read as a whole for each block; others are sorted first."""
DELIVERED: Final = "delivered"
"""In place of a filter: what the files call ground."""
TINY: Mapping[str, object] = {"dates": 7, "task": "elevation", "made": {}}
"""Arguments of `geoml.testing.card`, for the contract tests."""


@lru_cache(maxsize=1)
def _loaded(name: str, sha256: str) -> PointPackage:
    from geoml.engine.packages.points import load  # torch

    package = load(name)
    if package.card.sha256 != sha256:
        raise ModelError(f"{name}: not the package that the run was planned with; expected weights {sha256[:12]}")
    return package


def catalog_of(recipe: PredictRecipe) -> Path:
    """The catalog of a run, in the folder `CATALOG` beside its package.

    What its items say is believed: which files are opened and how they are asked for. Raises InputError for any other
    catalog, wherever it is.
    """
    catalog = Path(recipe.model).absolute().parent / CATALOG / "catalog.json"
    if is_url(recipe.query.catalog) or Path(recipe.query.catalog).absolute() != catalog:
        raise InputError(
            f"catalog: {redact(recipe.query.catalog)} is not that of the run that made the model"
            f" {Path(recipe.model).name}; expected geoml elevation --catalog"
        )
    return catalog


def squares_of(recipe: PredictRecipe) -> Path:
    """The folder of a run for files without an index, sorted by place."""
    return catalog_of(recipe).parent / "squares"


def sources_of(items: Sequence[pystac.Item], folder: Path) -> list[PointSource]:
    """The files of items; large ones without an index as they are sorted in ``folder``, which happens once in a run."""
    from geoml.io.points.bins import binned
    from geoml.io.points.items import source_of

    sources = [source_of(item) for item in items]
    sort = [s.kind in ("las", "laz") and (s.count > LARGE or is_url(s.href)) for s in sources]
    if not any(sort):
        return sources
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one worker sorts, the others wait for what they need too
        return [binned([s], folder)[0] if large else s for s, large in zip(sources, sort, strict=True)]


@dataclass(frozen=True)
class Input(HeightInput):
    """See `geoml.engine.contract.Input`."""

    every: ClassVar[bool] = True

    @cached_property
    def options(self) -> SurfaceOptions:
        from geoml.cube.clouds.surfaces import SurfaceOptions

        return SurfaceOptions(**self.terms.options)

    @cached_property
    def filter(self) -> GroundFilter | None:
        """What tells the ground; None if classes do."""
        from geoml.cube.clouds.ground import FILTERS

        if self.terms.package or self.terms.ground == DELIVERED:
            return None
        found: GroundFilter = FILTERS.build(self.terms.ground, {})
        return found

    @cached_property
    def classifier(self) -> PointPackage | None:
        """The package that tells classes; None if a filter or the files do."""
        return _loaded(self.terms.ground, self.terms.package) if self.terms.package else None

    @property
    def around(self) -> int:
        """Cells around a block whose points decide it."""
        return math.ceil(self._halo / self.card.gsd) + math.ceil(self._told_from / self.card.gsd)

    @property
    def _told_from(self) -> float:
        """Metres around a point that decide whether it is ground."""
        if self.terms.package:
            return cards.read(self.terms.ground, PointCard).radius
        return self.filter.halo if self.filter else 0.0

    @property
    def _halo(self) -> float:
        from geoml.cube.clouds import buildings
        from geoml.cube.clouds.surfaces import halo

        return max(halo(self.options, self.card.gsd), buildings.reach(self.card.gsd))

    def check(self, when: Sequence[str]) -> None:
        """Raise InputError unless there is one time range, and the catalog is the run's own."""
        super().check(when)
        if self.recipe is not None:
            catalog_of(self.recipe)

    def layers(
        self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window
    ) -> dict[str, NDArray[np.float32]]:
        """Surfaces through the points of the window and around it."""
        from geoml.cube.clouds.buildings import footprints
        from geoml.cube.clouds.surfaces import surfaces

        wide = window.expand(math.ceil(self._halo / plane.res))
        cloud, ground = self.classified(sources_of(items, squares_of(plan.recipe)), plane, wide)
        found = dict(surfaces(cloud, ground, plane, window, self.options))
        return {**found, "building": footprints(cloud, plane, window).astype(np.float32)}

    def classified(
        self, sources: Sequence[PointSource], plane: Plane, window: Window
    ) -> tuple[Cloud, NDArray[np.bool_]]:
        """The points of a window with the classes that are used, and which of them (n,) are ground.

        Raises what `geoml.io.points.read.read_window` does, and DataError if heights cannot be shifted.
        """
        from geoml.io.heights import HeightShift
        from geoml.io.points.read import inside, read_window

        cloud = read_window(sources, plane.bounds(window.expand(math.ceil(self._told_from / plane.res))))
        if self.terms.shift:
            shift = HeightShift(**{**self.terms.shift, "grids": tuple(self.terms.shift["grids"])})
            cloud = replace(cloud, z=shift.apply(cloud.x, cloud.y, cloud.z))
        if self.classifier is not None:
            learned = self.classifier.classify(cloud)
            told = np.isin(cloud.classification, NEVER_GROUND)
            cloud = replace(cloud, classification=np.where(told, cloud.classification, learned))
        if self.filter is None:
            ground = cloud.classification == GROUND
        else:
            ground = self.filter.ground(cloud.x, cloud.y, cloud.z) & ~np.isin(cloud.classification, NEVER_GROUND)
        kept = inside(cloud.x, cloud.y, plane.bounds(window))
        return cloud.take(kept), ground[kept]

    def warnings(self, plan: Plan) -> list[str]:
        """Heights above nobody knows what."""
        if self.terms.vertical is None:
            return ["heights: the files do not say above what; expected --vertical, such as EPSG:5773"]
        return []
