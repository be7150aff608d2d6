"""Chips for training and evaluation, cut from pieces; each batch depends on seed, epoch and place only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoml.data.augment import augment
from geoml.data.recipe import Augmentation, Sampling
from geoml.data.scene import LabelledScene, Piece, Sample
from geoml.errors import NothingFound
from geoml.grid.plane import Window
from geoml.nn.metrics import IGNORE

CACHE_BYTES = 4 * 2**30
"""Scenes are kept in memory up to this much, later ones are read again when needed."""

Rows = Callable[[int], slice]
"""Which rows of a batch of so many this process makes."""


def every(size: int) -> slice:
    """All rows, where one process makes the whole batch."""
    return slice(0, size)


@dataclass(frozen=True, slots=True)
class Batch:
    """image (B,C,S,S) float32 physical values (0 where not valid), valid (B,S,S) bool, target (B,S,S) int64.

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


def cut(sample: Sample, window: Window, within: Window, shape: tuple[int, int]) -> Sample:
    """``shape`` pixels from the window's corner; what lies outside ``within`` is not valid and ignored."""
    image = np.zeros((sample.image.shape[0], *shape), sample.image.dtype)
    valid = np.zeros(shape, np.bool_)
    target = np.full(shape, IGNORE, np.uint8)
    part = window.intersect(within)
    if not part.empty:
        there, here = part.slices(Window(0, 0, *sample.valid.shape)), part.slices(window)
        image[:, *here] = sample.image[:, *there]
        valid[here] = sample.valid[there]
        target[here] = sample.target[there]
    return Sample(image, valid, target)


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


def batched(samples: Callable[[range], list[Sample]], count: int, batch: int, rows: Rows) -> Iterator[Batch]:
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
            torch.from_numpy(np.stack([s.target for s in part]).astype(np.int64)),
            len(numbers),
        )

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(stack)
        while (ready := ahead.result()) is not None:
            ahead = pool.submit(stack)
            yield ready


class EvalBatches:
    """Every pixel of the pieces once, in order."""

    def __init__(self, pieces: Sequence[Piece], size: int, batch: int, reader: Reader | None = None) -> None:
        self.pieces, self.size, self.batch = pieces, size, batch
        self.reader = reader or Reader()
        self.chips = [(piece, *chip) for piece in pieces for chip in grid(piece.window, size)]

    def of(self, rows: Rows = every) -> Iterator[Batch]:
        held: list[tuple[Piece, Sample]] = []  # of a piece that is too large to be kept, all chips come from one read

        def samples(numbers: range) -> list[Sample]:
            out = []
            for piece, window, counted in self.chips[numbers.start : numbers.stop]:
                if not held or held[0][0] is not piece:
                    held[:] = [(piece, self.reader(piece.scene))]
                chip = cut(held[0][1], window, piece.window, (self.size, self.size))
                keep = np.zeros_like(chip.valid)
                keep[counted.slices(window)] = True
                out.append(Sample(chip.image, chip.valid, np.where(keep, chip.target, np.uint8(IGNORE))))
            return out

        return batched(samples, len(self.chips), self.batch, rows)


