"""One item on a grid: its quality band first, then only the bands that are needed."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoml.cube.composite import FirstLook, Observation
from geoml.cube.mask import clear
from geoml.cube.numbers import Numbers, same, stored
from geoml.errors import DataError
from geoml.io import units as units_of
from geoml.io.cog import read as cog
from geoml.io.cog import spectrum
from geoml.io.cog.scaling import with_file_scaling
from geoml.io.stac.bands import BandSpec, MaskSpec
from geoml.logs import Threads, about

log = logging.getLogger(__name__)

READERS = 4
"""Assets of one item that are read at the same time, and quality bands that are read ahead."""

PIECE = 512
"""Pixels of the squares of a grid that are read or left out: the usual tiles of a file."""

EVERY = (slice(None), slice(None))

CORNER = 64
"""Pixels of the corners of a scene in which a quality band is compared with the bands."""


@dataclass(frozen=True, slots=True)
class Source:
    """What to read of one item."""

    item: str
    bands: tuple[BandSpec, ...]
    mask: MaskSpec | None


@contextmanager
def looks(sources: Sequence[Source], geobox: GeoBox, numbers: Numbers) -> Iterator[Iterator[Look]]:
    """A `Look` at each item, in order. The quality bands of the next ones are read meanwhile, as they all count."""
    with Threads(READERS) as pool:
        yield _ahead(sources, geobox, numbers, pool)


def _ahead(sources: Sequence[Source], geobox: GeoBox, numbers: Numbers, pool: Threads) -> Iterator[Look]:
    def made(source: Source) -> Look:
        with about(item=source.item):
            found = None if source.mask is None else pool.submit(_clear, source.mask, geobox)
        return Look(source, geobox, numbers, pool, found)

    coming = map(made, sources)
    ready = deque(islice(coming, READERS))
    while ready:
        look = ready.popleft()
        yield look
        ready.extend(islice(coming, 1))


def _clear(mask: MaskSpec, geobox: GeoBox) -> NDArray[np.bool_]:
    values, known = cog.read([mask.band], geobox, resampling="nearest")
    return clear(values[0], known[0], mask)


@dataclass(frozen=True)
class Look:
    """One item on one grid; what is read depends on what is asked. All raise what `geoml.io.cog.read.read` raises."""

    source: Source
    geobox: GeoBox
    numbers: Numbers
    pool: Threads
    clear: Future[NDArray[np.bool_]] | None
    """(y, x) True where the quality band calls it usable; None: all of it."""

    def whole(self) -> Observation | None:
        """All bands; None if the quality band leaves nothing, and then they are not read."""
        ok = None if self.clear is None else self.clear.result()
        if ok is not None and not ok.any():
            return None
        with about(item=self.source.item):
            ((data, valid),) = self._read([self.geobox])
        return data, valid if ok is None else valid & ok

    def first(self, missing: NDArray[np.bool_]) -> FirstLook | None:
        """Values where they are ``missing`` (y, x), and what counts; None if nothing does.

        Where a pixel has its values, the quality band alone says whether this item counts too, if it `vouches` for the
        bands; this is a matter of pixel and item, so the count does not depend on how the work is cut.
        """
        ok = None if self.clear is None else self.clear.result()
        if ok is not None and not ok.any():
            return None
        with about(item=self.source.item):
            return self._first(missing, ok)

    def _first(self, missing: NDArray[np.bool_], ok: NDArray[np.bool_] | None) -> FirstLook | None:
        if self.numbers.units or missing.all():  # a value may have none in another unit
            return self._all()
        if ok is not None and self.source.mask is not None and vouches(self.source.bands, self.source.mask):
            places = pieces(missing & ok)
            found = self._read([self.geobox[place] for place in places])
            for place, (_, valid) in zip(places, found, strict=True):
                ok[place] &= valid | ~missing[place]
            return FirstLook(ok, [(place, data) for place, (data, _) in zip(places, found, strict=True)])
        if (missing if ok is None else missing & ok).any():
            return self._all()
        self._read([])
        specs = [[self.source.bands[k] for k in group] for group in _groups(self.source.bands)]
        valid = np.logical_and.reduce(
            [v[0].all(axis=0) for v in self.pool.map(lambda group: spectrum.valid_parts(group, [self.geobox]), specs)]
        )
        return FirstLook(valid if ok is None else valid & ok, [])

    def _all(self) -> FirstLook | None:
        found = self.whole()
        return None if found is None else FirstLook(found[1], [(EVERY, found[0])])

    def _read(self, boxes: Sequence[GeoBox]) -> list[Observation]:
        """Values as the mosaic stores them and validity of each of the ``boxes``; each file is opened once.

        Also without a box a file that says another scale raises DataError.
        """
        log.info("reading %d bands", len(self.source.bands))
        groups = _groups(self.source.bands)
        found = list(self.pool.map(lambda group: _pixels([self.source.bands[k] for k in group], boxes), groups))
        specs, out = [chosen for chosen, _ in found], []
        if not boxes:
            nothing = [np.empty((len(group), 0, 0), self.numbers.dtype) for group in groups]
            _stored(self.source, groups, specs, nothing, self.numbers)
        for parts in zip(*(pixels for _, pixels in found), strict=True):
            data = _stored(self.source, groups, specs, [values for values, _ in parts], self.numbers)
            valid = np.logical_and.reduce([v.all(axis=0) for _, v in parts])
            if self.numbers.units:
                valid &= converted(data, [s.unit for s in self.source.bands], self.numbers.units)
            out.append((data, valid))
        return out


def pieces(wanted: NDArray[np.bool_]) -> list[tuple[slice, slice]]:
    """Rectangles that hold all that is ``wanted`` (y, x): squares of `PIECE`, joined along rows; one, if most are."""
    height, width = wanted.shape
    found: list[tuple[slice, slice]] = []
    count = 0
    for y in range(0, height, PIECE):
        row = np.logical_or.reduce(wanted[y : y + PIECE], axis=0)
        for x in range(0, width, PIECE):
            if not row[x : x + PIECE].any():
                continue
            count += 1
            start, place = x, (slice(y, min(y + PIECE, height)), slice(x, min(x + PIECE, width)))
            if found and found[-1][0] == place[0] and found[-1][1].stop == start:
                place = (place[0], slice(found.pop()[1].start, place[1].stop))
            found.append(place)
    most = -(-height // PIECE) * -(-width // PIECE) * 3 / 4
    return [(slice(0, height), slice(0, width))] if count > most else found


@lru_cache(maxsize=4096)
def vouches(bands: tuple[BandSpec, ...], mask: MaskSpec) -> bool:
    """Whether a quality band calls nothing clear where a band is no data, in two corners of the scene.

    There the edges of a swath lie, and a band of clouds alone says nothing of them. Raises TransientError.
    """
    try:
        box = cog.header(mask.band).geobox
        corners = [box[:CORNER, :CORNER], box[-CORNER:, -CORNER:]]
        usable = [clear(v[0], ok[0], mask) for v, ok in cog.read_parts([mask.band], corners, resampling="nearest")]
        asked = [k for k, ok in enumerate(usable) if ok.any()]
        for group in _groups(bands) if asked else ():
            specs = [bands[k] for k in group]
            valid = spectrum.valid_parts(specs, [corners[k] for k in asked], resampling="nearest")
            if any((usable[k] & ~v.all(axis=0)).any() for k, v in zip(asked, valid, strict=True)):
                log.info("the quality band marks nodata as clear; counting from the bands instead")
                return False
    except DataError as err:  # a broken place that may not be asked for
        log.info("counting from the bands instead: %s", err)
        return False
    return True


def _groups(bands: Sequence[BandSpec]) -> list[list[int]]:
    """Numbers of the bands of each asset."""
    assets: dict[str, list[int]] = {}
    for k, spec in enumerate(bands):
        assets.setdefault(spec.asset, []).append(k)
    return list(assets.values())


def _pixels(specs: Sequence[BandSpec], boxes: Sequence[GeoBox]) -> tuple[tuple[BandSpec, ...], list[cog.Pixels]]:
    """Bands of one asset with their scale and offset known, values and validity in each of ``boxes``."""
    chosen = with_file_scaling(spectrum.settled(specs))
    return chosen, spectrum.read_parts(chosen, boxes) if boxes else []


def converted(data: NDArray[np.number], have: Sequence[str | None], want: Sequence[str | None]) -> NDArray[np.bool_]:
    """Converts ``data`` (band, y, x), physical, in place; (y, x) True where every band has a value in its new unit."""
    for k, (ours, theirs) in enumerate(zip(have, want, strict=True)):
        if units_of.differ(ours, theirs):
            data[k] = units_of.convert(data[k], ours, theirs)
    known: NDArray[np.bool_] = np.isfinite(data).all(axis=0)
    data[:, ~known] = 0
    return known


def _stored(
    source: Source,
    groups: list[list[int]],
    specs: Sequence[Sequence[BandSpec]],
    arrays: Sequence[NDArray[np.number]],
    numbers: Numbers,
) -> NDArray[np.number]:
    """(band, y, x) in the order and the numbers of the mosaic.

    Raises DataError for values beyond the declared dtype and for a file that says another scale.
    """
    if groups == [list(range(len(source.bands)))] and same(specs[0], arrays[0].dtype, numbers):
        return arrays[0]
    known, values = list(source.bands), [arrays[0][0]] * len(source.bands)
    for group, row, data in zip(groups, specs, arrays, strict=True):
        for k, spec, band in zip(group, row, data, strict=True):
            known[k], values[k] = spec, band
    return stored(known, values, numbers)
