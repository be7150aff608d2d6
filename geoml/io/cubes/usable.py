"""The frames of a cube that can be used, where some cannot: for what runs again and again while files arrive.

`geoml.io.cubes.cube.open_cube` refuses a folder with one odd file; here the file is left out and named, and its step is
missing until it is whole. What may be wrong with a file: it is of another kind, unit, grid or time, it cannot be read
to its end, or its values are not plausible.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from geoml.errors import DataError, InputError, NothingFound
from geoml.io.cubes.calendars import iso
from geoml.io.cubes.catalog import pixels_of
from geoml.io.cubes.cube import Cube, frames_in, reader_of
from geoml.io.cubes.files import paths_of
from geoml.io.cubes.frames import CubeFrame, Found, known_by
from geoml.io.cubes.place import CubeGrid, check_same
from geoml.io.cubes.rasters import moment_of
from geoml.io.cubes.spec import CubeSpec
from geoml.io.cubes.steps import misfit
from geoml.io.stores.store import stamp
from geoml.texts import listed

Hashes = MutableMapping[str, list[str]]
"""By frame its file's stamp, and `pixels_of` it: what need not be read again. Frames that are not met are dropped."""


@dataclass(frozen=True, eq=False)
class UsableFrames:
    """Frames in order of time, one for each time, with the hash of the values of each by its tick."""

    spec: CubeSpec
    grid: CubeGrid
    factor: int
    frames: tuple[CubeFrame, ...]
    pixels: dict[int, str]
    left_out: dict[str, str]
    """By file why it does not count."""

    def open(self, until: dt.datetime | None = None) -> Cube:
        """The cube of what could be known by ``until``. Raises NothingFound without a frame."""
        limit = None if until is None else math.floor(until.timestamp())
        frames = [f for f in self.frames if known_by(limit, f.tick, self.spec)]
        if not frames:
            raise NothingFound(f"cube: no step of {self.spec.name} is known by {until}")
        return Cube(self.spec, frames, self.grid, reader_of(self.spec), self.factor)


def usable_frames(
    source: str | Path,
    spec: CubeSpec,
    factor: int,
    until: dt.datetime,
    begin: Callable[[int], int],
    hashes: Hashes,
) -> UsableFrames:
    """The frames that are known by ``until`` and not before ``begin(tick of the newest one)``.

    Every one of them is read once to its end; ``hashes`` of an earlier look spare those that have not changed. Two
    frames of one time count as one where their values are the same, and as none where they differ.

    Raises InputError for what was asked wrongly and for forecasts, NothingFound if there is no frame yet, and
    DataError, saying why, where none of them counts.
    """
    root, limit = Path(source), math.floor(until.timestamp())
    left: dict[str, str] = {}

    def name_of(path: Path) -> str:
        return path.relative_to(root.absolute()).as_posix() if root.is_dir() and path != root.absolute() else path.name

    found: list[Found] = []
    for path in _recent(paths_of(source, spec), spec, limit, begin, left, name_of):
        try:
            one = frames_in(path, spec, limit)
        except (DataError, InputError) as err:
            left[name_of(path)] = _why(err, path)
            continue
        if one is not None and one.frames:
            found.append(one)
    if any(f.reference is not None for part in found for f in part.frames):
        raise InputError("cube: its steps are forecasts; expected what was seen")
    grid, frames = _of_one_grid(found, left, name_of)
    kept = _read(frames, begin, UsableFrames(spec, grid, factor, (), {}, left), hashes, name_of) if grid else None
    if grid is None or kept is None or not kept[0]:
        if not left:
            raise NothingFound(f"cube: no step of {spec.name} is known by {until:%FT%TZ}")
        said = listed((f"{name}: {why}" for name, why in left.items()), joined="; ")
        raise DataError(f"cube: no step of {spec.name} can be used by {until:%FT%TZ}; left out: {said}")
    return UsableFrames(spec, grid, factor, tuple(kept[0]), kept[1], left)


def _why(err: Exception, path: Path) -> str:
    """Without the file's name, which stands before it."""
    return str(err).replace(f"{path}: ", "").replace(f"{path} ", "")


