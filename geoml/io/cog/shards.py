"""Exports of Earth Engine in shards: files ``NAME-ROW-COLUMN.tif`` of one image, put together again by their names.

``Export.image.toDrive`` and ``toCloudStorage`` cut an image that is too large for one file, and name each shard by the
row and column of its upper left pixel, ten digits each. What the names say is compared with what the files say.
Source: https://developers.google.com/earth-engine/guides/exporting_images.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geoml.errors import InputError
from geoml.io.cog.raster_file import RasterFile
from geoml.io.cog.validity import as_dtype
from geoml.io.cog.vrt_mosaic import MosaicPart
from geoml.redacted import redact
from geoml.texts import listed

OFF = 0.01
"""Pixels that a shard may lie away from where its name says; transforms are rounded."""

_SHARD = re.compile(r"(.+)-(000\d{7})-(000\d{7})\.tiff?", re.IGNORECASE)
"""No image has ten million rows; what is larger is something else, such as seconds since 1970."""


@dataclass(frozen=True)
class _Shard:
    file: RasterFile
    at: tuple[int, int]
    """Row and column in the image."""

    @property
    def name(self) -> str:
        return redact(self.file.href.rpartition("/")[2])

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.file.box.shape[0]), int(self.file.box.shape[1])


def joined(
    files: Sequence[RasterFile], field: str, *, skipped: bool = False, nodata: float | None = None
) -> list[RasterFile]:
    """``files`` with all shards of an export as one, where its first one stood.

    ``skipped``: a shard that is not there is empty, as Earth Engine's ``skipEmptyTiles`` leaves it out; its pixels are
    what the files call no data, else ``nodata``. Raises InputError, naming the option ``field`` and the shards, for
    exports with a shard missing and for shards that differ in grid or bands.
    """
    exports: dict[str, list[_Shard]] = defaultdict(list)
    for file in files:
        folder, _, name = file.href.rpartition("/")
        if found := _SHARD.fullmatch(name):
            exports[f"{folder}/{found[1]}"].append(_Shard(file, (int(found[2]), int(found[3]))))
    out: dict[str, RasterFile] = {}
    of = {s.file.href: place for place, shards in exports.items() for s in shards}
    for file in files:
        place = of.get(file.href)
        if place is None:
            out[file.href] = file
        elif place not in out:
            out[place] = _whole(place, exports[place], field, skipped=skipped, nodata=nodata)
    return list(out.values())


def _whole(place: str, shards: list[_Shard], field: str, *, skipped: bool, nodata: float | None) -> RasterFile:
    """The image of an export, called ``place``.vrt."""
    name, shards = redact(place.rpartition("/")[2]), sorted(shards, key=lambda s: s.at)
    first = shards[0]
    for shard in shards:
        if why := _differs(shard, first):
            raise InputError(f"{field}: {shard.name} {why}; expected the shards of one export of Earth Engine")
    rows, columns = (_lengths(shards, axis, name, field) for axis in (0, 1))
    there = {s.at for s in shards}
    cells = itertools.product(sorted({0, *rows}), sorted({0, *columns}))
    missing = [f"{name}-{r:010d}-{c:010d}.tif" for r, c in cells if (r, c) not in there]
    missing += [f"rows {a} to {b - 1}" for a, b in _gaps(rows)] + [f"columns {a} to {b - 1}" for a, b in _gaps(columns)]
    if missing and not skipped:
        raise InputError(
            f"{field}: {name} lacks {listed(missing)}; expected all shards of the export, or geoml catalogs new"
            " --skipped-shards if Earth Engine left out empty ones (skipEmptyTiles)"
        )
    shape = max(a + n for a, n in rows.items()), max(a + n for a, n in columns.items())
    file = first.file
    return replace(
        file,
        href=f"{place}.vrt",
        box=GeoBox(shape, file.box.affine @ Affine.translation(-first.at[1], -first.at[0]), file.box.crs),
        nodata=tuple(_hole(nodata, v, d, name) for v, d in zip(file.nodata, file.dtypes, strict=True))
        if missing
        else file.nodata,
        tags={k: v for s in reversed(shards) for k, v in s.file.tags.items()},
        spectral=False,
        parts=tuple(MosaicPart(s.file.href, *s.at, *s.shape) for s in shards),
    )


def _differs(shard: _Shard, first: _Shard) -> str:
    """How a shard is unlike the first one, or what it has that none has; empty where they fit."""
    one, other = shard.file, first.file
    if one.masked or one.alpha or one.flipped:
        return "has its first row in the south" if one.flipped else "has a mask or an alpha band"
    nodata, nodata_there = (np.array([math.nan if v is None else v for v in f.nodata]) for f in (one, other))
    unlike = {
        "bands": (one.names, one.dtypes) != (other.names, other.dtypes),
        "scale or offset": one.scaling != other.scaling,
        "nodata": not np.array_equal(nodata, nodata_there, equal_nan=True),
        "CRS": one.box.crs != other.box.crs,
    }
    if differs := [what for what, so in unlike.items() if so]:
        return f"and {first.name} differ in {listed(differs)}"
    column, row = ~other.box.affine * (one.box.affine.c, one.box.affine.f)
    corner = ~other.box.affine * (one.box.affine * (shard.shape[1], shard.shape[0]))
    told = shard.at[0] - first.at[0], shard.at[1] - first.at[1]
    off = max(abs(row - told[0]), abs(column - told[1]))
    size = max(abs(corner[0] - column - shard.shape[1]), abs(corner[1] - row - shard.shape[0]))
    if max(off, size) > OFF:
        return f"is not on the grid of {first.name} where its name says (off by {max(off, size):.3g} pixels)"
    return ""


def _lengths(shards: Sequence[_Shard], axis: int, name: str, field: str) -> dict[int, int]:
    """Pixels of the shards along an axis by where they start, in order. Raises InputError where they overlap."""
    found: dict[int, int] = {}
    for shard in sorted(shards, key=lambda s: s.at[axis]):
        start, length = shard.at[axis], shard.shape[axis]
        if found.setdefault(start, length) != length:
            sizes = f"{found[start]} and {length} pixels"
            raise InputError(f"{field}: shards of {name} that start at {start} have {sizes}; expected the same")
    for (start, length), (after, _) in itertools.pairwise(found.items()):
        if start + length > after:
            raise InputError(f"{field}: shards of {name} overlap: {start} to {start + length} and from {after}")
    return found


def _gaps(lengths: Mapping[int, int]) -> list[tuple[int, int]]:
    """(start, stop) of what lies between shards along an axis, past the first row or column of them that is known."""
    return [(a + n, b) for (a, n), (b, _) in itertools.pairwise(lengths.items()) if a + n < b]


def _hole(nodata: float | None, own: float | None, dtype: str, where: str) -> float:
    """What the pixels of a shard that is not there hold: what the files call no data, else ``nodata``.

    Raises InputError where nothing of the dtype means no data.
    """
    kind = np.dtype(dtype)
    if own is not None and as_dtype(own, kind, own=True) is not None:
        return own
    if nodata is not None and as_dtype(nodata, kind) is not None:
        return nodata
    if nodata is not None:
        raise InputError(
            f"nodata: {nodata:g} for {where}; expected a value of {dtype} for the shards that were left out"
        )
    if kind.kind == "f":
        return math.nan
    raise InputError(f"nodata: {where} says none for the shards that were left out; expected --nodata, such as 0")
