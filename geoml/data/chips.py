"""Chips for training and evaluation, cut from pieces; each batch depends on seed, epoch and place only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoml.data.augment import augment, drawn, rotate
from geoml.data.recipe import RasterRecipe
from geoml.data.scene import LabelledScene, Piece, Sample
from geoml.data.target import Target
from geoml.errors import NothingFound
from geoml.grid.plane import Window

CACHE_BYTES = 4 * 2**30
"""Scenes are kept in memory up to this much, later ones are read again when needed."""

OwnRows = Callable[[int], slice]
"""Which rows of a batch of so many this process makes."""


def every(size: int) -> slice:
    """All rows, where one process makes the whole batch."""
    return slice(0, size)


@dataclass(frozen=True, slots=True)
class Batch:
    """image (B,C,S,S) float32 physical values (0 where not valid), valid (B,S,S) bool, target as the loss takes it.

    They are the rows of this process; ``size`` counts those of all of them.
    """

    image: Tensor
    valid: Tensor
    target: Tensor
    size: int


class Reader:
    """Samples of scenes, kept in memory within a budget."""

    def __init__(self, budget: int = CACHE_BYTES) -> None:
        self._budget = self._left = budget
        self._kept: dict[LabelledScene, Sample] = {}

    def __reduce__(self) -> tuple[type[Reader], tuple[int]]:
        return Reader, (self._budget,)  # another process reads for itself

    def __call__(self, scene: LabelledScene) -> Sample:
        if (kept := self._kept.get(scene)) is not None:
            return kept
        sample = scene.read()
        if sample.nbytes <= self._left:
            self._left -= sample.nbytes
            self._kept[scene] = sample
        return sample


def seen(sample: Sample, window: Window, within: Window) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    """Image (C,y,x) and valid (y,x) of a window; what lies outside ``within`` is not valid."""
    image = np.zeros((sample.image.shape[0], *window.shape), sample.image.dtype)
    valid = np.zeros(window.shape, np.bool_)
    part = window.intersect(within)
    if not part.empty:
        there, here = part.slices(Window(0, 0, *sample.valid.shape)), part.slices(window)
        image[:, *here] = sample.image[:, *there]
        valid[here] = sample.valid[there]
    return image, valid


def cut(sample: Sample, window: Window, within: Window, kind: Target) -> Sample:
    """What lies in ``window``; what lies outside ``within`` is not valid and unknown."""
    return Sample(*seen(sample, window, within), kind.cut(sample.target, window, within))


def grid(within: Window, size: int) -> list[tuple[Window, Window]]:
    """Windows of ``size`` that cover ``within`` and the part of each that counts, so that every pixel counts once.

    The last window of a row or column is moved inwards: it sees full context and counts only what is new.
    """

    def axis(start: int, stop: int) -> list[tuple[int, int, int]]:
        out = []
        for first in range(start, stop, size):
            at = max(start, min(first, stop - size))
            out.append((at, first, min(first + size, stop)))
        return out

    return [
        (Window(y, x, y + size, x + size), Window(y0, x0, y1, x1))
        for y, y0, y1 in axis(within.y0, within.y1)
        for x, x0, x1 in axis(within.x0, within.x1)
    ]


def batched(
    samples: Callable[[range], list[Sample]], kind: Target, count: int, batch: int, rows: OwnRows
) -> Iterator[Batch]:
    """Batches of ``count`` samples, of each the rows of this process; the next one is made in a thread meanwhile."""
    starts = iter(range(0, count, batch))

    def stack() -> Batch | None:
        if (first := next(starts, None)) is None:
            return None
        numbers = range(first, min(first + batch, count))
        part = samples(numbers[rows(len(numbers))])
        return Batch(
            torch.from_numpy(np.stack([s.image.astype(np.float32) for s in part])),
            torch.from_numpy(np.stack([s.valid for s in part])),
            torch.from_numpy(kind.stacked([s.target for s in part])),
            len(numbers),
        )

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(stack)
        while (ready := ahead.result()) is not None:
            ahead = pool.submit(stack)
            yield ready


class EvalBatches:
    """Every pixel of the pieces once, in order."""

    def __init__(
        self,
        pieces: Sequence[Piece],
        kind: Target,
        size: int,
        batch: int,
        reader: Callable[[LabelledScene], Sample] | None = None,
    ) -> None:
        self.pieces, self.kind, self.size, self.batch = pieces, kind, size, batch
        self.reader = reader or Reader()
        self.chips = [(piece, *chip) for piece in pieces for chip in grid(piece.window, size)]

    def of(self, rows: OwnRows = every) -> Iterator[Batch]:
        held: list[tuple[Piece, Sample]] = []  # of a piece that is too large to be kept, all chips come from one read

        def samples(numbers: range) -> list[Sample]:
            out = []
            for piece, window, counted in self.chips[numbers.start : numbers.stop]:
                if not held or held[0][0] is not piece:
                    held[:] = [(piece, self.reader(piece.scene))]
                chip = cut(held[0][1], window, piece.window, self.kind)
                keep = np.zeros_like(chip.valid)
                keep[counted.slices(window)] = True
                out.append(replace(chip, target=self.kind.only(chip.target, keep)))
            return out

        return batched(samples, self.kind, len(self.chips), self.batch, rows)


class TrainBatches:
    """Random crops, augmented. Sample i of epoch e depends on (seed, e, i) only, so a resumed run repeats it.

    ``mean`` and ``std`` are of the channels of a sample, which are ``dates`` equal groups.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        recipe: RasterRecipe,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        reader: Reader | None = None,
    ) -> None:
        self.recipe, self.kind, self.mean, self.std = recipe, recipe.target, mean, std
        self.size, self.batch = recipe.chip_size, recipe.batch
        self.reader = reader or Reader()
        self.places = _Places(pieces, self.kind, self.reader, recipe.sampling.equally)
        tiling = sum(max(1, round(y * x / self.size**2)) for y, x in (p.window.shape for p in pieces))
        self.count = recipe.sampling.samples or tiling

    def __len__(self) -> int:
        return -(-self.count // self.batch)

    def of(self, epoch: int, rows: OwnRows = every) -> Iterator[Batch]:
        count = len(self) * self.batch  # the last batch is filled up: batch norm dislikes a batch of one
        return batched(lambda numbers: [self._sample(epoch, i) for i in numbers], self.kind, count, self.batch, rows)

    def _sample(self, epoch: int, i: int) -> Sample:
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, epoch, i))
        rotation = drawn(recipe.augmentation, rng, self.size)
        piece, window = self.places.draw(rng, recipe.sampling.kind, self.size)
        larger = window.expand(rotation.margin) if rotation else window
        chip = cut(self.reader(piece.scene), larger, piece.window, self.kind)
        if rotation:
            chip = rotate(chip, self.kind, rotation)
        return augment(chip, self.kind, recipe.augmentation, rng, self.mean, self.std, recipe.dates)


