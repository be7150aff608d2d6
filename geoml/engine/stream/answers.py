"""Frames through one warm model, in order: what `geoml stream` writes and a tracker reads.

    with answers(predictor, frames(source, card, recipe), recipe) as found:
        for answer in found:
            answer.rows["class"]

An answer is that of `Predictor.rows` on the pixels of the frame, to the byte.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from geoml.cube.normalise import normalise
from geoml.engine.contract import AnyOutput, Rows
from geoml.engine.inference.lattice import grid_of
from geoml.engine.inference.predict import Predictor
from geoml.engine.machine.memory import keep_freed_memory
from geoml.engine.stream.ahead import Ahead, Entry, Late
from geoml.engine.stream.frames import Frame, Unread
from geoml.engine.stream.recipe import StreamRecipe
from geoml.errors import InputError, ModelError
from geoml.grid.chips import ChipGrid, exact_grid
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard

WARM = 3
"""Times that the first frame is answered before the clock starts."""


@dataclass(frozen=True, eq=False)
class FrameAnswer:
    """What came of one frame.

    ``done``: ``rows`` has the layers of the whole frame by key, (band, y, x) as stored, or of an output of things their
    columns; ``frame`` are its pixels. ``failed``: ``reason`` says why it could not be read or answered. ``dropped``: a
    live source was faster than the model.

    ``ms``: milliseconds of its stages: ``read`` (opening and decoding), ``wait`` (for the model), ``model`` (from
    pixels to stored numbers on the host).
    """

    index: int
    name: str
    time: float
    status: Literal["done", "failed", "dropped"]
    rows: Rows | None = None
    frame: Frame | None = None
    reason: str = ""
    ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class Answers:
    """An iterator of `FrameAnswer` in the order of the source, one for every frame that was taken.

    ``warmed`` are the seconds of the answers before the first one, which are thrown away.
    """

    predictor: Predictor
    recipe: StreamRecipe
    warmed: float
    entries: Iterator[Entry]

    def __iter__(self) -> Iterator[FrameAnswer]:
        for entry in self.entries:
            yield self._answer(entry)
            del entry

    def _answer(self, entry: Entry) -> FrameAnswer:
        about = entry.index, entry.name, entry.time
        if isinstance(entry, Late):
            return FrameAnswer(*about, "dropped", reason="the model was too late for it")
        if isinstance(entry, Unread):
            return FrameAnswer(*about, "failed", reason=str(entry.error))
        start = time.perf_counter()
        try:
            rows = answer(self.predictor, entry, self.recipe)
        except ModelError as err:  # not finite on these pixels
            return FrameAnswer(*about, "failed", reason=f"{entry.name}: {err}")
        took = {"read": entry.read, "wait": start - entry.ready, "model": time.perf_counter() - start}
        return FrameAnswer(*about, "done", rows, entry, ms={stage: 1000 * seconds for stage, seconds in took.items()})


@contextmanager
def answers(
    predictor: Predictor, frames: Iterable[Frame | Unread | None], recipe: StreamRecipe, *, paced: bool = False
) -> Iterator[Answers]:
    """Answer frames while others are read: inside, iterate over what is yielded, which answers one frame a step.

    At most `StreamRecipe.ahead` frames wait; then reading waits too, or, where the recipe is ``live``, the one that
    waited longest is dropped. ``paced``: each comes when its ``time`` is due. The first frame warms the model up, which
    no latency counts. Raises InputError for a model that a frame cannot serve; iterating raises what the source raises,
    and TransientError if there is no memory for a chip.
    """
    predictor = sized(predictor, recipe)
    entries, early = iter(frames), list[Frame | Unread]()
    with keep_freed_memory():
        start = time.perf_counter()
        for entry in entries:
            if entry is not None:
                early.append(entry)
            if isinstance(entry, Frame):
                start = time.perf_counter()
                for _ in range(WARM):
                    with suppress(ModelError):  # it is said where the frame has its turn
                        answer(predictor, entry, recipe)
                early[-1] = replace(entry, ready=time.perf_counter())
                break
        warmed = time.perf_counter() - start
        with Ahead(_first(early, entries), recipe.ahead, live=recipe.live, paced=paced) as ahead:
            yield Answers(predictor, recipe, warmed, iter(ahead))


def _first(early: list[Frame | Unread], entries: Iterator[Frame | Unread | None]) -> Iterator[Frame | Unread | None]:
    while early:
        yield early.pop(0)
    yield from entries


def sized(predictor: Predictor, recipe: StreamRecipe) -> Predictor:
    """The same model with chips of the recipe's size. Raises InputError for one that a frame cannot serve."""
    card = predictor.card
    pixels_alone(predictor)
    if predictor.output.joiner == "owner":
        if not recipe.halo:
            raise InputError(f"halo: {card.name} finds objects, which need what surrounds a frame; expected true")
        return predictor
    mine = copy(predictor)
    mine.grid = grid(card, predictor.output, recipe)
    return mine