class TrainBatches:
    """Random crops, augmented. Sample i of epoch e depends on (seed, e, i) only, so a resumed run repeats it.

    ``mean`` and ``std`` are of the channels of a sample; ``dates`` and ``turned`` are as `augment` takes them.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        size: int,
        batch: int,
        sampling: Sampling,
        augmentation: Augmentation,
        seed: int,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        reader: Reader | None = None,
        dates: int = 1,
        turned: Sequence[int] = (),
    ) -> None:
        self.size, self.batch, self.sampling = size, batch, sampling
        self.dates, self.turned = dates, turned
        self.augmentation, self.seed, self.mean, self.std = augmentation, seed, mean, std
        self.reader = reader or Reader()
        self.places = _Places(pieces, self.reader)
        tiling = sum(max(1, round(len_y * len_x / size**2)) for len_y, len_x in (p.window.shape for p in pieces))
        self.count = sampling.samples or tiling

    def __len__(self) -> int:
        return -(-self.count // self.batch)

    def of(self, epoch: int, rows: Rows = every) -> Iterator[Batch]:
        count = len(self) * self.batch  # the last batch is filled up: batch norm dislikes a batch of one
        return batched(lambda numbers: [self._sample(epoch, i) for i in numbers], count, self.batch, rows)

    def _sample(self, epoch: int, i: int) -> Sample:
        rng = np.random.default_rng((self.seed, epoch, i))
        piece, window = self.places.draw(rng, self.sampling.kind, self.size)
        chip = cut(self.reader(piece.scene), window, piece.window, (self.size, self.size))
        return augment(chip, self.augmentation, rng, self.mean, self.std, self.dates, self.turned)


class _Places:
    """Where crops may be drawn: pieces by their area, or pixels by their class."""

    PIXELS = 4096
    """Positions kept for each class and piece."""

    def __init__(self, pieces: Sequence[Piece], reader: Reader) -> None:
        self.pieces: list[Piece] = []
        self.by_class: dict[int, list[tuple[int, NDArray[np.int64], int]]] = {}
        rng = np.random.default_rng(0)
        for piece in pieces:
            part = piece.window.slices(piece.scene.window)
            target = reader(piece.scene).target[part]
            known = target != IGNORE
            if not known.any():  # nothing to learn there
                continue
            for k in np.unique(target[known]):
                yx = np.argwhere(target == k)
                keep = yx[rng.permutation(len(yx))[: self.PIXELS]] + np.array([piece.window.y0, piece.window.x0])
                self.by_class.setdefault(int(k), []).append((len(self.pieces), keep, len(yx)))
            self.pieces.append(piece)
        if not self.pieces:
            raise NothingFound("split: no labelled pixel with data in train")
        area = np.array([p.window.shape[0] * p.window.shape[1] for p in self.pieces], float)
        self.by_area = area / area.sum()

    def draw(self, rng: np.random.Generator, kind: str, size: int) -> tuple[Piece, Window]:
        if kind == "uniform":
            piece = self.pieces[int(rng.choice(len(self.pieces), p=self.by_area))]
            return piece, _crop(rng, piece.window, size)
        classes = sorted(self.by_class)
        if kind == "balanced":
            k = classes[int(rng.integers(len(classes)))]
        else:
            totals = np.array([sum(n for *_, n in self.by_class[c]) for c in classes], float)
            k = classes[int(rng.choice(len(classes), p=totals / totals.sum()))]
        options = self.by_class[k]
        counts = np.array([n for *_, n in options], float)
        which, places, _ = options[int(rng.choice(len(options), p=counts / counts.sum()))]
        y, x = places[int(rng.integers(len(places)))]
        piece = self.pieces[which]
        return piece, _crop(rng, piece.window, size, (int(y), int(x)))


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


def measure(pieces: Sequence[Piece], classes: int, reader: Reader, dates: int = 1) -> dict[str, Any]:
    """Mean and std of every band over valid pixels (float64 sums, one pass, Chan et al. 1983) and pixels per class.

    The channels of a sample are ``dates`` groups of the same bands; all dates count together for a band. Raises
    NothingFound without a single valid pixel.
    """
    count = 0
    mean = m2 = np.zeros(0)
    labelled = np.zeros(classes, np.int64)
    for piece in pieces:
        sample = reader(piece.scene)
        part = piece.window.slices(piece.scene.window)
        values = sample.image[:, *part][:, sample.valid[part]].astype(np.float64)
        target = sample.target[part]
        labelled += np.bincount(target[target != IGNORE], minlength=classes)
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
        raise NothingFound("split: train holds no valid pixel")
    std = np.sqrt(m2 / count)
    return {"pixels": count, "mean": mean, "std": np.where(std > 0, std, 1.0), "labelled": labelled}
