"""Write a Cloud Optimized GeoTIFF in one pass: rows come in from the top, a finished file comes out.

Each tile is compressed once, overviews are made from the rows while they pass, and only the finished file gets the
final name. Memory is a strip of tile rows per resolution, whatever the height.

Tiles are Zstandard frames with the content checksum, which stock GDAL verifies: a flipped bit in a tile is a read
error, never a wrong pixel. One exception: where the height ends inside a tile, GDAL decodes only the rows that exist
and stops before the checksum. Heights of ``tile`` times a power of two have no such tile at any resolution; for all
others there is the SHA-256 of the file.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import zstandard
from numpy.typing import DTypeLike, NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from geoml.errors import InputError
from geoml.io.cog.overview import Overview, RunningStatistics, Statistics, halved
from geoml.io.cog.template import Colormap, Kind, LostCrsError, tags_of
from geoml.io.cog.tiff import LEADER, LevelTable, Tag, cog_header, framed
from geoml.io.stores.store import atomic, os_failure

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
SPOOL_BYTES = 4 * 2**20
"""Compressed tiles of one resolution kept in memory before they go to an unnamed temporary file."""


@dataclass(frozen=True, slots=True)
class CogInfo:
    """A finished file: what STAC wants to know of it."""

    path: Path
    size: int
    """Bytes."""
    sha256: str
    statistics: tuple[Statistics, ...]
    """One per band, of the stored values (before scale and offset)."""


class CogWriter:
    """A COG that grows from top to bottom.

    ``scale`` and ``offset`` say ``physical = stored * scale + offset``, for all bands or for each. ``overview`` is
    ``mode`` or ``nearest`` for classes and ``average`` for quantities; overviews are made each from the one above until
    one tile holds the map. ``predictor`` (differences along the row) pays for quantities, not for classes. ``tile`` is
    a multiple of 16. The colour table is for one uint8 band; TIFF does not keep its alpha. ``bigtiff`` None means: only
    when 4 GiB are exceeded.

    Used as a context manager it is closed at the end, and nothing appears under ``path`` after an error.
    Raises InputError for arguments that do not fit together.
    """

    def __init__(
        self,
        path: Path,
        geobox: GeoBox,
        dtype: DTypeLike,
        *,
        bands: int = 1,
        nodata: float | None,
        colormap: Colormap | None = None,
        scale: float | tuple[float, ...] = 1.0,
        offset: float | tuple[float, ...] = 0.0,
        descriptions: Sequence[str] = (),
        overview: Overview = "nearest",
        predictor: bool = False,
        tile: int = 512,
        bigtiff: bool | None = None,
    ) -> None:
        self._path, self._geobox, self._dtype = Path(path), geobox, np.dtype(dtype).newbyteorder("=")
        self._height, self._width = (int(n) for n in geobox.shape)
        self._bands, self._nodata = bands, nodata
        self._colormap, self._descriptions = colormap, tuple(descriptions)
        self._predictor, self._tile, self._bigtiff = predictor, tile, bigtiff
        colors = None if colormap is None else tuple(colormap.items())
        about = bands, self._dtype.name, nodata, predictor, colors, scale, offset, self._descriptions
        self._kind = Kind(tile, *about, geobox.crs)
        self._check(overview)
        self._template(())  # what GDAL cannot describe is refused before any pixel is written
        self._statistics = RunningStatistics(bands, self._dtype, nodata)
        self._row = 0
        self._info: CogInfo | None = None
        self._levels = self._open(overview)

    def write(self, rows: NDArray[np.number]) -> None:
        """Append rows: (h, width) for one band or (bands, h, width), any h, dtype of the file.

        Raises InputError if shape or dtype differ or there are too many rows, DataError if the disk is full.
        """
        if not self._levels:
            raise InputError(f"{self._path}: closed; rows are written before close()")
        if rows.ndim == 2:
            rows = rows[np.newaxis]
        if rows.ndim != 3 or (rows.shape[0], rows.shape[2]) != (self._bands, self._width):
            raise InputError(f"rows: shape {rows.shape}; expected ({self._bands}, any, {self._width})")
        if rows.dtype != self._dtype:
            raise InputError(f"rows: dtype {rows.dtype}; expected {self._dtype}")
        if self._row + rows.shape[1] > self._height:
            raise InputError(f"rows: {self._row + rows.shape[1]} in all; the grid has {self._height}")
        self._row += rows.shape[1]
        try:
            self._levels[0].write(rows)
        except OSError as err:
            self.abort()
            raise os_failure(self._path, err) from err

    def close(self) -> CogInfo:
        """Finish the file and give it its name; later calls return the same answer.

        Raises InputError if rows are missing, DataError if the file cannot be written; then nothing appears.
        """
        if self._info is not None:
            return self._info
        if not self._levels:
            raise InputError(f"{self._path}: aborted; nothing to close")
        try:
            if self._row != self._height:
                raise InputError(f"rows: {self._row} written; the grid has {self._height}")
            self._info = self._publish()
        finally:
            self.abort()
        return self._info

    def abort(self) -> None:
        """Give up: nothing appears under the path. Harmless after ``close``."""
        for level in self._levels:
            with suppress(OSError):  # a full disk may say so again
                level.spool.close()
        self._levels = []

    def __enter__(self) -> CogWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        if kind is None and (self._levels or self._info):
            self.close()
        else:
            self.abort()

    def _check(self, overview: str) -> None:
        if self._dtype.name not in DTYPES:
            raise InputError(f"dtype: {self._dtype}; expected one of {', '.join(DTYPES)}")
        if self._bands < 1 or self._height < 1 or self._width < 1:
            raise InputError(
                f"geobox: {self._bands} bands of {self._height} x {self._width}; expected one pixel or more"
            )
        if self._tile < 16 or self._tile % 16:
            raise InputError(f"tile: {self._tile}; expected a multiple of 16")
        if overview not in ("mode", "nearest", "average"):
            raise InputError(f"overview: {overview!r}; expected mode, nearest or average")
        if self._nodata is not None and not _holds(self._dtype, self._nodata):
            raise InputError(f"nodata: {self._nodata}; expected a value of {self._dtype}")
        for name, value in (("scale", self._kind.scale), ("offset", self._kind.offset)):
            if isinstance(value, tuple) and len(value) != self._bands:
                raise InputError(f"{name}: {len(value)}; expected one, or {self._bands}, one for each band")
        if self._colormap is not None and (self._bands != 1 or self._dtype != np.uint8):
            raise InputError(f"colormap: {self._bands} bands of {self._dtype}; expected one band of uint8")
        if self._descriptions and len(self._descriptions) != self._bands:
            raise InputError(f"descriptions: {len(self._descriptions)}; expected {self._bands}, one for each band")

    def _open(self, overview: Overview) -> list[_Level]:
        """The resolutions, full size first; each passes its rows on to the next."""
        fill = 0.0 if self._nodata is None else self._nodata
        compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
        sizes = [(self._height, self._width)]
        while max(sizes[-1]) > self._tile:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        levels: list[_Level] = []
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            for height, width in reversed(sizes):
                # beside the file: /tmp may be small, and is memory on some machines
                spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=str(self._path.parent))  # noqa: SIM115
                strip = np.full((self._bands, self._tile, -(-width // self._tile) * self._tile), fill, self._dtype)
                encode = partial(_encoded, compressor, self._predictor)
                levels.insert(0, _Level(height, width, strip, fill, spool, encode))
        except (OSError, MemoryError) as err:
            for begun in levels:
                begun.spool.close()
            if isinstance(err, OSError):
                raise os_failure(self._path, err) from err
            raise
        for upper, lower in pairwise(levels):
            upper.passes.append(partial(_halve_into, lower, overview, self._nodata))
        levels[0].passes.append(self._statistics.add)
        return levels

    def _publish(self) -> CogInfo:
        statistics = self._statistics.result()
        tables = [level.table() for level in self._levels]
        header = cog_header(self._template(statistics), tables, self._bigtiff)
        digest = hashlib.sha256()
        with atomic(self._path) as temporary:
            with temporary.open("wb") as file:
                target = _Hashed(file, digest.update)
                target.write(header)
                for level in reversed(self._levels):
                    level.spool.seek(0)
                    shutil.copyfileobj(level.spool, target, 2**20)
            size = temporary.stat().st_size
        return CogInfo(self._path, size, digest.hexdigest(), statistics)

    def _template(self, statistics: Sequence[Statistics]) -> dict[int, Tag]:
        """The tags of an empty GeoTIFF of this kind, as GDAL writes them."""
        try:
            return tags_of(self._kind, self._geobox.affine, statistics)
        except (RasterioError, ValueError, TypeError) as err:
            raise InputError(f"{self._path}: GDAL cannot describe this file ({err})") from err
        except LostCrsError as err:
            raise InputError(
                f"geobox: GeoTIFF cannot hold the CRS {self._geobox.crs}; expected one that it can"
            ) from err


class _Level:
    """One resolution: a strip of rows that become tiles, and the stream of finished tiles."""

    def __init__(
        self,
        height: int,
        width: int,
        strip: NDArray[np.number],
        fill: float,
        spool: IO[bytes],
        encode: Callable[[NDArray[np.number]], bytes],
    ) -> None:
        self.spool = spool
        self.passes: list[Callable[[NDArray[np.number]], None]] = []
        """Called with the (bands, h, width) rows of every finished strip; h is even except at the bottom."""
        self._height, self._width, self._strip, self._fill, self._encode = height, width, strip, fill, encode
        self._row = self._bytes = 0
        self._offsets: list[int] = []
        self._lengths: list[int] = []

    def write(self, rows: NDArray[np.number]) -> None:
        """Take (bands, h, width) rows; every full strip is compressed and passed on."""
        at, size = 0, self._strip.shape[1]
        while at < rows.shape[1]:
            used = self._row % size
            take = min(size - used, rows.shape[1] - at)
            self._strip[:, used : used + take, : self._width] = rows[:, at : at + take]
            at, self._row = at + take, self._row + take
            if self._row == self._height or self._row % size == 0:
                self._flush(used + take)

    def table(self) -> LevelTable:
        offsets, lengths = np.array(self._offsets, np.uint64), np.array(self._lengths, np.uint32)
        return LevelTable(self._width, self._height, offsets, lengths, self._bytes)

    def _flush(self, rows: int) -> None:
        size = self._strip.shape[1]
        self._strip[:, rows:] = self._fill
        for x in range(0, self._strip.shape[2], size):
            tile = self._encode(self._strip[:, :, x : x + size])
            self._offsets.append(self._bytes + LEADER)
            self._lengths.append(len(tile))
            self._bytes += self.spool.write(framed(tile))
        for receive in self.passes:
            receive(self._strip[:, :rows, : self._width])


def _halve_into(lower: _Level, how: Overview, nodata: float | None, rows: NDArray[np.number]) -> None:
    lower.write(halved(rows, how, nodata))


def _encoded(compressor: zstandard.ZstdCompressor, predictor: bool, tile: NDArray[np.number]) -> bytes:
    """A (bands, h, w) tile, pixel-interleaved and compressed."""
    pixels = np.ascontiguousarray(tile.transpose(1, 2, 0))
    return compressor.compress((_differences(pixels) if predictor else pixels).data)


class _Hashed:
    """A file that hashes what passes through."""

    def __init__(self, file: IO[bytes], update: Callable[[bytes], object]) -> None:
        self._file, self._update = file, update

    def write(self, data: bytes) -> int:
        self._update(data)
        return self._file.write(data)


def _holds(dtype: np.dtype, value: float) -> bool:
    if dtype.kind == "f":
        return bool(np.isnan(value) or abs(value) <= float(np.finfo(dtype).max))
    info = np.iinfo(dtype)
    return value == int(value) and info.min <= value <= info.max if np.isfinite(value) else False


def _differences(tile: NDArray[np.number]) -> NDArray[np.number]:
    """The (h, w, bands) tile after TIFF predictor 2 (integers; TIFF 6.0 section 14) or 3 (floats; technical note 3)."""
    if tile.dtype.kind != "f":
        out = tile.copy()
        np.subtract(tile[:, 1:], tile[:, :-1], out=out[:, 1:])
        return out
    height, width, bands = tile.shape
    # a row as its bytes, most significant of every value first, then differences between values of the same band
    planes = tile.astype(tile.dtype.newbyteorder(">")).view(np.uint8).reshape(height, width * bands, -1)
    flat = np.ascontiguousarray(planes.transpose(0, 2, 1)).reshape(height, -1)
    out = flat.copy()
    np.subtract(flat[:, bands:], flat[:, :-bands], out=out[:, bands:])
    return out
