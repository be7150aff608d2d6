"""A whole sequence: frames or detections in, a table of positions and one of tracks out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.engine.machine.shutdown import graceful_shutdown
from geoml.engine.track.against import Against
from geoml.engine.track.ground import GroundPlaces
from geoml.engine.track.moments import Clock, FramesLeftOut, Moment, of_files
from geoml.engine.track.placing import Locate
from geoml.engine.track.recipe import TrackRecipe
from geoml.engine.track.rows import TrackRows
from geoml.engine.track.stills import owned
from geoml.errors import InputError, NothingFound
from geoml.io.stores.remote import is_url
from geoml.io.tables.positions import opened, tracks_path
from geoml.vector.motion import SURE
from geoml.vector.tracker import Seen, Tracker

Progress = Callable[[int], None]
"""Called with the number of frames that were followed since the last call."""


def follow(
    recipe: TrackRecipe,
    out: str | Path,
    source: str | Path | None = None,
    *,
    locate: Locate | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Follow what moves through ``source`` (a folder of frames, a film, None if detections are all there is) and
    write ``out`` and its lines beside it; what is said of it.

    ``locate`` finds a frame on the recipe's reference. Both files appear whole or not at all.

    Raises InputError for options that do not go together or a name that is not a .parquet, NothingFound without a
    detection, and what `geoml.engine.track.moments.of_files` and `geoml.engine.track.films.of_frames` raise.
    """
    if is_url(str(out)):
        raise InputError(f"out: {out}; expected a file of this machine")
    target = Path(out)
    lines = tracks_path(target)
    check(recipe, source)
    left, clock = FramesLeftOut(), Clock(recipe)
    coming = _moments(recipe, clock, source, locate, left)
    with graceful_shutdown():
        first = next(coming, None)  # what is wrong with the source is said before a file is begun
        if first is None:
            raise NothingFound(f"{source or recipe.detections}: no frame that could be placed")
        crs = first.ground.crs
        against = None if recipe.truth is None else Against(recipe.truth)
        counts = {"frames": 0, "detections": 0, "dropped": 0, "elsewhere": 0}
        with opened(target, degrees=crs is not None) as (positions, tracks):
            rows = TrackRows(positions, tracks, recipe.motion, clock.start)
            step = _still if recipe.stills else _moving
            for moment in step(recipe, rows, against, _chained(first, coming), counts):
                counts["frames"] += 1
                counts["detections"] += len(moment.found.boxes)
                if progress:
                    progress(1)
            rows.finish()
            if not rows.rows:
                raise NothingFound(f"{source or recipe.detections}: {_nothing(recipe)}")
            about = {"crs": crs, "gsd": None if crs else recipe.gsd, "recipe": recipe.model_dump(mode="json")}
            positions.finish(about)
            tracks.finish(about)
    return {
        **counts, "unread": left.unread, "unplaced": left.unplaced,
        "positions": rows.rows, "tracks": rows.tracks, "moved": rows.moved, "crs": crs,
        "files": [str(target), str(lines)], "notes": _notes(recipe, crs, clock.note),
        "scores": {} if against is None else against.scores(recipe.every),
    }  # fmt: skip


def check(recipe: TrackRecipe, source: str | Path | None) -> None:
    """Raise InputError for options that do not go with a source, or without one."""
    if source is None and recipe.model is not None:
        raise InputError("frames: a model needs them; expected a folder of frames or a film")
    if source is None and (recipe.bands or recipe.scale or recipe.offset):
        raise InputError("bands, scale, offset: there are no frames; expected them with a folder or a film")
    if source is None and recipe.stills:
        raise InputError("stills: what photos show decides who owns a place; expected a folder of them")
    if recipe.truth is not None and recipe.stills:
        raise InputError("truth: ids of photos are those of detections; expected it without --stills")


def _moments(
    recipe: TrackRecipe, clock: Clock, source: str | Path | None, locate: Locate | None, left: FramesLeftOut
) -> Iterator[Moment]:
    if source is None:
        return of_files(recipe, clock)
    from geoml.engine.track.films import of_frames  # torch

    return of_frames(source, recipe, clock, locate, left)


