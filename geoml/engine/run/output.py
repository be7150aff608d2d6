"""The files of a block: COGs that grow while rows finish, pictures, a part for the run, and at the end its STAC item.

What every block has is here: the count of valid observations, the similarity to the training data, pictures, the item.
The layers of the map are the output's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from geoml.cube.preview import channels, covered, picture_factor, quicklook, thinning
from geoml.engine.contract import AnyOutput, BlockRun, Layer, Rows, asset_info, input_of
from geoml.engine.run.plan import MODEL, PART, Plan
from geoml.io.cards import domain
from geoml.io.cog.overview import Statistics
from geoml.io.cog.write import CogWriter
from geoml.io.crs import with_heights
from geoml.io.report.counts import COUNTS, SKETCH, BlockCounter
from geoml.io.stac.items import AssetInfo, block_footprint, block_item, write_item
from geoml.io.stac.times import time_range
from geoml.io.stores.store import atomic, sha256, within

COUNT_NODATA = 255
"""In the valid count: outside the region. 0 is a pixel without an observation; 254 stands for more."""

SHOWN = (0.25, 2.5)
"""Times the usual value of a band, from black to white."""

DARK = 0.3
"""Of 0 (black) to 1 (white)."""

VALID = Layer(
    key="valid",
    title="valid observations",
    nodata=COUNT_NODATA,
    descriptions=("valid observations",),
    overview="nearest",
    predictor=False,
)
DOMAIN = Layer(
    key="domain",
    title="similarity to the training data",
    nodata=domain.NODATA,
    descriptions=("similarity to the training data",),
    scale=1 / domain.STEPS,
)


class BlockWriter:
    """Takes the finished rows of a block, top to bottom, and publishes the block."""

    def __init__(self, out: Path, run: BlockRun, output: AnyOutput, *, moves: bool = False) -> None:
        """Outside of the region, every file of the block holds nodata.

        ``moves``: ``out`` is a working copy, so that nothing outside of it has a place relative to it.
        """
        self.out, self.run, self.output, self.moves = out, run, output, moves
        self.folder = within(out, f"cogs/{run.block.id}/valid.tif").parent
        for stale in self.folder.glob(".*.part"):  # of a run that was killed while it published this block
            stale.unlink(missing_ok=True)
        own = output.layers
        layers = [*(x for x in own if not x.extra), VALID, *(x for x in own if x.extra)]
        self.layers = {x.key: x for x in (layers if run.likeness is None else [*layers, DOMAIN])}
        self.cogs = {key: self._cog(layer) for key, layer in self.layers.items()}
        self.part = output.part(run) if output.tables else None
        self.report, grid = output.report(out), run.block.geobox
        self.counter = BlockCounter(self.report, run.block.window.shape, grid.affine, run.block.plane.crs)
        self.valid = run.asked & run.inner.valid

    def _cog(self, layer: Layer) -> CogWriter:
        box, plane = self.run.block.geobox, self.run.block.plane
        return CogWriter(
            self.folder / f"{layer.key}.tif",
            GeoBox(box.shape, box.affine, with_heights(plane.crs, layer.vertical)),
            layer.dtype,
            bands=len(layer.names),
            nodata=layer.nodata,
            colormap=layer.colormap,
            scale=layer.scale,
            offset=layer.offset,
            descriptions=layer.descriptions or layer.names,
            overview=layer.overview,
            predictor=layer.predictor,
            tile=layer.tile,
        )

    def rows(self, rows: Rows) -> None:
        """Take finished rows."""
        part = rows.window.slices(self.run.block.window)
        asked, count = self.run.asked[part], self.run.inner.count[part]
        inside = {x.key: _masked(rows[x.key], asked, x) for x in self.output.layers}
        counted = np.minimum(count, COUNT_NODATA - 1).astype(np.uint8)
        shared = {"valid": _masked(counted, asked, VALID)}
        if self.run.likeness is not None:
            shared["domain"] = _masked(self.run.likeness[part], asked, DOMAIN)
        for key, values in {**inside, **shared}.items():
            self.cogs[key].write(values)
        shown = {name: inside[x.asset][x.band - 1] for name, x in self.report.layers.items() if x.asset in inside}
        self.counter.add(part[0].start, {**shown, "valid": shared["valid"]})
        if self.part is not None:
            self.part.add(Rows(rows.window, {**rows.arrays, **inside}))

    def preview(self) -> None:
        """Keep the pictures of the input, stretched alike in all blocks, so that neighbours look alike."""
        pixels, plan = self.run.inner, self.run.plan
        names, one = [b.name for b in plan.card.bands], plan.card.model_copy(update={"dates": 1})
        step, whole = thinning(plan.shown), picture_factor(plan.shown)
        asked, side = covered(self.run.asked, whole), -(-max(pixels.valid.shape) // whole)
        self.pictures = {}
        for name, thin in input_of(plan.card, plan.recipe).pictures(pixels.thinned(step)).items():
            mul, add = thin.coefficients(one)
            limits = [_limits(plan, k, float(mul[k]), float(add[k])) for k in channels(names)]
            rgb, factor = quicklook(thin.data, thin.valid, names, tuple(limits), side=side)
            seen = covered(thin.valid, factor) & asked
            self.pictures[name] = np.dstack([rgb, np.where(seen, np.uint8(255), np.uint8(0))])

    def finish(self) -> int:
        """Publish files, then the item, which says that the block is done. Returns the bytes written."""
        run, plan = self.run, self.run.plan
        sources = [i for those in run.dates for i in those]
        outside = self._outside()
        if self.part is not None:
            self.part.write(within(self.out, PART.format(run.block.id)), outside)
        within(self.out, f"cogs/{run.block.id}/valid.tif")  # a block takes minutes, in which folders may become links
        infos = {key: writer.close() for key, writer in self.cogs.items()}
        assets = {
            key: asset_info(self.layers[key], info.path, info.size, info.sha256, [_numbers(s) for s in info.statistics])
            for key, info in infos.items()
        }
        for name, picture in self.pictures.items():
            assets["thumbnail" if name == "preview" else name] = self._picture(name, picture)
        asked, valid = int(run.asked.sum()), int(self.valid.sum())
        item = block_item(
            run.block,
            collection=plan.output_id,
            footprint=block_footprint(run.block, self.valid),
            datetime_range=run.times or time_range(sources),
            assets=assets,
            card=plan.card,
            sources=sources,
            recipe_hash=run.planned.hash,
            model_href=str(self.out.absolute() / MODEL),
            properties={
                **run.properties,
                **({} if outside is None else {"geoml:outside_pixels": int(outside.sum())}),
                COUNTS: self.counter.counts(),
                SKETCH: self.counter.sketches(self.pictures),
                "geoml:asked_pixels": asked,
                "geoml:valid_pixels": valid,
                "geoml:valid_percent": round(100 * valid / asked, 4) if asked else 0.0,
            },
        )
        write_item(item, within(self.out, f"items/{run.block.id}.json"), root=self.out if self.moves else None)
        return sum(info.size or 0 for info in assets.values())

    def _outside(self) -> NDArray[np.bool_] | None:
        """Valid pixels of the region that are unlike the training data; None if that is not known."""
        return None if self.run.likeness is None else self.valid & (self.run.likeness < domain.OUTSIDE)

    def _picture(self, name: str, rgba: NDArray[np.uint8]) -> AssetInfo:
        path = self.folder / f"{name}.png"
        with atomic(path) as temporary:
            Image.fromarray(rgba, "RGBA").save(temporary, "PNG", compress_level=1)
        title = "what the model saw" if name == "preview" else "what the model saw of the earlier date"
        roles = ("thumbnail",) if name == "preview" else ("overview",)
        return AssetInfo(path, title, roles, "image/png", path.stat().st_size, sha256(path))

    def abort(self) -> None:
        """Leave nothing under a final name."""
        for writer in self.cogs.values():
            writer.abort()


def _masked(values: NDArray[Any], asked: NDArray[np.bool_], layer: Layer) -> NDArray[Any]:
    """Values inside the region, nodata outside."""
    return np.where(asked, values, values.dtype.type(0 if layer.nodata is None else layer.nodata))


def _limits(plan: Plan, band: int, mul: float, add: float) -> tuple[float, float]:
    """Stored numbers of a band that are black and white: two deviations around the card's mean, or the sample's; where
    a card leaves values as they are, the ends of what the model saw in training, or some times what is usual."""
    low, high = -2.0, 2.0
    mean, std = plan.card.bands[band].mean, plan.card.bands[band].std
    if plan.sample and plan.sample.limits:
        low, high = ((v - mean) / std for v in plan.sample.limits[band])
    elif plan.card.domain is not None and (mean, std) == (0.0, 1.0):
        low, high = _ends(plan.card.domain.quantiles[band])
    elif plan.card.profile is not None and (mean, std) == (0.0, 1.0):
        low, high = (10 ** plan.card.profile.center[band] * times for times in SHOWN)
    return (low - add) / mul, (high - add) / mul


def _ends(quantiles: Sequence[float]) -> tuple[float, float]:
    """The ends of quantiles, moved apart where the median would be darker than `DARK` or as bright: dark ground with a
    few bright roofs is no black picture then."""
    low, middle, high = quantiles[0], quantiles[len(quantiles) // 2], quantiles[-1]
    return min(low, (middle - DARK * high) / (1 - DARK)), max(high, (middle - DARK * low) / (1 - DARK))


def _numbers(stats: Statistics) -> Mapping[str, float]:
    return {k: v for k, v in asdict(stats).items() if v is not None}
