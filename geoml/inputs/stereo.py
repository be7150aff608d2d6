"""Two views of one place: the surface by matching and triangulation.

What is fitted once for a run lies in the card: how the RPC of the pictures disagree, and the coarse surface. Tiles of
the left picture are matched on a lattice of its own (`geoml.cube.stereo.tile`), so a block has the same bytes however
the region is cut. Tiles are remembered by process, since several blocks need one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pystac
from numpy.typing import NDArray

from geoml.engine.contract import BlockPixels
from geoml.engine.pixels import Pixels
from geoml.engine.run.plan import Plan
from geoml.errors import InputError, ModelError
from geoml.grid.plane import Block, Plane, Window
from geoml.grid.relief import relief
from geoml.inputs._unfitted import Unfitted
from geoml.io.cards.elevation import VOID, HeightTerms
from geoml.io.cards.map_card import MapCard
from geoml.io.stores.store import sha256, within
from geoml.recipe import Frozen, PredictRecipe, parse

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
class Input(Unfitted):
    """See `geoml.engine.contract.Input`."""

    card: MapCard
    recipe: PredictRecipe | None = None

    every: ClassVar[bool] = False
    rasters: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.card.dates != len(self.terms.layers):
            raise InputError(f"dates: {self.card.dates}; {self.card.name} has {len(self.terms.layers)} layers")

    @cached_property
    def terms(self) -> HeightTerms:
        return parse(HeightTerms, dict(self.card.made), f"{self.card.name}: made")

    @cached_property
    def options(self) -> StereoTerms:
        return parse(StereoTerms, dict(self.terms.options), f"{self.card.name}: options")

    def check(self, when: Sequence[str]) -> None:
        """Raise InputError unless there is one time range."""
        if len(when) != 1:
            raise InputError(f"datetime: {len(when)} given; {self.card.name} takes one range of both pictures")

    def reference(self, when: Sequence[str]) -> str | None:
        """Raises InputError: a pair is not looked at day by day."""
        raise InputError(f"datetime: {self.card.name} reads two pictures; expected geoml elevation")

    def steps(self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window) -> list[Pixels]:
        """One for each layer; see `read`."""
        pixels = self._pixels(plan, items, plane, window)
        return [replace(pixels, data=layer[None], scale=(1.0,), offset=(0.0,)) for layer in pixels.data]

    def together(self, steps: Sequence[Pixels]) -> Pixels:
        """All layers as channels."""
        ones, zeros = (1.0,) * len(steps), (0.0,) * len(steps)
        return replace(steps[0], data=np.concatenate([s.data for s in steps]), scale=ones, offset=zeros)

    def read(self, plan: Plan, items: Sequence[pystac.Item], block: Block, window: Window) -> BlockPixels:
        """The layers of the window, VOID where nothing matched.

        Raises DataError for a broken file, InputError where heights need too many disparities, TransientError when a
        server does not answer, ModelError for weights that changed.
        """
        return BlockPixels(self._pixels(plan, items, block.plane, window), (tuple(items),))

    def _pixels(self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window) -> Pixels:
        from geoml.cube.stereo.surface import surface

        with _ONE:
            matcher = _matcher(Path(plan.model_path), self.options, _Sources(self.terms.sources), str(plane.crs))
            reach = max(plane.res, matcher.shared.gsd)
            wide = plane.bounds(window.expand(int(np.ceil(reach / plane.res)) + 1))
            found = surface(matcher.within(wide), window, plane.res, reach, (plane.anchor, plane.anchor))
        found["dsm"] = self._on_datum(found["dsm"], plane, window)
        layers = np.stack([found[name] for name in self.terms.layers]).astype(np.float32)
        known = np.isfinite(found["dsm"])
        data = np.where(np.isfinite(layers), layers, np.float32(VOID))
        ones, zeros = (1.0,) * len(layers), (0.0,) * len(layers)
        return Pixels(data, known.astype(np.uint16), ones, zeros, window, tuple(items), plane)

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

    def pictures(self, pixels: Pixels) -> Mapping[str, Pixels]:
        """The surface as shaded relief."""
        dsm = pixels.data[self.terms.layers.index("dsm")]
        light = relief(np.where(dsm > VOID / 2, dsm, np.nan), self.card.gsd)
        shown = np.nan_to_num(4 * light - 2).astype(np.float32)  # a picture shows two deviations around the mean
        count = np.where(np.isfinite(light), pixels.count, 0).astype(np.uint16)
        return {"preview": replace(pixels, data=shown[None], count=count, scale=(1.0,), offset=(0.0,))}

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
