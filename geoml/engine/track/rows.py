"""Positions with ids become rows: speeds as soon as what comes after is known, a line where a track ends.

Held are the positions whose speed hangs on what comes, the last positions of each track, and the line of each one that
is not over: of a line only the corners, so that what stands for hours has one.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoml.engine.track.ground import GroundPlaces
from geoml.engine.track.moments import Moment
from geoml.io.tables.positions import RowFile, line
from geoml.vector.motion import Motion
from geoml.vector.speeds import Path, Scatter, Velocity

CORNER = 0.25
"""Of the size of a thing: a line has a corner where it has gone so far from the last one."""
KMH = 3.6


@dataclass(slots=True, eq=False)
class _Track:
    id: int
    path: Path
    begun: float
    seen: float
    moment: int
    kinds: dict[str, float] = field(default_factory=dict)
    waiting: deque[dict[str, Any]] = field(default_factory=deque)
    corners: list[tuple[float, float]] = field(default_factory=list)
    at: tuple[float, float] = (math.nan, math.nan)
    """Metres of the last corner."""
    here: tuple[tuple[float, float], tuple[float, float]] = ((math.nan, math.nan),) * 2
    """Coordinates and metres of the last position."""
    first: tuple[float, float] = (math.nan, math.nan)
    """Metres of the first position."""
    size: float = 0.0
    reach: float = 0.0
    """Metres from the first position to the farthest."""
    n: int = 0
    length: float = 0.0
    speeds: int = 0
    total: float = 0.0
    fastest: float = -math.inf
    gaps: int = 0
    longest: float = 0.0


class TrackRows:
    """Takes moments in their order and writes their rows; `finish` ends it."""

    def __init__(self, positions: RowFile, tracks: RowFile, motion: Motion, start: dt.datetime | None) -> None:
        self.positions, self.lines, self.motion, self.start = positions, tracks, motion, start
        self.moments = self.tracks = self.rows = 0
        self.moved = 0
        """Tracks that went further than they are large."""
        self._open: dict[int, _Track] = {}
        self._scatter = Scatter()
        self._queue: deque[tuple[dict[str, Any], tuple[float, float]]] = deque()

    def add(self, moment: Moment, ids: NDArray[np.int64], places: GroundPlaces, area: NDArray[np.float64]) -> None:
        """Take the detections of a moment that have ids (n,), where they lie and their areas (n,) in m²."""
        self.moments += 1
        degrees = places.lonlat is not None
        shown = places.lonlat if places.lonlat is not None else places.metres
        for k, key in enumerate(ids.tolist()):
            point = (float(shown[k, 0]), float(shown[k, 1]))
            metres = (float(places.metres[k, 0]), float(places.metres[k, 1]))
            kind, confidence = str(moment.found.kind[k]), float(moment.found.confidence[k])
            row = {
                "id": key, "frame": moment.frame, "seconds": _or_none(moment.seconds),
                "time": self._time(moment.seconds), "lon": point[0] if degrees else None,
                "lat": point[1] if degrees else None, "x": float(places.xy[k, 0]),
                "y": float(places.xy[k, 1]), "class": kind or None, "confidence": confidence,
            }  # fmt: skip
            self._queue.append((row, point))
            self.rows += 1
            self._extend(key, moment.seconds, row, point, metres, float(area[k]))
            votes = self._open[key].kinds
            votes[kind] = votes.get(kind, 0.0) + confidence
        self._emit()

    def keep(self, waiting: Iterable[int]) -> None:
        """End the tracks that are waited for no more."""
        for key in sorted(self._open.keys() - set(waiting)):
            self._end(self._open.pop(key))
        self._emit()

    def finish(self) -> None:
        """End all."""
        self.keep(())

    def _extend(
        self,
        key: int,
        at: float,
        row: dict[str, Any],
        point: tuple[float, float],
        metres: tuple[float, float],
        area: float,
    ) -> None:
        if (track := self._open.get(key)) is None:
            track = self._open[key] = _Track(key, Path(self._scatter, self.motion.noise), at, at, self.moments)
            track.corners.append(point)
            track.at = track.first = metres
        elif self.moments > track.moment + 1:
            track.gaps += 1
            track.longest = max(track.longest, at - track.seen)
        if (far := math.dist(track.at, metres)) > CORNER * math.sqrt(area):
            track.corners.append(point)
            track.length += far
            track.at = metres
        track.here, track.seen, track.moment, track.n = (point, metres), at, self.moments, track.n + 1
        track.size, track.reach = math.sqrt(area), max(track.reach, math.dist(track.first, metres))
        track.waiting.append(row)
        if math.isfinite(at):
            self._told(track, track.path.add(at, *metres, area))

    def _told(self, track: _Track, velocities: list[Velocity]) -> None:
        for velocity in velocities:
            row = track.waiting.popleft()
            speed = KMH * velocity.speed
            row["speed_kmh"], row["speed_sd_kmh"] = _or_none(speed), _or_none(KMH * velocity.sd)
            row["moving"] = velocity.moving if math.isfinite(speed) else None
            row["heading"] = velocity.heading if velocity.moving else None
            if math.isfinite(speed):
                track.speeds, track.total, track.fastest = (
                    track.speeds + 1,
                    track.total + speed,
                    max(track.fastest, speed),
                )

    def _end(self, track: _Track) -> None:
        if math.isfinite(track.seen):
            self._told(track, track.path.end())
        while track.waiting:  # without a time
            track.waiting.popleft()["speed_kmh"] = None
        point, metres = track.here
        if track.at != metres and len(track.corners) > 1:
            track.corners.append(point)
            track.length += math.dist(track.at, metres)
        kind = max(track.kinds, key=lambda k: (track.kinds[k], k))
        self.lines.add(
            {
                "id": track.id, "class": kind or None, "start": self._time(track.begun), "end": self._time(track.seen),
                "start_seconds": _or_none(track.begun), "end_seconds": _or_none(track.seen), "n": track.n,
                "length_m": track.length, "mean_speed_kmh": track.total / track.speeds if track.speeds else None,
                "max_speed_kmh": track.fastest if track.speeds else None, "gaps": track.gaps,
                "longest_gap_seconds": track.longest,
            },
            line(track.corners),
        )  # fmt: skip
        self.tracks += 1
        self.moved += track.reach > track.size

    def _emit(self) -> None:
        while self._queue and "speed_kmh" in self._queue[0][0]:
            row, point = self._queue.popleft()
            self.positions.add(row, shapely.Point(point))

    def _time(self, seconds: float) -> dt.datetime | None:
        if self.start is None or not math.isfinite(seconds):
            return None
        return self.start + dt.timedelta(seconds=seconds)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
