"""Buildings of a run: outlines joined over its blocks, and the heights of the surfaces inside each of them."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyproj
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from geoml.engine.contract import FinishedRun
from geoml.errors import DataError
from geoml.grid.plane import Plane, Window, blocks_touching
from geoml.io.local_files import local_files
from geoml.io.stores.store import within
from geoml.io.tables.features import SCHEMA, FeatureRows
from geoml.outputs._class_features import write_rows

HEIGHTS: Final = ("ground", "eave", "roof", "height", "spread", "count", "empty", "ground_distance")
"""Columns beside those of features: metres above the datum of the ground (median of the terrain) and of the surface at
half (eave) and nine tenths (roof) of its cells, roof over ground, spread of the surface (half of the range between the
16th and the 84th percentile), measured points, share of cells without one, and how far the nearest point of the ground
is on average."""
READ: Final = ("dtm", "dsm", "count", "distance")


HELD: Final = 4
"""Blocks that are in memory at once."""

_NUMBERS = {**dict.fromkeys(HEIGHTS, pa.float32()), "count": pa.int64()}
_KEPT = ("id", "area_m2", "datetime", "start_datetime", "end_datetime", "model", "bbox", "geometry")
_FIELDS = {name: SCHEMA.field(name).type for name in _KEPT}
_FRONT = {"id": _FIELDS.pop("id"), "area_m2": _FIELDS.pop("area_m2")}


def write_buildings(run: FinishedRun, path: Path) -> None:
    """Write the buildings of a run, the same rows for any cut into blocks. Raises DataError."""
    with local_files():
        write_rows(run, 0.0, path, BuildingRows(run))


class BuildingRows(FeatureRows):
    """Rows of buildings out of rows of features, by the files of the blocks that they lie in."""

    schema = pa.schema({**_FRONT, **_NUMBERS, **_FIELDS})

    def __init__(self, run: FinishedRun) -> None:
        self.run = run
        self.planes = {zone.plane.code: zone.plane for zone in run.plan.zones}
        self.ready = set(run.done)
        self.held: OrderedDict[str, dict[str, NDArray[np.float32]]] = OrderedDict()

    def made(self, rows: pa.Table) -> pa.Table:
        """Rows of ``schema``."""
        shapes = shapely.from_wkb(rows["geometry"].to_numpy())
        numbers = [self._numbers(text, shape) for text, shape in zip(rows["id"].to_pylist(), shapes, strict=True)]
        columns = {
            name: pa.array([n[name] for n in numbers], kind, from_pandas=True) for name, kind in _NUMBERS.items()
        }
        kept = {name: rows[name] for name in _KEPT}
        return pa.table({**{k: kept[k] for k in _FRONT}, **columns, **{k: kept[k] for k in _FIELDS}}, self.schema)

    def _numbers(self, text: str, shape: shapely.Geometry) -> dict[str, float]:
        plane = self.planes[text.partition("_")[0]]
        there = shapely.transform(shape, _from_degrees(plane.crs).transform, interleaved=False)
        window = plane.window(*there.bounds)
        cells = rasterize([there], window.shape, transform=plane.transform(window), default_value=1, dtype="uint8") > 0
        layers = {name: values[cells] for name, values in self._layers(plane, window).items()}
        ground, surface = (v[np.isfinite(v)].astype(np.float64) for v in (layers["dtm"], layers["dsm"]))
        near = layers["distance"][np.isfinite(layers["distance"])].astype(np.float64)
        low, eave, high, roof = np.quantile(surface, (0.16, 0.5, 0.84, 0.9)) if len(surface) else (np.nan,) * 4
        base = float(np.median(ground)) if len(ground) else np.nan
        return {
            "ground": base,
            "eave": eave,
            "roof": roof,
            "height": roof - base,
            "spread": (high - low) / 2,
            "count": int(layers["count"][layers["count"] > 0].sum()),
            "empty": float(np.mean(layers["count"] <= 0)) if cells.any() else np.nan,
            "ground_distance": float(near.mean()) if len(near) else np.nan,
        }

    def _layers(self, plane: Plane, window: Window) -> dict[str, NDArray[np.float32]]:
        """(y, x) of each layer in a window, NaN where no block is done."""
        found = {name: np.full(window.shape, np.nan, np.float32) for name in READ}
        for block in blocks_touching(plane, self.run.plan.recipe.block_size, window):
            if block.id in self.ready:
                part = window.intersect(block.window)
                for name, values in self._block(block.id).items():
                    found[name][part.slices(window)] = values[part.slices(block.window)]
        return found

    def _block(self, key: str) -> dict[str, NDArray[np.float32]]:
        if key not in self.held:
            names = [f"cogs/{key}/{name}.tif" for name in READ]
            self.run.pull(*names)
            self.held[key] = {name: _read(within(self.run.out, file)) for name, file in zip(READ, names, strict=True)}
        self.held.move_to_end(key)
        while len(self.held) > HELD:
            self.held.popitem(last=False)
        return self.held[key]


def _read(path: Path) -> NDArray[np.float32]:
    try:
        with rasterio.open(path, driver="GTiff") as file:
            values: NDArray[np.float32] = file.read(1).astype(np.float32)
            return values
    except (rasterio.errors.RasterioError, OSError) as err:
        raise DataError(f"{path}: not as it was written ({err}); delete the block's item to redo it") from err


@cache
def _from_degrees(crs: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
