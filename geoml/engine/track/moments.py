"""Moments of a sequence: when a frame was taken, what was found in it, and where it lies in the first one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from geoml.engine.track.ground import Ground, ground_of
from geoml.engine.track.recipe import TrackRecipe
from geoml.errors import DataError, InputError
from geoml.grid.homography import Matrix
from geoml.io.tables.detections import Detections, read_detections, read_matrices
from geoml.io.tables.frame_log import FrameLog, read_log, steady

ONE_MORE = 1
"""Frames that a log may have after the last homography: some recorders write the next one."""


HOLE = 1_000_000
"""Frames without a detection in a row, beyond which a number is taken for a mistake."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """A frame of ``shape`` (rows, columns), ``seconds`` after the first, NaN if not given; ``matrix`` (3, 3) takes
    its pixels to those of the first frame of ``ground``; ``nadir`` lon, lat of the camera, NaN where unknown."""

    frame: int
    seconds: float
    shape: tuple[int, int]
    found: Detections
    matrix: Matrix
    ground: Ground
    nadir: tuple[float, float] = (np.nan, np.nan)


@dataclass
class FramesLeftOut:
    """Frames that came to nothing: those that could not be read and those that found no place, with the reasons."""

    unread: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Clock:
    """When frames were taken: by the log, else by so many frames a second.

    ``start`` is the time of the first frame, None if nobody said. Raises InputError for an invalid start, and
    what reading the log raises.
    """

    recipe: TrackRecipe
    log: FrameLog | None = field(init=False)
    start: dt.datetime | None = field(init=False)
    note: str = field(init=False, default="")

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.log = None if recipe.log is None else read_log(recipe.log)
        self.start = None if self.log is None else self.log.start
        if self.start is not None and recipe.start is not None:
            raise InputError(f"start: {recipe.log} has times of its own; expected a log in seconds, or --fps")
        if recipe.start is not None:
            try:
                self.start = dt.datetime.fromisoformat(recipe.start)
            except ValueError as err:
                raise InputError(f"start: {recipe.start!r}; expected a time such as 2024-05-01T10:00:00Z") from err
            self.start = self.start if self.start.tzinfo else self.start.replace(tzinfo=dt.UTC)
        elif self.log is not None and self.start is not None and not self.log.zoned:
            self.note = "the times of the log have no zone; they are written as UTC"

    def at(self, index: int) -> float:
        """Seconds of the frame that is the ``index``-th from 0. Raises DataError for one that the log lacks."""
        if self.log is None:
            return np.nan if self.recipe.fps is None else index / self.recipe.fps
        if index >= len(self.log.seconds):
            raise DataError(f"{self.recipe.log}: {len(self.log.seconds)} rows; there are more frames")
        return float(self.log.seconds[index])

    def nadir(self, index: int) -> tuple[float, float]:
        """lon, lat of the camera, NaN where the log does not say."""
        lon, lat = (np.nan, np.nan) if self.log is None else self.log.lonlat[index]
        return float(lon), float(lat)

    def ended(self, last: int) -> None:
        """Raise DataError if a log has another length than a source whose last taken frame was ``last``, from 0."""
        if self.log is not None and not last < len(self.log.seconds) <= last + self.recipe.every:
            raise DataError(f"{self.recipe.log}: {len(self.log.seconds)} rows; there are {last + 1} frames")


def of_files(recipe: TrackRecipe, clock: Clock) -> Iterator[Moment]:
    """The moments of detections without frames; those of a log or of homographies that have none are there too.

    Raises, as it goes, InputError without what places frames, DataError for a frame that homographies or the log lack,
    and for homographies that cannot be.
    """
    assert recipe.detections is not None
    matrices = None if recipe.homographies is None else read_matrices(recipe.homographies)
    if matrices is None and not recipe.fixed_camera:
        raise InputError(
            "homographies: the motion of the camera is unknown; give --homographies FILE, the frames, or --fixed-camera"
        )
    coming = read_detections(recipe.detections)
    first = next(coming)
    numbers = _numbers(recipe, clock, matrices, first.frame)
    ground, last = None, 0
    found: Detections | None = first
    for ordinal, number in enumerate(numbers if numbers is not None else _counted(first.frame)):
        if found is None and numbers is None:
            break
        if found is not None and found.frame < number:
            raise DataError(f"{recipe.detections}: frame {found.frame} is not in {_source(recipe)}")
        if numbers is None and found is not None and found.frame > number + HOLE:
            raise DataError(
                f"{recipe.detections}: frame {found.frame} is far from those before; expected a log with them"
            )
        last = ordinal
        here = found if found is not None and found.frame == number else Detections.none(number)
        if here is found:
            found = next(coming, None)
        if ordinal % recipe.every:
            continue
        matrix = np.eye(3) if matrices is None else matrices.get(number, np.eye(3))
        shape = _shape(here)
        if ground is None:
            ground = ground_of(recipe, shape)
            if ground is None:
                raise InputError("reference: matching to it needs frames; give them, or --reference-homography")
        ground.check(matrix, shape, f"frame {number}")
        yield Moment(number, clock.at(_index(clock, number, ordinal)), shape, here, matrix, ground,
                     clock.nadir(_index(clock, number, ordinal)))  # fmt: skip
    if found is not None:
        raise DataError(f"{recipe.detections}: frame {found.frame} is not in {_source(recipe)}")
    if clock.log is not None and clock.log.frame is None:
        clock.ended(last)


def _counted(first: int) -> Iterator[int]:
    while True:
        yield first
        first += 1


def _numbers(recipe: TrackRecipe, clock: Clock, matrices: dict[int, Matrix] | None, first: int) -> list[int] | None:
    """The frames that there are, by homographies or the log; None if only detections say it."""
    logged = None if clock.log is None else clock.log.frame
    if matrices is not None:
        known = sorted(matrices)
        if first < known[0]:
            known = [first, *known]
        steady(np.array(known), str(recipe.homographies))
        if logged is not None:
            if lost := sorted(set(known) - set(logged.tolist())):
                raise DataError(
                    f"{recipe.log}: {len(logged)} rows without frame {lost[0]}; {recipe.homographies} has it"
                )
            if len(logged) > np.searchsorted(logged, known[-1]) + 1 + ONE_MORE or logged[0] < known[0]:
                raise DataError(f"{recipe.log}: frames {logged[0]} to {logged[-1]}; homographies end at {known[-1]}")
        return known
    return None if logged is None else logged.tolist()


def _index(clock: Clock, number: int, ordinal: int) -> int:
    """The row of the log that a frame has."""
    if clock.log is None or clock.log.frame is None:
        return ordinal
    return int(np.searchsorted(clock.log.frame, number))


def _source(recipe: TrackRecipe) -> str:
    return f"the frames of {recipe.homographies or recipe.log}"


def _shape(found: Detections) -> tuple[int, int]:
    """(rows, columns) that hold the boxes: more is not known of a frame that is not there."""
    if not len(found.boxes):
        return 1, 1
    width, height = np.ceil((found.boxes[:, :2] + found.boxes[:, 2:]).max(0)).astype(int)
    return max(int(height), 1), max(int(width), 1)
