"""Two views of one place: the surface by matching and triangulation.

What is fitted once for a run lies in the card: how the RPC of the pictures disagree, and the coarse surface. Tiles of
the left picture are matched on a lattice of its own (`geoml.cube.stereo.tile`), so a block has the same bytes however
the region is cut. Tiles are remembered by process, since several blocks need one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pystac
from numpy.typing import NDArray

from geoml.engine.run.plan import Plan
from geoml.errors import ModelError
from geoml.grid.plane import Plane, Window
from geoml.inputs._heights import HeightInput
from geoml.io.stores.store import sha256, within
from geoml.recipe import Frozen, parse

if TYPE_CHECKING:
    from geoml.cube.stereo.matching import Matcher
    from geoml.io.heights import HeightShift

TINY: Mapping[str, object] = {
    "dates": 3,
    "task": "stereo_elevation",
    "made": {"kind": "stereo", "layers": ["dsm", "count", "spread"]},
}
"""Arguments of `geoml.testing.card`, for the contract tests."""
SURFACE = "surface.npy"
"""In the package: the coarse surface in metres above the ellipsoid."""


class StereoTerms(Frozen):
    """``options`` of `HeightTerms` for a pair."""

    left: str
    """The item of the picture whose pixels are asked; `HeightTerms.sources` has both by their items."""
    right: str
    shift: tuple[tuple[float, float, float], tuple[float, float, float]]
    """Of the right sensor, see `geoml.cube.stereo.rpc.SensorModel`."""
    west: float
    north: float
    step: float
    surface: str
    """sha256 of the coarse surface."""
    below: float
    above: float
    matching: str = ""
    """The file of a network's weights; empty: the census."""
    weights: str = ""
    """Its sha256."""
    reported: str = ""
    """What the tie points say."""


@dataclass(frozen=True)
class Input(HeightInput):
    """See `geoml.engine.contract.Input`."""

    every: ClassVar[bool] = False

    @cached_property
    def options(self) -> StereoTerms:
        return parse(StereoTerms, dict(self.terms.options), f"{self.card.name}: options")

    def layers(
        self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window
    ) -> dict[str, NDArray[np.float32]]:
        """The surface of what was matched."""
        from geoml.cube.stereo.surface import surface

        with _ONE:
            matcher = _matcher(Path(plan.model_path), self.options, _Sources(self.terms.sources), str(plane.crs))
            reach = max(plane.res, matcher.shared.gsd)
            wide = plane.bounds(window.expand(int(np.ceil(reach / plane.res)) + 1))
            found = surface(matcher.within(wide), window, plane.res, reach, (plane.anchor, plane.anchor))
        return {**found, "dsm": self._on_datum(found["dsm"], plane, window)}

    def _on_datum(self, dsm: NDArray[np.float32], plane: Plane, window: Window) -> NDArray[np.float32]:
        """Heights above the ellipsoid as heights above the datum of the run."""
        if not self.terms.shift:
            return dsm
        from geoml.io.heights import HeightShift

        shift: HeightShift = HeightShift(**{**self.terms.shift, "grids": tuple(self.terms.shift["grids"])})
        row, column = np.nonzero(np.isfinite(dsm))
        x = (window.x0 + column + 0.5 + plane.anchor) * plane.res
        y = -(window.y0 + row + 0.5 + plane.anchor) * plane.res
        out = dsm.copy()
        places = np.asarray(x, np.float64), np.asarray(y, np.float64)
        out[row, column] = shift.apply(*places, dsm[row, column].astype(np.float64))
        return out

    def warnings(self, plan: Plan) -> list[str]:
        """How far the RPC of the pictures disagreed."""
        return [f"stereo: {self.options.reported}"] if self.options.reported else []


_ONE = Lock()
"""Matching takes all of a core, and what one thread matched the next one finds."""


class _Sources(dict[str, object]):
    """What the pictures are, as a key: the terms of one card do not change."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self)))


@lru_cache(maxsize=2)
def _matcher(model: Path, options: StereoTerms, sources: _Sources, crs: str) -> Matcher:
    """The one of a run, with the tiles that were matched last."""
    import pyproj

    from geoml.cube.stereo.census import census_costs
    from geoml.cube.stereo.coarse import CoarseSurface
    from geoml.cube.stereo.matching import Matcher
    from geoml.cube.stereo.pair import HeightBounds, Pair, SensorView, overlap
    from geoml.cube.stereo.rpc import SensorModel
    from geoml.io.sensor_image import SensorImage

    path = within(model, SURFACE)
    if sha256(path) != options.surface:
        raise ModelError(f"{path}: not the coarse surface that the run was planned with")
    coarse = CoarseSurface(np.load(path, allow_pickle=False), options.west, options.north, options.step)
    images = [SensorImage.from_plain(sources.get(name)) for name in (options.left, options.right)]
    left, right = (SensorView(i.name, SensorModel(i.rpc), i.first, i.shape, i.read) for i in images)
    pair = Pair(left, right, HeightBounds(coarse, options.below, options.above)).shifted(np.array(options.shift))
    costs = census_costs
    if options.matching:
        from geoml.engine.packages.matching import load
        from geoml.models.siamese_matching import NetworkCosts

        costs = NetworkCosts(load(Path(options.matching), options.weights))
    to = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    back = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return Matcher(pair, overlap(pair), to.transform, back.transform, costs)