def _chained(first: Moment, coming: Iterator[Moment]) -> Iterator[Moment]:
    yield first
    yield from coming


def _moving(
    recipe: TrackRecipe, rows: TrackRows, against: Against | None, moments: Iterator[Moment], counts: dict[str, int]
) -> Iterator[Moment]:
    tracker, names = Tracker(recipe.motion), dict[str, int]()
    for moment in moments:
        heard = moment.found.sure(recipe.sure) | (moment.found.confidence >= recipe.unsure)
        counts["dropped"] += int((~heard).sum())
        moment = replace(moment, found=moment.found.take(heard))
        places, size = measured(moment)
        kind = np.array([names.setdefault(k, len(names)) for k in moment.found.kind], np.int64)
        sure = moment.found.sure(recipe.sure)
        ids = tracker.step(moment.seconds, Seen(places.metres, size, sure, kind))
        if against is not None:
            against.add(moment, sure, ids, places.metres)
        counts["dropped"] += int((ids == 0).sum())
        _write(rows, moment, ids, places, size)
        rows.keep(tracker.waiting.tolist())
        yield moment


def _still(
    recipe: TrackRecipe, rows: TrackRows, against: Against | None, moments: Iterator[Moment], counts: dict[str, int]
) -> Iterator[Moment]:
    given = 0
    for photo, mine in owned(moments):
        places, size = measured(photo)
        sure = photo.found.sure(recipe.sure)
        counts["dropped"] += int((~sure).sum())
        counts["elsewhere"] += int((sure & ~mine).sum())
        ids = np.zeros(len(mine), np.int64)
        kept = np.flatnonzero(mine & sure)
        ids[kept] = np.arange(given + 1, given + 1 + len(kept))
        given += len(kept)
        _write(rows, photo, ids, places, size)
        rows.finish()
        yield photo


def _write(
    rows: TrackRows, moment: Moment, ids: NDArray[np.int64], places: GroundPlaces, size: NDArray[np.float64]
) -> None:
    kept = ids > 0
    lonlat = None if places.lonlat is None else places.lonlat[kept]
    mine = GroundPlaces(places.xy[kept], lonlat, places.metres[kept])
    rows.add(replace(moment, found=moment.found.take(kept)), ids[kept], mine, size[kept].prod(1))


def measured(moment: Moment) -> tuple[GroundPlaces, NDArray[np.float64]]:
    """Where the centres of the detections of a moment lie, and (n, 2) their width and height there, metres."""
    boxes, centres = moment.found.boxes, moment.found.centres
    half = boxes[:, 2:] / 2
    right, below = half * (1, 0), half * (0, 1)
    ends = np.concatenate([centres, centres - right, centres + right, centres - below, centres + below])
    all_of = moment.ground.places(ends, moment.matrix)
    _, *sides = np.split(all_of.metres, 5)
    width, height = np.hypot(*(sides[1] - sides[0]).T), np.hypot(*(sides[3] - sides[2]).T)
    n = len(boxes)
    lonlat = None if all_of.lonlat is None else all_of.lonlat[:n]
    return GroundPlaces(all_of.xy[:n], lonlat, all_of.metres[:n]), np.column_stack([width, height])


def _nothing(recipe: TrackRecipe) -> str:
    if recipe.sure is None and recipe.model is not None:
        return "nothing was found that the card of the model reports"
    return f"nothing was found with a confidence of {SURE if recipe.sure is None else recipe.sure}"


def _notes(recipe: TrackRecipe, crs: str | None, note: str) -> list[str]:
    notes = [note] if note else []
    if crs is None:
        notes.append(
            f"the position on the Earth is unknown: lon and lat are empty, x and y are pixels of the first frame of "
            f"{recipe.gsd:g} m, and geometries are metres without a CRS"
        )
    if recipe.fixed_camera:
        notes.append("frames were not placed: the camera is taken as fixed")
    return notes
