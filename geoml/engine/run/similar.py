"""More like this on a map of embeddings: chips of a finished run by the cosine of their vectors with a place's.

Vectors are compared in the numbers of the run's COGs, which are standardised by a sample of its region; the search is
exact. A place is a pixel, or the mean of the pixels of a region.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyproj
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

from geoml.cube.region import inside
from geoml.engine.cards.encoder import EMBEDDING
from geoml.engine.run.plan import Plan, Zone, read_plan
from geoml.errors import DataError, InputError
from geoml.grid.plane import Block, Plane, Window
from geoml.grid.region import blocks_of
from geoml.io.local_files import local_files
from geoml.io.stores.remote import RunStore, run_store
from geoml.io.stores.store import within
from geoml.io.tables.chip_vectors import ChipVectors, read_chips
from geoml.vector.nearest import best, cosines, unit

TABLE = "embeddings.parquet"
LAYER = "embedding"
STRIP = 128
"""Rows of a COG that are read at once."""
POOL = 4
"""Chips whose pixels are looked at, for each that is wanted."""

Vector = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sought:
    """What is looked for: ``vector`` (width,) in the numbers of the COGs, of some pixels of an outline in degrees."""

    vector: Vector
    pixels: int
    outline: BaseGeometry
    about: str


@dataclass(frozen=True, eq=False)
class Similar:
    """``rows`` of the best chips, best first, with rank, score (-1 to 1), lon and lat; ``scores`` (n,) of all chips."""

    rows: pa.Table
    scores: Vector


class EmbeddingIndex:
    """The map of embeddings in a folder or bucket, to be searched.

    Raises InputError for a folder that holds none, DataError for a damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.store: RunStore = run_store(folder)
        try:
            self.plan: Plan = read_plan(self.store)
        except InputError as err:
            raise InputError(
                f"index: {self.store.url} contains no run; expected a folder that geoml embed wrote"
            ) from err
        if self.plan.card.task != EMBEDDING:
            task = self.plan.card.task
            raise InputError(f"index: {self.store.url} is a map by {task}; expected a folder that geoml embed wrote")
        self.store.pull(TABLE)
        if not (self.store.local / TABLE).exists():
            raise InputError(f"index: the run in {self.store.url} is not finished; run geoml embed again")
        self.chips: ChipVectors = read_chips(self.store.local / TABLE)
        self.planes: dict[str, Plane] = {zone.plane.code: zone.plane for zone in self.plan.zones}
        self._blocks = self.plan.by_id()

    @property
    def side(self) -> int:
        """Pixels of a side of a chip."""
        return int(self.chips.about["chip"])

    def at(self, lon: float, lat: float) -> Sought:
        """The pixel at a point in degrees. Raises InputError outside of the map and where it has no data."""
        where = f"point: {lon:g} {lat:g}"
        if not (math.isfinite(lon) and -180 <= lon <= 180 and math.isfinite(lat) and -90 <= lat <= 90):
            raise InputError(f"{where} is not a longitude (-180 to 180) and latitude (-90 to 90) in degrees")
        for zone in self.plan.zones:
            if not shapely.intersects_xy(zone.geometry, lon, lat):
                continue
            plane = zone.plane
            x, y = pyproj.Transformer.from_crs("EPSG:4326", plane.crs, always_xy=True).transform(lon, lat)
            pixel = plane.pixel(x, y)
            size = self.plan.recipe.block_size
            block = Block(plane, size, pixel.y0 // size, pixel.x0 // size)
            values = self._read(block, pixel)
            if values is None or not self._known(values)[0, 0]:
                steps = self.plan.card.dates
                raise InputError(f"{where} has no data: 0 of {steps} steps have a look there; expected another point")
            return Sought(
                values[:, 0, 0].astype(np.float32), 1, shapely.Point(lon, lat), f"the pixel at {lon:g} {lat:g}"
            )
        west, south, east, north = shapely.total_bounds([z.geometry for z in self.plan.zones])
        raise InputError(
            f"{where} is outside the map; expected a point in its region, "
            f"{west:.5g} to {east:.5g} and {south:.5g} to {north:.5g} degrees"
        )

    def inside(self, region: MultiPolygon, name: str) -> Sought:
        """The mean of the pixels whose centres lie inside. Raises InputError if none has data."""
        total, asked, known = np.zeros(int(self.chips.about["width"]), np.int64), 0, 0
        for zone in self.plan.zones:
            for mask, values in self._parts(zone, region):
                seen = mask & self._known(values)
                total += np.where(seen, values, 0).sum(axis=(1, 2), dtype=np.int64)
                asked, known = asked + int(mask.sum()), known + int(seen.sum())
        if not known:
            raise InputError(
                f"region: none of the {asked:,} pixels of the map inside of {name} has an embedding; expected polygons"
                " that hold centres of pixels with data"
            )
        return Sought((total / known).astype(np.float32), known, region, f"{known:,} pixels of {name}")

    def search(self, place: Sought, count: int, *, pixels: bool = False) -> Similar:
        """The ``count`` chips most like a place.

        With ``pixels`` those that are best by a single pixel of them, of `POOL` times as many by their means: columns
        pixel_score, pixel_lon and pixel_lat. Raises DataError for a COG that cannot be read.
        """
        query = unit(place.vector[None])[0]
        scores = cosines(self.chips.vectors, query)
        rows = best(scores, count * (POOL if pixels else 1))
        more: dict[str, Any] = {}
        if pixels:
            by_pixel = [self._best_pixel(int(row), query) for row in rows]
            order = np.argsort([-one[0] for one in by_pixel], kind="stable")[:count]
            rows = rows[order]
            for k, name in enumerate(("pixel_score", "pixel_lon", "pixel_lat")):
                more[name] = pa.array([by_pixel[i][k] for i in order], pa.float32() if k == 0 else pa.float64())
        found = self.chips.rows.take(pa.array(rows))
        bounds = [found["bbox"].combine_chunks().field(edge).to_numpy() for edge in ("xmin", "xmax", "ymin", "ymax")]
        front: dict[str, Any] = {
            "rank": pa.array(np.arange(1, len(rows) + 1), pa.int32()),
            "score": pa.array(scores[rows]),
            **more,
            "lon": (bounds[0] + bounds[1]) / 2,
            "lat": (bounds[2] + bounds[3]) / 2,
        }
        return Similar(pa.table({**front, **{n: found[n] for n in found.column_names}}), scores)

    def _best_pixel(self, row: int, query: Vector) -> tuple[float, float, float]:
        """The largest cosine of a pixel of a chip, and its longitude and latitude."""
        one = self.chips.rows.slice(row, 1).to_pylist()[0]
        plane, side, size = self.planes[one["plane"]], self.side, self.plan.recipe.block_size
        chip = Window(one["row"] * side, one["col"] * side, (one["row"] + 1) * side, (one["col"] + 1) * side)
        found = (-2.0, 0, 0)
        for iy in range(chip.y0 // size, -(-chip.y1 // size)):
            for ix in range(chip.x0 // size, -(-chip.x1 // size)):
                block = Block(plane, size, iy, ix)
                part = chip.intersect(block.window)
                values = self._read(block, part)
                if values is None or not (known := self._known(values)).any():
                    continue
                y, x = np.nonzero(known)
                score = cosines(values[:, y, x].T, query)
                k = int(score.argmax())
                found = max(found, (float(score[k]), -(part.y0 + int(y[k])), -(part.x0 + int(x[k]))))
        y0, x0 = -found[1] + 0.5 + plane.anchor, -found[2] + 0.5 + plane.anchor
        to = pyproj.Transformer.from_crs(plane.crs, "EPSG:4326", always_xy=True)
        lon, lat = to.transform(x0 * plane.res, -y0 * plane.res)
        return found[0], lon, lat

    def _parts(self, zone: Zone, region: MultiPolygon) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int8]]]:
        """Strips of blocks that hold pixels of a region: (y, x) which, and (width, y, x) what is stored."""
        here = shapely.intersection(zone.geometry, region)
        if here.is_empty or not here.area:
            return
        for block in blocks_of(here, zone.plane, self.plan.recipe.block_size):
            if block.id not in self._blocks:
                continue
            w = block.window
            mask = inside(zone.geometry, block.geobox) & inside(region, block.geobox)
            columns = np.flatnonzero(mask.any(axis=0))
            for top in range(0, len(mask), STRIP):
                part = mask[top : top + STRIP]
                if not part.any():
                    continue
                x0, x1 = int(columns[0]), int(columns[-1]) + 1
                strip = Window(w.y0 + top, w.x0 + x0, w.y0 + top + len(part), w.x0 + x1)
                values = self._read(block, strip)
                if values is not None:
                    yield part[:, x0:x1], values

    def _known(self, values: NDArray[np.int8]) -> NDArray[np.bool_]:
        known: NDArray[np.bool_] = values[0] != self.chips.about["nodata"]
        return known

    def _read(self, block: Block, window: Window) -> NDArray[np.int8] | None:
        """(width, y, x) as stored of a window of a block; None of one that the run does not have."""
        if block.id not in self._blocks:
            return None
        name = f"cogs/{block.id}/{LAYER}.tif"
        self.store.pull(name)
        path = within(self.store.local, name)
        if not path.exists():  # it failed, which the report of the run says
            return None
        (top, bottom), (left, right) = ((s.start, s.stop) for s in window.slices(block.window))
        try:
            with local_files(), rasterio.open(path, driver="GTiff") as file:
                found: NDArray[np.int8] = file.read(window=((top, bottom), (left, right)))
        except RasterioError as err:
            raise DataError(f"{path}: cannot be read ({err})") from err
        return found