def pixels_alone(predictor: Predictor) -> None:
    """Raise InputError for a model of several dates, or one that needs more than pixels."""
    one_date(predictor.card)
    if predictor.backend.asks:
        asks = " ".join(sorted(predictor.backend.asks))
        raise InputError(f"model: {predictor.card.name} asks for {asks}, which a frame does not have")


def grid(card: MapCard, output: AnyOutput, recipe: StreamRecipe) -> ChipGrid:
    """The lattice of a frame: chips of the recipe's size where the card says how far the network sees, or what of that
    is enough."""
    usual = grid_of(card, output)
    if card.radius is None or output.joiner == "owner":
        return usual
    return replace(exact_grid(0, card.radius, card.stride, core=recipe.size), whole=usual.whole)


def side(card: MapCard, output: AnyOutput, recipe: StreamRecipe) -> int:
    """Pixels of a side of what the network gets for a frame of the recipe's size: for what is compiled for it."""
    return grid(card, output, recipe).size if recipe.halo else _up(recipe.size, card.stride)


def _up(pixels: int, stride: int) -> int:
    return -(-pixels // stride) * stride


def one_date(card: MapCard) -> None:
    """Raise InputError for a model of several dates."""
    if card.dates != 1:
        raise InputError(f"model: {card.name} takes {card.dates} dates; a frame has one")


def answer(predictor: Predictor, frame: Frame, recipe: StreamRecipe) -> Rows:
    """What the model says of one frame, as one `Rows` of all of it. Raises ModelError and TransientError as
    `Predictor.rows` does."""
    here = Window(0, 0, *frame.shape)
    if not recipe.halo and max(frame.shape) <= recipe.size:
        return _alone(predictor, frame, here, recipe.size)
    return joined(here, list(predictor.rows(frame.pixels(predictor.needed(here)), here)), predictor.output.joiner)


def joined(here: Window, parts: Sequence[Rows], joiner: str) -> Rows:
    """Rows of a window, top to bottom, as one; ``joiner`` is the output's."""
    if len(parts) == 1:
        return Rows(here, parts[0].arrays)
    if joiner == "owner":
        parts = [p for p in parts if p.arrays] or parts[:1]
        return Rows(here, {k: np.concatenate([p[k] for p in parts]) for k in parts[0].arrays})
    return Rows(here, {k: np.concatenate([p[k] for p in parts], axis=1) for k in parts[0].arrays})


def _alone(predictor: Predictor, frame: Frame, here: Window, size: int) -> Rows:
    """One forward of a chip of ``size``, without data below and right of the frame: the same for every back end."""
    whole = _up(size, predictor.card.stride)
    pixels = frame.pixels(Window(0, 0, whole, whole))
    chip = normalise(pixels.data, pixels.valid, *pixels.coefficients(predictor.card))
    rows = predictor.alone(chip, pixels.valid)
    height, width = frame.shape
    return Rows(here, {k: v[:, :height, :width] for k, v in rows.arrays.items()})