def _recent(
    paths: Iterable[Path],
    spec: CubeSpec,
    limit: int,
    begin: Callable[[int], int],
    left: dict[str, str],
    name_of: Callable[[Path], str],
) -> list[Path]:
    """Files that are not known to be too old: only those whose name says a time are, and need not be opened."""
    if spec.source != "name":
        return list(paths)
    ticks = {}
    for path in paths:
        try:
            ticks[path] = round(moment_of(path.name, spec).timestamp())
        except DataError as err:
            left[name_of(path)] = str(err)
    known = [tick for tick in ticks.values() if known_by(limit, tick, spec)]
    first = begin(max(known)) if known else 0
    return [path for path, tick in ticks.items() if tick >= first]


def _of_one_grid(
    found: list[Found], left: dict[str, str], name_of: Callable[[Path], str]
) -> tuple[CubeGrid | None, list[CubeFrame]]:
    """The frames on the grid that most of them lie on, of several the one that came first."""
    groups: list[list[Found]] = []
    for part in sorted(found, key=lambda p: (p.frames[0].tick, str(p.frames[0].path))):
        for group in groups:
            try:
                check_same(group[0].grid, part.grid)
            except DataError:
                continue
            group.append(part)
            break
        else:
            groups.append([part])
    if not groups:
        return None, []
    best = max(groups, key=lambda group: sum(len(part.frames) for part in group))
    for part in (p for group in groups if group is not best for p in group):
        try:
            check_same(best[0].grid, part.grid)
        except DataError as err:
            left[name_of(part.frames[0].path)] = f"{err}, unlike most"
    return best[0].grid, [frame for part in best for frame in part.frames]


def _read(
    frames: list[CubeFrame],
    begin: Callable[[int], int],
    bare: UsableFrames,
    hashes: Hashes,
    name_of: Callable[[Path], str],
) -> tuple[list[CubeFrame], dict[int, str]]:
    """Frames of different times that can be read to their end and are in step, and the hash of each by its tick."""
    spec, left = bare.spec, bare.left_out
    first = begin(max(frame.tick for frame in frames))
    read: dict[int, list[tuple[CubeFrame, str]]] = {}
    now: dict[str, list[str]] = {}
    for frame in sorted((f for f in frames if f.tick >= first), key=lambda f: (f.tick, str(f.path), f.band)):
        key, mark = f"{name_of(frame.path)} {frame.band} {frame.tick}", json.dumps([bare.factor, stamp(frame.path)])
        try:
            pixels = _hash(frame, bare, hashes.get(key), mark)
        except (DataError, InputError) as err:
            left[_called(frame, spec, name_of)] = _why(err, frame.path)
            continue
        if pixels is None:
            left[_called(frame, spec, name_of)] = "no value in it is known"
            continue
        if frame.path.is_file():  # the stamp of a folder does not tell what is in it
            now[key] = [mark, pixels]
        read.setdefault(frame.tick, []).append((frame, pixels))
    hashes.clear()
    hashes.update(now)
    kept = {tick: those[0] for tick, those in sorted(read.items()) if len({pixels for _, pixels in those}) == 1}
    for tick, those in read.items():
        for frame, _ in those if tick not in kept else those[1:]:
            others = listed(name_of(f.path) for f, _ in those if f is not frame)
            how = "the same as" if tick in kept else f"of {iso(tick, spec.time.calendar)} as, but not the same as,"
            left[_called(frame, spec, name_of)] = f"{how} {others}"
    while (odd := misfit(list(kept), spec.duration, spec.time.calendar)) is not None:
        frame, _ = kept.pop(list(kept)[odd[0]])
        left[_called(frame, spec, name_of)] = odd[1]
    return [frame for frame, _ in kept.values()], {tick: pixels for tick, (_, pixels) in kept.items()}


def _called(frame: CubeFrame, spec: CubeSpec, name_of: Callable[[Path], str]) -> str:
    """A file of one frame by its name, another frame by its time too."""
    one = spec.driver in ("GeoTIFF", "HDF5")
    return name_of(frame.path) if one else f"{name_of(frame.path)}, {iso(frame.tick, spec.time.calendar)}"


def _hash(frame: CubeFrame, bare: UsableFrames, before: list[str] | None, mark: str) -> str | None:
    if before is not None and before[0] == mark:
        return before[1]
    with Cube(bare.spec, [frame], bare.grid, reader_of(bare.spec), bare.factor) as cube:
        return pixels_of(cube, 0)
