"""What a block leaves: COGs that grow while rows finish, a picture, polygons, and at the very end its STAC item."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pystac
from numpy.typing import NDArray
from PIL import Image

from geoml import tasks
from geoml.cube.preview import SIDE, channels, quicklook
from geoml.cube.register import Shift
from geoml.engine.inference.predict import Rows
from geoml.engine.packages.calibrate import SCORE, beside
from geoml.engine.run.plan import MODEL, STATE, Plan, PlannedBlock
from geoml.errors import GeomlError
from geoml.grid.plane import Block
from geoml.io.cards.domain import OUTSIDE
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.polygonise import polygonise
from geoml.io.cog.write import CogInfo, CogWriter
from geoml.io.stac.items import AssetInfo, BandInfo, block_footprint, block_item, write_item
from geoml.io.stores.store import atomic, sha256, within
from geoml.io.tables.parts import write_polygons
from geoml.tasks.segmentation import CONFIDENCE_NODATA, CONFIDENCE_SCALE

COUNT_NODATA = 255
"""In the valid count: outside the region. 0 is a pixel that was looked for and not found; 254 stands for more."""


class BlockWriter:
    """Takes the finished rows of a block, top to bottom, and publishes the block."""

    def __init__(
        self,
        out: Path,
        plan: Plan,
        planned: PlannedBlock,
        asked: NDArray[np.bool_],
        likeness: NDArray[np.uint8] | None = None,
        *,
        moves: bool = False,
    ) -> None:
        """``asked`` (y, x) is True inside the region; the rest of the block is nodata in every file.

        ``likeness`` (y, x) to the training data is written where it is known.

        ``moves``: ``out`` is a working copy, so that nothing outside of it has a place relative to it.
        """
        self.moves = moves
        self.out, self.plan, self.planned, self.asked = out, plan, planned, asked
        self.block: Block = plan.block(planned)
        self.folder = within(out, f"cogs/{self.block.id}/class.tif").parent
        for stale in self.folder.glob(".*.part"):  # of a run that was killed while it published this block
            stale.unlink(missing_ok=True)
        card, geobox = plan.card, self.block.geobox
        self.task = tasks.find(card.task).Task(len(card.classes))
        colours = {c.value: (*_rgb(c.color), 255) for c in card.classes}
        names = [c.name for c in card.classes]
        self.beside, meaning = beside(card)

        def quantity(key: str, descriptions: Sequence[str]) -> CogWriter:
            return CogWriter(
                self.folder / f"{key}.tif",
                geobox,
                "uint8",
                bands=len(descriptions),
                nodata=CONFIDENCE_NODATA,
                scale=CONFIDENCE_SCALE,
                descriptions=descriptions,
                overview="average",
                predictor=True,
            )

        self.cogs = {
            "class": CogWriter(
                self.folder / "class.tif",
                geobox,
                "uint8",
                nodata=card.nodata,
                colormap=colours,
                descriptions=["class"],
                overview="mode",
            ),
            self.beside: quantity(self.beside, [meaning if self.beside == SCORE else self.beside]),
            "valid": CogWriter(
                self.folder / "valid.tif", geobox, "uint8", nodata=COUNT_NODATA, descriptions=["valid observations"]
            ),
        }
        if plan.recipe.probabilities:
            self.cogs["probabilities"] = quantity("probabilities", names)
        self.likeness = likeness
        if likeness is not None:
            self.cogs["domain"] = quantity("domain", ["likeness to the training data"])
        shape = self.block.window.shape
        keep = shape if plan.recipe.features else (0, 0)
        self.classes, self.confidence = np.empty(keep, np.uint8), np.empty(keep, np.uint8)
        self.valid = np.zeros(shape, np.bool_)

    def rows(self, rows: Rows, count: NDArray[np.uint16], part: slice) -> None:
        """Rows ``part`` of the block with their count of valid observations."""
        asked, nodata = self.asked[part], np.uint8(self.plan.card.nodata)
        classes = np.where(asked, rows.classes, nodata)
        confidence = np.where(asked, rows.confidence, np.uint8(CONFIDENCE_NODATA))
        self.valid[part] = asked & (count > 0)
        self.cogs["class"].write(classes)
        self.cogs[self.beside].write(confidence)
        counted = np.minimum(count, COUNT_NODATA - 1).astype(np.uint8)
        self.cogs["valid"].write(np.where(asked, counted, np.uint8(COUNT_NODATA)))
        if self.likeness is not None:
            self.cogs["domain"].write(np.where(asked, self.likeness[part], np.uint8(CONFIDENCE_NODATA)))
        if rows.probabilities is not None:
            self.cogs["probabilities"].write(np.where(asked, rows.probabilities, np.uint8(CONFIDENCE_NODATA)))
        if self.plan.recipe.features:
            self.classes[part], self.confidence[part] = classes, confidence

    def preview(
        self, data: NDArray[np.generic], valid: NDArray[np.bool_], mul: NDArray[np.float32], add: NDArray[np.float32]
    ) -> None:
        """Keep a picture of the input of each date, stretched alike in all blocks, so that neighbours look alike."""
        names = [b.name for b in self.plan.card.bands]
        step = max(1, max(valid.shape) // (2 * SIDE))  # two pixels for one of the picture tell enough
        known = valid[::step, ::step]
        self.pictures = []
        for first in range(0, len(data), len(names)):
            limits = [self._limits(k, float(mul[first + k]), float(add[first + k])) for k in channels(names)]
            thin = data[first : first + len(names), ::step, ::step]
            rgb, factor = quicklook(thin, known, names, tuple(limits))
            seen = (known & self.asked[::step, ::step])[::factor, ::factor][: rgb.shape[0], : rgb.shape[1]]
            self.pictures.append(np.dstack([rgb, np.where(seen, np.uint8(255), np.uint8(0))]))

    def _limits(self, band: int, mul: float, add: float) -> tuple[float, float]:
        """Stored numbers of a band that are black and white: two deviations around the card's mean, or the sample's."""
        low, high = -2.0, 2.0
        if self.plan.sample and self.plan.sample.limits:
            mean, std = self.plan.card.bands[band].mean, self.plan.card.bands[band].std
            low, high = ((v - mean) / std for v in self.plan.sample.limits[band])
        return (low - add) / mul, (high - add) / mul

    def finish(self, dates: Sequence[Sequence[pystac.Item]], residual: Sequence[Shift | None] = ()) -> int:
        """Publish files, then the item, which says that the block is done. Returns the bytes written.

        ``dates`` are the items of each date; ``residual`` is the shift that is left between the first and each later
        one.
        """
        card, recipe = self.plan.card, self.plan.recipe
        sources = [i for those in dates for i in those]
        if recipe.features:
            classes = self.classes
            if self.task.background is not None:  # what did not change is no feature
                quiet = card.classes[self.task.background].value
                classes = np.where(classes == quiet, np.uint8(card.nodata), classes)
            found = polygonise(classes, self.confidence, card.nodata, self.block.window, self._unlike())
            write_polygons(found, within(self.out, f"{STATE}/parts/{self.block.id}.parquet"))
        within(self.out, f"cogs/{self.block.id}/class.tif")  # a block takes minutes, in which folders may become links
        infos = {key: writer.close() for key, writer in self.cogs.items()}
        assets = {key: _asset(key, info, card) for key, info in infos.items()}
        names = ["preview"] if len(dates) == 1 else [*(f"before{n or ''}" for n in range(len(dates) - 1)), "preview"]
        for name, picture in zip(names, self.pictures, strict=True):
            assets["thumbnail" if name == "preview" else name] = self._picture(name, picture)
        asked, known = int(self.asked.sum()), int(self.valid.sum())
        item = block_item(
            self.block,
            collection=self.plan.output_id,
            footprint=block_footprint(self.block, self.valid),
            datetime_range=time_range(sources),
            assets=assets,
            card=card,
            sources=sources,
            recipe_hash=self.planned.hash,
            model_href=str(self.out.absolute() / MODEL),
            properties={
                **({"geoml:shift": [_shift(s) for s in residual]} if residual else {}),
                **({} if (unlike := self._unlike()) is None else {"geoml:outside_pixels": int(unlike.sum())}),
                "geoml:asked_pixels": asked,
                "geoml:valid_pixels": known,
                "geoml:valid_percent": round(100 * known / asked, 4) if asked else 0.0,
            },
        )
        write_item(item, within(self.out, f"items/{self.block.id}.json"), root=self.out if self.moves else None)
        return sum(info.size or 0 for info in assets.values())

    def _unlike(self) -> NDArray[np.bool_] | None:
        """Valid pixels of the region that are unlike the training data; None where that is not known."""
        return None if self.likeness is None else self.valid & (self.likeness < OUTSIDE)

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


def time_range(items: Sequence[pystac.Item]) -> tuple[dt.datetime, dt.datetime]:
    """First and last time of items, with time zone."""
    times: list[dt.datetime] = []
    for item in items:
        span = (item.common_metadata.start_datetime, item.common_metadata.end_datetime)
        times += [t for t in (item.datetime, *span) if t is not None]
    if not times:
        raise GeomlError("no source has a time")  # search does not give such items
    aware = [t if t.tzinfo else t.replace(tzinfo=dt.UTC) for t in times]
    return min(aware), max(aware)


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


_TITLES = {
    "class": "class of each pixel",
    "valid": "valid observations",
    "domain": "likeness to the training data",
    "probabilities": "probability of every class",
}


def _shift(found: Shift | None) -> dict[str, float] | None:
    """As the item tells it: pixels that are left between two dates, None where that is not known."""
    return None if found is None else {k: round(getattr(found, k), 2) for k in ("dy", "dx", "quality")}


def _asset(key: str, info: CogInfo, card: MapCard) -> AssetInfo:
    names = [c.name for c in card.classes] if key == "probabilities" else [key]
    nodata = {"class": card.nodata, "valid": COUNT_NODATA}.get(key, CONFIDENCE_NODATA)
    scale = 1.0 if key in ("class", "valid") else CONFIDENCE_SCALE
    titles = {**_TITLES, **dict([beside(card)])}
    bands = tuple(
        BandInfo(
            name,
            "uint8",
            nodata,
            scale,
            description=titles[key] if key == SCORE else "",
            statistics=_numbers(stats),
        )
        for name, stats in zip(names, info.statistics, strict=True)
    )
    return AssetInfo(
        info.path, titles[key], ("data",), size=info.size, sha256=info.sha256, bands=bands, classes=key == "class"
    )


def _numbers(stats: object) -> Mapping[str, float]:
    fields = ("minimum", "maximum", "mean", "stddev", "valid_percent")
    return {k: v for k in fields if (v := getattr(stats, k)) is not None}
