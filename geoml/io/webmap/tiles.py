"""Tiles and values of a run at full resolution, straight from its COGs, in a folder or in a bucket."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import rasterio
from numpy.typing import NDArray
from PIL import Image

from geoml.errors import DataError, InputError, MissingExtra
from geoml.io.cog.source import open_path
from geoml.io.local_files import local_files
from geoml.io.report.images import ramp, rgb
from geoml.io.report.sketches import ID
from geoml.io.stores.ranges import remote_file
from geoml.io.stores.remote import RunStore
from geoml.io.webmap.page import MAP, render
from geoml.settings import settings

if TYPE_CHECKING:
    from rio_tiler.io import Reader

LARGEST = 2**28
"""Bytes of the page and of the table of blocks, at most."""
DATA = re.compile(rb'<script type="application/json" id="data">(.*?)</script>')
NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""Of an asset: that of a file, and no path."""
TITLE = re.compile(rb"<h1>(.*?)</h1>")
MOST = 64
"""Blocks of a tile, at most; what is farther out is in the page itself."""


@dataclass(frozen=True)
class RunTiles:
    """The run of a store, of which ``data`` is what its map says and ``blocks`` the boxes (n, 4) of ``ids``."""

    store: RunStore
    data: Mapping[str, Any]
    ids: tuple[str, ...]
    boxes: NDArray[np.float64]

    @classmethod
    def of(cls, store: RunStore) -> RunTiles:
        """Raises InputError where there is no run with a map, DataError for a damaged one."""
        page, table = store.read(MAP, LARGEST), store.read("items.parquet", LARGEST)
        if page is None or table is None:
            why = f"holds no {MAP}; expected a finished run, which is made again with --map"
            raise InputError(f"out: {store.url} {why}")
        try:
            found = DATA.search(page)
            data: dict[str, Any] = json.loads(found[1]) if found else {}
            rows = pq.read_table(io.BytesIO(table), columns=["id", "bbox"])
            sides = rows["bbox"].combine_chunks()
            boxes = np.column_stack([np.asarray(sides.field(k)) for k in ("xmin", "ymin", "xmax", "ymax")])
            names = [layer["asset"] for layer in data["layers"]]
        except (OSError, ValueError, LookupError, TypeError) as err:
            raise DataError(f"{store.url}: its map cannot be read ({err})") from err
        ids = tuple(map(str, rows["id"].to_pylist()))
        if not all(map(ID.fullmatch, ids)) or not all(isinstance(n, str) and NAME.fullmatch(n) for n in names):
            raise DataError(f"{store.url}: its map names what is no block or layer")
        return cls(store, data, ids, boxes)

    def page(self) -> str:
        """The page of the run, with tiles at full resolution in the place of what it holds itself."""
        found = TITLE.search(self.store.read(MAP, LARGEST) or b"")
        from markupsafe import Markup

        return render(Markup(found[1].decode() if found else "Map").unescape(), {**self.data, "server": "./"})

    def tile(self, key: str, z: int, x: int, y: int) -> bytes | None:
        """PNG of 256 x 256 pixels of a layer, clear where nothing is known; None where no block lies.

        Raises InputError for a layer that is not there, DataError or TransientError for a file that cannot be read.
        """
        from rio_tiler.errors import TileOutsideBounds

        layer, found = self._layer(key), None
        for reader in self._readers(layer, _box(z, x, y)):
            try:
                image = reader.tile(x, y, z, indexes=layer["band"], resampling_method="nearest")
            except TileOutsideBounds:
                continue
            values, known = image.array.data[0], ~np.ma.getmaskarray(image.array)[0]
            if found is None:
                found = np.zeros((*values.shape, 4), np.uint8)
            found[known] = _colours(layer, values[known])
        if found is None:
            return None
        file = io.BytesIO()
        Image.fromarray(found).save(file, "PNG")
        return file.getvalue()

    def point(self, lon: float, lat: float) -> dict[str, float]:
        """The stored values of all layers at a place that are known there, by key."""
        from rio_tiler.errors import PointOutsideBounds

        found: dict[str, float] = {}
        lon = (lon + 180) % 360 - 180
        for layer in self.data["layers"]:
            for reader in self._readers(layer, (lon, lat, lon, lat)):
                try:
                    value = reader.point(lon, lat, indexes=layer["band"]).array
                except PointOutsideBounds:
                    continue
                if not np.ma.getmaskarray(value)[0]:
                    found[layer["key"]] = value.data[0].item()
        return found

    def _layer(self, key: str) -> Mapping[str, Any]:
        for layer in self.data["layers"]:
            if layer["key"] == key:
                known: Mapping[str, Any] = layer
                return known
        raise InputError(f"layer: {key!r}; expected one of {[layer['key'] for layer in self.data['layers']]}")

    def _readers(self, layer: Mapping[str, Any], box: tuple[float, float, float, float]) -> Iterator[Reader]:
        """The files of a layer that may lie in a box of degrees."""
        west, south, east, north = box
        w, s, e, n = self.boxes.T
        wraps = e < w
        touches = np.where(wraps, (east >= w) | (west <= e), (east >= w) & (west <= e)) & (north >= s) & (south <= n)
        for number in np.flatnonzero(touches)[:MOST]:
            with self._opened(f"cogs/{self.ids[number]}/{layer['asset']}.tif") as dataset:
                yield _reader(dataset)

    @contextmanager
    def _opened(self, name: str) -> Iterator[rasterio.DatasetReader]:
        if not self.store.remote:
            with local_files(), rasterio.open(self.store.inside(name), driver="GTiff") as dataset:
                yield dataset
            return
        url = f"{self.store.url.rstrip('/')}/{name}"
        far = remote_file(url, url, time.monotonic() + settings().timeout)
        far.check()
        with local_files(), open_path(url, far=far) as dataset:
            yield dataset
        if far.failure is not None:
            raise far.failure


def _reader(dataset: rasterio.DatasetReader) -> Reader:
    try:
        from rio_tiler.io import Reader
    except ImportError as err:
        raise MissingExtra("rio-tiler is not installed: install geoml[view]") from err
    return Reader(dataset.name, dataset=dataset)


def _box(z: int, x: int, y: int) -> tuple[float, float, float, float]:
    """West, south, east, north of a web map tile in degrees."""
    count = 2**z
    lat = [float(np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * v / count))))) for v in (y + 1, y)]
    return 360 * x / count - 180, lat[0], 360 * (x + 1) / count - 180, lat[1]


def _colours(layer: Mapping[str, Any], values: NDArray[Any]) -> NDArray[np.uint8]:
    """(n, 4) colours as the page gives them to stored values."""
    if not layer["classes"]:
        return ramp((values.astype(float) - layer["low"]) / max(layer["high"] - layer["low"], 1e-12))
    table = {value: (*rgb(colour), 255) for value, _, colour in layer["classes"]}
    out = np.zeros((len(values), 4), np.uint8)
    for value in np.unique(values):
        out[values == value] = table.get(value.item(), (0, 0, 0, 255))
    return out
