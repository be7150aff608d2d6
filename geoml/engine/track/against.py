"""Ids compared with true ones, and with two trivial trackers: the nearest of the frame before, and none."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from geoml.engine.track.moments import Moment
from geoml.errors import DataError
from geoml.io.tables.detections import Detections, read_detections
from geoml.vector.track_scores import ScoredFrame, overlaps, track_scores
from geoml.vector.tracker import nearest

OURS, NEAREST, NOTHING = "geoml", "nearest centre of the last frame", "doing nothing"


class Against:
    """Takes moments with their ids; all of it is held in memory. True boxes of confidence 0 do not count, as
    MOTChallenge marks what is not looked at. Raises InputError and DataError of the file."""

    def __init__(self, truth: str) -> None:
        self._true = {}
        for found in read_detections(truth):
            counted = found.take(found.confidence > 0)
            if len(np.unique(counted.id)) != len(counted.id) or (counted.id < 0).any():
                raise DataError(f"{truth}: frame {found.frame}: ids are missing or repeated")
            self._true[found.frame] = counted
        self._ids: dict[int, tuple[Detections, dict[str, NDArray[np.int64]]]] = {}
        self._before: tuple[NDArray[np.float64], NDArray[np.int64]] = (np.zeros((0, 2)), np.zeros(0, np.int64))
        self._given = self._alone = 0

    def add(self, moment: Moment, sure: NDArray[np.bool_], ids: NDArray[np.int64], metres: NDArray[np.float64]) -> None:
        """Take all detections of a moment, which are sure (n,), their ids (n,), 0 for none, and where they lie (n, 2)
        in metres."""
        near, self._given = nearest(self._before[0], metres[sure], self._before[1], self._given)
        self._before = metres[sure], near
        alone = np.arange(self._alone + 1, self._alone + 1 + int(sure.sum()))
        self._alone += len(alone)
        wide = {OURS: ids, NEAREST: np.zeros_like(ids), NOTHING: np.zeros_like(ids)}
        wide[NEAREST][sure], wide[NOTHING][sure] = near, alone
        self._ids[moment.frame] = moment.found, wide

    def scores(self, every: int = 1) -> dict[str, dict[str, float]]:
        """The scores of each tracker by name, as `geoml.vector.track_scores.TrackScores`. With ``every`` above 1 only
        true boxes of frames that were taken count."""
        frames = sorted(self._ids if every > 1 else self._ids.keys() | self._true.keys())
        return {name: asdict(track_scores(self._compared(frame, name) for frame in frames)) for name in
                (OURS, NEAREST, NOTHING)}  # fmt: skip

    def _compared(self, frame: int, name: str) -> ScoredFrame:
        true = self._true.get(frame, Detections.none(frame))
        found, ids = self._ids.get(frame, (Detections.none(frame), {name: np.zeros(0, np.int64)}))
        kept = ids[name] > 0
        return ScoredFrame(true.id, ids[name][kept], overlaps(true.boxes, found.boxes[kept]))