class _Places:
    """Where crops may be drawn: pieces by their area, or places of the target by their stratum."""

    PIXELS = 4096
    """Positions kept for each stratum and piece."""

    def __init__(self, pieces: Sequence[Piece], kind: Target, reader: Reader, equally: bool = False) -> None:
        self.pieces: list[Piece] = []
        self.equally = equally
        self.by_stratum: dict[int, list[tuple[int, NDArray[np.int64], int]]] = {}
        rng = np.random.default_rng(0)
        for piece in pieces:
            found = kind.places(kind.cut(reader(piece.scene).target, piece.window, piece.window))
            for k, yx in sorted(found.items()):
                keep = yx[rng.permutation(len(yx))[: self.PIXELS]] + np.array([piece.window.y0, piece.window.x0])
                self.by_stratum.setdefault(k, []).append((len(self.pieces), keep, len(yx)))
            if found:  # elsewhere is nothing to learn
                self.pieces.append(piece)
        if not self.pieces:
            raise NothingFound("split: no labelled pixel with data in train")
        area = np.array([p.window.shape[0] * p.window.shape[1] for p in self.pieces], float)
        self.by_area = self._shares(area, range(len(self.pieces)))

    def draw(self, rng: np.random.Generator, kind: str, size: int) -> tuple[Piece, Window]:
        if kind == "uniform":
            piece = self.pieces[int(rng.choice(len(self.pieces), p=self.by_area))]
            return piece, _crop(rng, piece.window, size)
        strata = sorted(self.by_stratum)
        if kind == "balanced":
            k = strata[int(rng.integers(len(strata)))]
        else:
            totals = np.array([sum(n for *_, n in self.by_stratum[s]) for s in strata], float)
            k = strata[int(rng.choice(len(strata), p=totals / totals.sum()))]
        options = self.by_stratum[k]
        shares = self._shares(np.array([n for *_, n in options], float), [which for which, *_ in options])
        which, places, _ = options[int(rng.choice(len(options), p=shares))]
        y, x = places[int(rng.integers(len(places)))]
        piece = self.pieces[which]
        return piece, _crop(rng, piece.window, size, (int(y), int(x)))

    def _shares(self, sizes: NDArray[np.float64], which: Sequence[int]) -> NDArray[np.float64]:
        """Chances of pieces by their sizes; ``equally``: of each source together the same, see `sources.several`."""
        if self.equally:
            ids = [self.pieces[k].scene.id for k in which]
            names = [id_.partition("/")[0] if "/" in id_ else "" for id_ in ids]
            total = {name: sizes[[n == name for n in names]].sum() for name in set(names)}
            sizes = sizes / np.array([total[name] for name in names])
        shares: NDArray[np.float64] = sizes / sizes.sum()
        return shares


