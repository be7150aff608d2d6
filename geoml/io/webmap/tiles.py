"""Tiles and values of a run at full resolution, straight from its COGs, in a folder or in a bucket."""

from __future__ import annotations

import io
import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.errors import RasterioError

from geoml.errors import DataError, InputError, MissingExtra, TransientError, out_of_memory
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

log = logging.getLogger(__name__)
T = TypeVar("T")

LARGEST = 2**28
"""Bytes of the page and of the table of blocks, at most."""
DATA = re.compile(rb'<script type="application/json" id="data">(.*?)</script>')
NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""Of an asset: that of a file, and no path."""
TITLE = re.compile(rb"<h1>(.*?)</h1>")
COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")
MOST = 64
"""Blocks of a tile, at most; where tiles would have more, the page shows its own picture."""
DEEPEST = 30
"""Zoom of a tile, at most."""
EDGE = 85.06
"""Degrees of latitude that no tile reaches."""


@dataclass(frozen=True)
class RunTiles:
    """The run of a store, of which ``data`` is what its map says and ``boxes`` (n, 4) those of ``ids`` in degrees.

    Tiles begin at zoom ``first``. ``unread`` are the files that could not be read up to now.
    """

    store: RunStore
    data: Mapping[str, Any]
    ids: tuple[str, ...]
    boxes: NDArray[np.float64]
    first: int
    unread: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, store: RunStore) -> RunTiles:
        """Raises InputError if there is no run with a map, DataError for a damaged one."""
        page, table = store.read(MAP, LARGEST), store.read("items.parquet", LARGEST)
        if page is None or table is None:
            why = f"holds no {MAP}; expected a finished run; for one without a map run geoml predict again with --map"
            raise InputError(f"out: {store.url} {why}")
        try:
            found = DATA.search(page)
            data: dict[str, Any] = json.loads(found[1], parse_constant=_no_number) if found else {}
            rows = pq.read_table(io.BytesIO(table), columns=["id", "bbox"])
            sides = rows["bbox"].combine_chunks()
            boxes = np.column_stack([np.asarray(sides.field(k)) for k in ("xmin", "ymin", "xmax", "ymax")])
            boxes = boxes.astype(np.float64)
            ids = tuple(map(str, rows["id"].to_pylist()))
            known = all(map(_is_layer, data["layers"])) and all(map(ID.fullmatch, ids)) and np.isfinite(boxes).all()
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, pa.ArrowException) as err:
            raise DataError(f"{store.url}: its map cannot be read ({err})") from err
        if not known:
            raise DataError(f"{store.url}: its map names what is not a block or layer")
        return cls(store, data, ids, boxes, first_zoom(boxes))

    def page(self) -> str:
        """The page of the run, with tiles at full resolution instead of what it holds itself."""
        found = TITLE.search(self.store.read(MAP, LARGEST) or b"")
        from markupsafe import Markup

        title = Markup(found[1].decode(errors="replace") if found else "Map").unescape()
        return render(title, {**self.data, "server": "./", "tiles_from": self.first})

    def tile(self, key: str, z: int, x: int, y: int) -> bytes | None:
        """PNG of 256 x 256 pixels of a layer, clear where nothing is known; None if no block lies.

        A file that cannot be read is clear too; it is logged, and is in ``unread``. Raises InputError for a layer or a
        zoom that is not there, DataError if no file can be read, TransientError if a store does not answer or
        memory is short.
        """
        from rio_tiler.errors import TileOutsideBounds

        layer, found = self._layer(key), None
        if z < self.first:
            raise InputError(f"zoom: {z}; expected {self.first} or more, the page itself shows what is farther out")

        def ask(reader: Reader) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
            try:
                image = reader.tile(x, y, z, indexes=layer["band"], resampling_method="nearest")
            except TileOutsideBounds:
                return None
            return image.array.data[0], ~np.ma.getmaskarray(image.array)[0]

        unread: list[DataError] = []
        for answer in self._asked(layer, _box(z, x, y), ask, unread):
            values, known = answer
            if found is None:
                found = np.zeros((*values.shape, 4), np.uint8)
            found[known] = _colours(layer, values[known])
        if found is None:
            if unread:
                raise unread[0]
            return None
        file = io.BytesIO()
        Image.fromarray(found).save(file, "PNG")
        return file.getvalue()

    def point(self, lon: float, lat: float) -> tuple[dict[str, float], int]:
        """The stored values of all layers at a place that are known there, by key; and how many files there cannot be
        read, of which ``unread`` holds the names. Raises TransientError if a store does not answer."""
        from rio_tiler.errors import PointOutsideBounds

        found: dict[str, float] = {}
        unread: list[DataError] = []
        lon = (lon + 180) % 360 - 180
        for layer in self.data["layers"]:

            def ask(reader: Reader, band: int = layer["band"]) -> np.ma.MaskedArray[Any, Any] | None:
                try:
                    value: np.ma.MaskedArray[Any, Any] = reader.point(lon, lat, indexes=band).array
                except PointOutsideBounds:
                    return None
                return value

            for value in self._asked(layer, (lon, lat, lon, lat), ask, unread):
                if not np.ma.getmaskarray(value)[0]:
                    found[layer["key"]] = value.data[0].item()
        return found, len(unread)

    def _layer(self, key: str) -> Mapping[str, Any]:
        for layer in self.data["layers"]:
            if layer["key"] == key:
                known: Mapping[str, Any] = layer
                return known
        raise InputError(f"layer: {key!r}; expected one of {[layer['key'] for layer in self.data['layers']]}")

    def _asked(
        self, layer: Mapping[str, Any], box: tuple[float, float, float, float], ask: Callable[[Reader], T | None],
        unread: list[DataError],
    ) -> Iterator[T]:  # fmt: skip
        """What ``ask`` makes of the files of a layer that may lie in a box of degrees; what cannot be read joins
        ``unread``."""
        west, south, east, north = box
        w, s, e, n = self.boxes.T
        wraps = e < w
        touches = np.where(wraps, (east >= w) | (west <= e), (east >= w) & (west <= e)) & (north >= s) & (south <= n)
        for number in np.flatnonzero(touches):
            name = f"cogs/{self.ids[number]}/{layer['asset']}.tif"
            try:
                with self._opened(name) as dataset:
                    found = ask(_reader(dataset))
            except DataError as err:
                unread.append(err)
                if name not in self.unread:
                    self.unread.add(name)
                    log.warning("left out of the map: %s", err)
                continue
            if found is not None:
                yield found

    @contextmanager
    def _opened(self, name: str) -> Iterator[rasterio.DatasetReader]:
        """A file of the run. Raises DataError for one that cannot be read, TransientError for a store or for memory."""
        from rio_tiler.errors import RioTilerError

        far = None
        try:
            if not self.store.remote:
                with local_files(), rasterio.open(self.store.inside(name), driver="GTiff") as dataset:
                    yield dataset
                return
            url = f"{self.store.url.rstrip('/')}/{name}"
            far = remote_file(url, url, time.monotonic() + settings().timeout)
            far.check()
            with local_files(), open_path(url, far=far) as dataset:
                yield dataset
        except (RasterioError, RioTilerError, OSError, ValueError, LookupError) as err:
            if out_of_memory(err):
                raise TransientError(f"{name}: not enough memory ({err})") from err
            if far is None or far.failure is None:
                raise DataError(f"{name}: cannot be read ({err})") from err
        if far is not None and far.failure is not None:
            raise far.failure


def _reader(dataset: rasterio.DatasetReader) -> Reader:
    try:
        from rio_tiler.io import Reader
    except ImportError as err:
        raise MissingExtra("rio-tiler is not installed: install geoml[view]") from err
    return Reader(dataset.name, dataset=dataset)


def first_zoom(boxes: NDArray[np.float64]) -> int:
    """The least zoom from which on no tile touches more than `MOST` of the boxes (n, 4) in degrees.

    A tile holds those that touch it of its four, so all zooms beyond have no more. It is more than `DEEPEST` where
    boxes lie on top of each other, as no blocks of a run do.
    """
    west, south, east, north = boxes.T
    over = east < west  # the antimeridian: a box at either end
    parts = np.concatenate([
        np.column_stack([west, south, np.where(over, 180, east), north]),
        np.column_stack([np.full(len(boxes), -180), south, east, north])[over],
    ])  # fmt: skip
    parts = parts[(parts[:, 1] < EDGE) & (parts[:, 3] > -EDGE)] + np.array([-1, -1, 1, 1]) * 1e-9
    lat = np.radians(np.clip(parts[:, [3, 1]], -EDGE, EDGE))
    share = np.column_stack([(parts[:, [0, 2]] + 180) / 360, (1 - np.arcsinh(np.tan(lat)) / np.pi) / 2])
    for zoom in range(DEEPEST + 1):
        x0, x1, y0, y1 = np.clip(np.floor(share * 2**zoom).astype(np.int64), 0, 2**zoom - 1).T
        wide = x1 - x0 + 1
        count = wide * (y1 - y0 + 1)
        if (pairs := int(count.sum())) > 16 * len(parts) + 4096:
            break
        owner = np.repeat(np.arange(len(parts)), count)
        at = np.arange(pairs) - np.repeat(np.cumsum(count) - count, count)
        tiles = (y0[owner] + at // wide[owner]) * 2**zoom + x0[owner] + at % wide[owner]
        if np.unique(tiles, return_counts=True)[1].max(initial=0) <= MOST:
            return zoom
    return DEEPEST + 1


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _is_layer(layer: Any) -> bool:
    """Whether the data of a page name a layer as `geoml.io.webmap.page` does."""
    finite = [type(layer[k]) in (int, float) and math.isfinite(layer[k]) for k in ("low", "high")]
    named = isinstance(layer["key"], str) and isinstance(layer["asset"], str) and NAME.fullmatch(layer["asset"])
    classes = [
        type(value) in (int, float) and isinstance(title, str) and bool(COLOUR.fullmatch(colour))
        for value, title, colour in layer["classes"]
    ]
    return bool(named) and type(layer["band"]) is int and layer["band"] > 0 and all([*finite, *classes])


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
