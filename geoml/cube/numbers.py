"""How a mosaic stores its values: as the files do where all of them agree, else as physical values.

This has to be the same for every block of a run, and no run can open all of its files first. So where only the files
know scale and offset, those of a few items decide, and the others are compared with them when they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pystac
from numpy.typing import NDArray

from geoml.cube.order import in_order
from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io import units as units_of
from geoml.io.stac.bands import BandSpec

LOOKED_AT = 4
"""Items whose files are asked: the first, the last and those between, in the order of the mosaic."""

Scaling = tuple[float, float]
"""Scale and offset."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """How the mosaic stores values: physical = number * ``scale`` + ``offset``, one of each for every band."""

    dtype: str
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    physical: bool
    units: tuple[str | None, ...] = ()
    """Of each band, where physical values are converted to them as they are read."""


def numbers_of(
    items: Sequence[tuple[pystac.Item, tuple[BandSpec, ...]]],
    bands: Sequence[str],
    composite: str,
    units: Sequence[str | None] = (),
) -> Numbers:
    """How a mosaic of ``items`` with their ``bands`` stores values, whatever part of it is read.

    Where the files alone know scale and offset, the headers of a few are read. Raises InputError for units that do not
    fit and TransientError if such a file does not answer.
    """
    known = {item.id: specs for item, specs in items}
    specs = [known[item.id] for item in in_order((item for item, _ in items), composite)]
    return in_units(choose(specs, len(bands)), specs, bands, units)


def in_units(
    numbers: Numbers, specs: Sequence[tuple[BandSpec, ...]], bands: Sequence[str], wanted: Sequence[str | None]
) -> Numbers:
    """Physical values where an item has to be converted, else ``numbers``. Raises InputError if none can be."""
    columns = list(zip(*specs, strict=True)) or [() for _ in bands]
    for name, column, want in zip(bands, columns, wanted or [None] * len(bands), strict=True):
        if why := units_of.mismatch(name, {s.unit for s in column if s.unit}, want):
            raise InputError(f"units: {why}")
    if not wanted or not any(units_of.differ(s.unit, w) for c, w in zip(columns, wanted, strict=True) for s in c):
        return numbers
    count = len(bands)
    return Numbers("float32", (1.0,) * count, (0.0,) * count, physical=True, units=tuple(wanted))


def choose(specs: Sequence[tuple[BandSpec, ...]], count: int) -> Numbers:
    """Stored numbers when every item stores each band alike and says its dtype, else physical float32.

    ``specs`` are the ``count`` bands of every item of the run. Raises TransientError if a file that has to be asked
    for its scale does not answer; one that cannot be read says nothing here.
    """
    dtypes = {s.dtype for row in specs for s in row}
    said = [{(s.scale, s.offset) for s in column if not _open(s)} for column in zip(*specs, strict=True)]
    if not specs or None in dtypes or any(len(s) > 1 for s in said):
        return Numbers("float32", (1.0,) * count, (0.0,) * count, physical=True)
    asked = [(k, s) for row in _some(specs) for k, s in enumerate(row) if _open(s)]
    if asked:
        with ThreadPoolExecutor(8) as pool:
            for (k, _), found in zip(asked, pool.map(_asked, [s for _, s in asked]), strict=True):
                said[k] |= {found} if found else set()
    dtype = np.result_type(*(np.dtype(d) for d in dtypes if d))
    if any(len(s) > 1 for s in said) or (asked and any(s != {(1.0, 0.0)} for s in said)):
        return Numbers("float32", (1.0,) * count, (0.0,) * count, physical=True)
    each = [next(iter(s), (1.0, 0.0)) for s in said]
    return Numbers(dtype.name, tuple(s for s, _ in each), tuple(o for _, o in each), physical=False)


def stored(specs: Sequence[BandSpec], data: Sequence[NDArray[np.number]], numbers: Numbers) -> NDArray[np.number]:
    """(band, y, x) in the numbers of the mosaic of ``data``, (y, x) of each of ``specs``, which are settled.

    Raises DataError for values beyond the declared dtype, and for a file that says another scale than those that
    decided how the mosaic stores values.
    """
    dtype = np.dtype(numbers.dtype)
    scaled = numbers.physical or (dtype.kind == "f" and all(s == 1 for s in numbers.scale) and not any(numbers.offset))
    out = np.empty((len(specs), *data[0].shape), dtype)
    for spec, band, into, scale, offset in zip(specs, data, out, numbers.scale, numbers.offset, strict=True):
        where = f"item {spec.item}, asset {spec.asset}"
        if scaled and (numbers.physical or (spec.scale, spec.offset) != (1.0, 0.0)):
            np.multiply(band, spec.scale, out=into, casting="unsafe")
            into += spec.offset
        elif (spec.scale, spec.offset) != (scale, offset):
            raise DataError(
                f"{where}: its file says scale {spec.scale:g} and offset {spec.offset:g}, other files of the run "
                f"{scale:g} and {offset:g}; state them in the catalog's YAML, or leave the item out"
            )
        else:
            into[...] = band.astype(dtype)
            if not np.can_cast(band.dtype, dtype) and (into != band).any():
                raise DataError(f"{where}: declared as {spec.dtype} but the file holds {band.dtype} beyond it")
    return out


def same(specs: Sequence[BandSpec], dtype: np.dtype[np.number], numbers: Numbers) -> bool:
    """Whether pixels of ``dtype`` as they are in the file are those of the mosaic."""
    alike = [(s.scale, s.offset) for s in specs] == list(zip(numbers.scale, numbers.offset, strict=True))
    return alike and dtype == np.dtype(numbers.dtype) and not numbers.physical


def _open(spec: BandSpec) -> bool:
    return spec.file_scale or spec.file_offset


def _some(specs: Sequence[tuple[BandSpec, ...]]) -> list[tuple[BandSpec, ...]]:
    """A few items with a band whose file has to be asked, evenly spread."""
    rows = [row for row in specs if any(map(_open, row))]
    return [rows[k] for k in sorted({round(v) for v in np.linspace(0, len(rows) - 1, LOOKED_AT)})] if rows else []


def _asked(spec: BandSpec) -> Scaling | None:
    """What the file of a band says; None if it cannot be read."""
    try:
        look = Path(spec.href).stat()
        stamp = look.st_mtime_ns, look.st_size
    except (OSError, ValueError):  # a URL
        stamp = 0, 0
    return _remembered(spec, (spec.file_scale, spec.file_offset), stamp)


@lru_cache(maxsize=4096)
def _remembered(spec: BandSpec, silent: tuple[bool, bool], stamp: tuple[int, int]) -> Scaling | None:
    from geoml.io.cog.scaling import with_file_scaling  # GDAL, which a plan that is only read does without
    from geoml.io.cog.spectrum import settled

    try:
        (found,) = with_file_scaling(settled([spec]))
    except TransientError:
        raise
    except GeomlError:  # said where the block is read
        return None
    return found.scale, found.offset