def _crop(rng: np.random.Generator, within: Window, size: int, hold: tuple[int, int] | None = None) -> Window:
    """A window of ``size`` inside ``within`` (centred on an axis that is shorter), holding a pixel when given."""

    def start(first: int, last: int, at: int | None) -> int:
        if last - first <= size:
            return first - (size - (last - first)) // 2
        low, high = first, last - size
        if at is not None:
            low, high = max(low, at - size + 1), min(high, at)
        return int(rng.integers(low, high + 1))

    y = start(within.y0, within.y1, None if hold is None else hold[0])
    x = start(within.x0, within.x1, None if hold is None else hold[1])
    return Window(y, x, y + size, x + size)


@dataclass(frozen=True, eq=False)
class PixelStatistics:
    """Of pieces: valid ``pixels``, ``mean`` and ``std`` (band,) of them, and what the `Target` counted."""

    pixels: int
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    counted: NDArray[np.number]


def measure(pieces: Sequence[Piece], kind: Target, reader: Reader, dates: int = 1) -> PixelStatistics:
    """Mean and std of every band over valid pixels (float64 sums, one pass, Chan et al. 1983) and what is labelled.

    The channels of a sample are ``dates`` groups of the same bands; all dates count together for a band. Raises
    NothingFound without a single valid pixel.
    """
    count = 0
    mean = m2 = np.zeros(0)
    counted: list[NDArray[np.number]] = []
    for piece in pieces:
        sample = reader(piece.scene)
        part = piece.window.slices(piece.scene.window)
        values = sample.image[:, *part][:, sample.valid[part]].astype(np.float64)
        counted.append(kind.counted(kind.cut(sample.target, piece.window, piece.window)))
        values = np.concatenate(np.split(values, dates), axis=1)
        if (n := values.shape[1]) == 0:
            continue
        part_mean = values.mean(1)
        part_m2 = ((values - part_mean[:, None]) ** 2).sum(1)
        if count == 0:
            mean, m2 = np.zeros_like(part_mean), np.zeros_like(part_m2)
        delta = part_mean - mean
        mean = mean + delta * n / (count + n)
        m2 = m2 + part_m2 + delta**2 * count * n / (count + n)
        count += n
    if count == 0:
        raise NothingFound("split: train has no valid pixel")
    std = np.sqrt(m2 / count)
    return PixelStatistics(count, mean, np.where(std > 0, std, 1.0), np.sum(counted, axis=0))
