"""Moments of frames that are there: read in their order, looked at by a model or with detections of a file, placed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoml.engine.contract import Rows, output_of
from geoml.engine.packages.score_scale import ScoreScale
from geoml.engine.stream.ahead import Ahead
from geoml.engine.stream.frames import COLOURS, Frame, Unread
from geoml.engine.stream.recipe import StreamRecipe
from geoml.engine.stream.sources import frames
from geoml.engine.track.ground import METRES, Ground, ground_of, on_plane
from geoml.engine.track.moments import Clock, FramesLeftOut, Moment
from geoml.engine.track.placing import Locate, Placer, picture
from geoml.engine.track.recipe import TrackRecipe
from geoml.errors import DataError, InputError, NothingFound
from geoml.grid.homography import Matrix, problem
from geoml.io.cards.map_card import Band, MapCard
from geoml.io.tables.detections import Detections, read_detections, read_matrices
from geoml.vector.boxes import suppress
from geoml.vector.motion import SURE

log = logging.getLogger(__name__)

OVERLAP = 0.5
"""Intersection over union above which two boxes are one object, as in a run."""


@dataclass(frozen=True)
class Film:
    """Frames that are read for no model, as `geoml.engine.stream.frames.TakesBands`."""

    name: str
    bands: tuple[Band, ...]


def of_frames(
    source: str | Path, recipe: TrackRecipe, clock: Clock, locate: Locate | None, left: FramesLeftOut
) -> Iterator[Moment]:
    """The moments of a folder of frames or a film; ``locate`` finds a frame on the reference.

    A frame that cannot be read or placed is noted in ``left`` and stops no other. Raises what reading the source and
    the files raises, ModelError as `geoml.engine.stream.run.stream`, NothingFound if the first frame is not found on
    the reference, DataError for a log of another length, detections of frames that are not there, and where no frame
    could be read.
    """
    known = None if recipe.detections is None else _Joined(recipe)
    matrices = None if recipe.homographies is None else read_matrices(recipe.homographies)
    way = _Way(recipe, locate, matrices)
    last, read = -1, 0
    for entry in _looked_at(source, recipe):
        last = entry.index
        number = recipe.first_frame + entry.index
        at = clock.at(entry.index)  # also of one that cannot be read: a log may be too short
        if isinstance(entry, Unread):
            left.unread.append(str(entry.error))
            log.warning("failed: %s", entry.error)
            continue
        frame, found = entry.frame, entry.found
        read += 1
        if known is not None:
            found = known.of(number)
        assert found is not None
        found = replace(found, frame=number)
        placed = way.of(frame, number, found.boxes)
        if isinstance(placed, str):
            left.unplaced.append(placed)
            log.warning("not placed: %s", placed)
            continue
        ground, matrix = placed
        yield Moment(number, at, frame.shape, found, matrix, ground, clock.nadir(entry.index))
    if not read:
        raise DataError(f"{source}: none of {last + 1} frames could be read; {left.unread[0] if left.unread else ''}")
    clock.ended(last)
    if known is not None:
        known.ended(recipe.first_frame + last)


@dataclass(frozen=True, eq=False, slots=True)
class Looked:
    """A frame, and what a model found in it."""

    index: int
    frame: Frame
    found: Detections | None = None


def _looked_at(source: str | Path, recipe: TrackRecipe) -> Iterator[Looked | Unread]:
    if recipe.model is not None:
        yield from _by_model(source, recipe)
        return
    bands = recipe.bands or COLOURS
    how = StreamRecipe(model="none", bands=recipe.bands, scale=recipe.scale, offset=recipe.offset, every=recipe.every)
    coming = frames(source, Film(str(source), tuple(Band(name=b) for b in bands)), how)
    with Ahead(coming, how.ahead) as ahead:
        for entry in ahead:
            if isinstance(entry, Unread):
                yield entry
            elif isinstance(entry, Frame):
                yield Looked(entry.index, entry)


def _by_model(source: str | Path, recipe: TrackRecipe) -> Iterator[Looked | Unread]:
    from geoml.engine.inference.choice import asked_of_machine, choose_backend
    from geoml.engine.inference.predict import Predictor
    from geoml.engine.packages import cards
    from geoml.engine.packages.package import load
    from geoml.engine.stream.answers import answers, one_date, side
    from geoml.engine.stream.run import fitting

    assert recipe.model is not None
    card = cards.read(recipe.model, MapCard)
    one_date(card)
    output = output_of(card)
    if output.joiner != "owner":
        raise InputError(f"model: {card.name} maps every pixel; expected one that finds objects")
    how = StreamRecipe(
        model=recipe.model, bands=recipe.bands, scale=recipe.scale, offset=recipe.offset, every=recipe.every
    )
    coming = fitting(frames(source, card, how), card, how)
    package = load(recipe.model)
    chosen = choose_backend(package, side(card, output, how), asked_of_machine())
    with ExitStack() as stack:
        found = stack.enter_context(answers(Predictor(package, output, backend=chosen.backend), coming, how))
        for answer in found:
            if answer.rows is None or answer.frame is None:
                yield Unread(answer.index, answer.name, answer.time, DataError(answer.reason))
            else:
                yield Looked(answer.index, answer.frame, objects(answer.rows, card))


def objects(rows: Rows, card: MapCard) -> Detections:
    """The objects among the candidates of a whole frame, as `geoml.vector.boxes` has them: what overlaps a better one
    is left out. Their confidences are calibrated where the card knows how, and its thresholds say what is reported."""
    if not rows.arrays or not len(rows["y"]):
        return Detections.none(0)
    kept = suppress({**rows.arrays, **{axis: rows[axis] + 0.5 for axis in "yx"}}, OVERLAP)
    left, top = kept["x"] - kept["west"], kept["y"] - kept["north"]
    boxes = np.column_stack([left, top, kept["east"] + kept["west"], kept["south"] + kept["north"]]).astype(np.float64)
    names = {c.value: c.name for c in card.classes}
    kinds = np.array([names[int(k)] for k in kept["class"]], object)
    scale = ScoreScale(card, SURE)
    return Detections(0, boxes, scale.confidence(kept), kinds, np.full(len(boxes), -1), scale.reported(kept))


class _Joined:
    """Detections of a file, by the number of the frame."""

    def __init__(self, recipe: TrackRecipe) -> None:
        self.path = recipe.detections
        self._coming = read_detections(str(recipe.detections))
        self._next: Detections | None = next(self._coming)
        if self._next is not None and self._next.frame < recipe.first_frame:
            raise DataError(
                f"{self.path}: frame {self._next.frame} before the first one, {recipe.first_frame}; see --first-frame"
            )

    def of(self, number: int) -> Detections:
        """Those of a frame; frames come in their order."""
        while self._next is not None and self._next.frame < number:
            self._next = next(self._coming, None)
        if self._next is None or self._next.frame != number:
            return Detections.none(number)
        found, self._next = self._next, next(self._coming, None)
        return found

    def ended(self, last: int) -> None:
        """Raise DataError for detections of frames after the last one."""
        while self._next is not None and self._next.frame <= last:
            self._next = next(self._coming, None)
        if self._next is not None:
            raise DataError(f"{self.path}: frame {self._next.frame}; the last one is {last}")


class _Way:
    """The way of each frame to the first one and to the ground, as the recipe says it."""

    def __init__(self, recipe: TrackRecipe, locate: Locate | None, matrices: dict[int, Matrix] | None) -> None:
        self.recipe, self.locate, self.matrices = recipe, locate, matrices
        self.ground: Ground | None = None
        self._crs: str | None = None
        self.placer = Placer(None if locate is None or recipe.stills else self._again)

    def of(self, frame: Frame, number: int, boxes: NDArray[np.float64]) -> tuple[Ground, Matrix] | str:
        """(ground, matrix to the first frame), or why a frame has none."""
        if frame.geobox is not None and frame.geobox.crs is not None and not self._said():
            return self._own(frame)
        if self._crs is not None:
            raise DataError(f"{frame.name}: has no position, but the frames before it have one")
        if self.recipe.stills and self.locate is not None and self.matrices is None:
            return self._found(picture(frame), frame)
        if self.ground is None:
            begun = self._begin(frame)
            if isinstance(begun, str):
                raise NothingFound(f"reference: {frame.name} is the first frame and not found on it: {begun}")
            self.ground = begun
        if self.matrices is not None:
            if number not in self.matrices and number != self.recipe.first_frame:
                raise DataError(f"{self.recipe.homographies}: frame {number} is missing")
            matrix: Matrix | None = self.matrices.get(number, np.eye(3))
        elif self.recipe.fixed_camera:
            matrix = np.eye(3)
        else:
            matrix = self.placer.place(frame, boxes)
        if matrix is None:
            return f"{frame.name}: too few keypoints in common with the frames before"
        self.ground.check(matrix, frame.shape, frame.name)
        return self.ground, matrix

    def _said(self) -> bool:
        """Whether the recipe says where frames lie, and not they themselves."""
        recipe = self.recipe
        return bool(recipe.reference or recipe.reference_homography or recipe.homographies or recipe.gsd)

    def _own(self, frame: Frame) -> tuple[Ground, Matrix]:
        assert frame.geobox is not None
        matrix = np.array(tuple(frame.geobox.affine)[:9]).reshape(3, 3)
        crs = str(frame.geobox.crs)
        if self.ground is None:
            found = on_plane(matrix, crs, frame.shape)
            self.ground = Ground(np.eye(3), found.crs, about=found.about)
            self._crs = crs
        if crs != self._crs:
            raise DataError(f"{frame.name}: in {crs}; the frames before are in {self._crs}")
        self.ground.check(matrix, frame.shape, frame.name)
        return self.ground, matrix

    def _begin(self, frame: Frame) -> Ground | str:
        ground = ground_of(self.recipe, frame.shape)
        if ground is not None:
            return ground
        if self.locate is None:
            raise InputError(METRES)
        found = self.locate(picture(frame))
        return found if isinstance(found, str) else on_plane(found[0], found[1], frame.shape)

    def _found(self, image: NDArray[np.uint8], frame: Frame) -> tuple[Ground, Matrix] | str:
        """A photo that is found on the reference by itself."""
        assert self.locate is not None
        found = self.locate(image)
        if isinstance(found, str):
            return f"{frame.name}: {found}"
        matrix, crs = found
        if self.ground is None:
            first = on_plane(matrix, crs, frame.shape)
            self.ground = Ground(np.eye(3), first.crs, about=first.about)
        return self.ground, matrix

    def _again(self, image: NDArray[np.uint8]) -> Matrix | None:
        """Of a frame that is the new anchor: its place on the reference, where it is found there."""
        assert self.locate is not None
        assert self.ground is not None
        found = self.locate(image)
        if isinstance(found, str):
            return None
        matrix: Matrix = np.linalg.inv(self.ground.matrix) @ found[0]
        height, width = image.shape[:2]
        return None if problem(matrix, (height, width)) else matrix
