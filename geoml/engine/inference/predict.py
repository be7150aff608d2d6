"""The predict loop: a mosaic in memory in, finished rows of class and confidence out.

Chips come from one lattice of the plane (`geoml.grid.chips`). Where the card says how far the network sees, chips
keep their core and the joined answer equals one forward over the whole scene; otherwise softmax outputs are blended
with the card's window. Blending, argmax and quantisation stay on the device; only uint8 comes back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoml import tasks
from geoml.cube.normalise import coefficients
from geoml.data.chips import cut
from geoml.data.scene import Sample
from geoml.engine.inference.fold import folded
from geoml.engine.machine.device import Device, choose
from geoml.engine.packages.calibrate import check_ready
from geoml.engine.packages.package import Package
from geoml.errors import InputError, ModelError, TransientError, out_of_memory
from geoml.grid.chips import ChipGrid, blend_window, blended_grid, exact_grid
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard
from geoml.settings import settings
from geoml.tasks.segmentation import CONFIDENCE_NODATA

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rows:
    """Finished rows of a window, top to bottom.

    ``classes`` and ``confidence`` are (h, w) uint8; ``probabilities`` is (class, h, w) uint8 or None. Confidence and
    probabilities count in 1/250; pixels without valid input hold the card's nodata and 255.
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    probabilities: NDArray[np.uint8] | None = None


def chip_grid(card: MapCard, join: str = "auto") -> ChipGrid:
    """The lattice for a model: ``exact`` (halo and core), ``blend`` (window), ``auto`` prefers exact.

    Raises InputError when exact joining is asked of a model that sees its whole chip.
    """
    if join not in ("auto", "exact", "blend"):
        raise InputError(f"join: {join!r}; expected auto, exact or blend")
    if join != "blend" and card.radius is not None:
        return exact_grid(card.chip_size, card.radius, card.stride)
    if join == "exact":
        raise InputError(f"join: {card.name} sees its whole chip, so no halo makes it exact; expected auto or blend")
    return blended_grid(card.chip_size, card.overlap, card.stride)


@dataclass(frozen=True, slots=True)
class _Strip:
    """Pixels of a row of chips on the device: ``raw`` (band, y, x) as stored, ``known`` (y, x)."""

    raw: Tensor
    known: Tensor
    mul: Tensor
    add: Tensor
    complete: bool

    def chips(self, places: Sequence[tuple[slice, slice]]) -> Tensor:
        """(B, band, y, x) float32 as the model sees them; 0 where there is no data."""
        shape = (len(places), *self.raw[(slice(None), *places[0])].shape)
        out = torch.empty(shape, device=self.raw.device)  # scaling it in channels_last takes five times as long
        for chip, (rows, cols) in zip(out, places, strict=True):
            chip.copy_(self.raw[:, rows, cols])
        out.mul_(self.mul[:, None, None]).add_(self.add[:, None, None])
        if not self.complete:
            for chip, (rows, cols) in zip(out, places, strict=True):
                chip.masked_fill_(~self.known[rows, cols], 0.0)
        return out


class Predictor:
    """A model package made ready to run over windows of any size.

    Args:
        package: the model with its card.
        join: auto, exact or blend; see `chip_grid`.
        tta: average the softmax over the eight flips and quarter turns (D4).
        probabilities: also return the probability of every class.
        device: where to run; None chooses by the settings.

    Raises as `rows` when the device has no room for the model, and ModelError for one that is not calibrated.
    """

    def __init__(
        self,
        package: Package,
        *,
        join: str = "auto",
        tta: bool = False,
        probabilities: bool = False,
        device: Device | None = None,
    ) -> None:
        check_ready(package)
        self.card = package.card
        self.grid = chip_grid(self.card, join)
        self.device = device or choose()
        self.batch = self.device.batch
        self.side = 0
        """Chips in one forward, and the largest side of their cores (0: as the grid has them), as memory allows."""
        side = -(-min(self.card.chip_size, 256) // self.card.stride) * self.card.stride
        channels = len(self.card.bands) * self.card.dates
        probe = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))
        with self._failures():
            self.module = folded(self.device.place(package.module.eval()), probe.to(self.device.torch))
        self.fixed = settings().compile
        if self.fixed:
            self.module = torch.compile(self.module, dynamic=False)  # type: ignore[assignment]
        self.tta = tta
        self.probabilities = probabilities
        self.task = tasks.find(self.card.task).Task(len(self.card.classes))
        self.values = np.array([c.value for c in self.card.classes], dtype=np.uint8)

    def needed(self, window: Window) -> Window:
        """The input window whose pixels decide ``window``: its chips, trimmed where that is free of effect."""
        if self.fixed or not self.grid.exact:
            return self.grid.needed(window)
        return self.trimmed(window, window).expand(self.grid.halo)

    @torch.inference_mode()
    def rows(
        self,
        data: NDArray[np.generic],
        valid: NDArray[np.bool_],
        mul: NDArray[np.float32],
        add: NDArray[np.float32],
        origin: Window,
        window: Window,
    ) -> Iterator[Rows]:
        """Predict ``window`` from the mosaic that covers ``origin`` (at least ``needed(window)``).

        Args:
            data: (band, y, x) in any numeric dtype; the model sees ``data * mul + add``.
            valid: (y, x) True where there is data; elsewhere the model sees 0 and the output is nodata.
            mul, add: (band,) float32.

        Raises ModelError when the model's output is not finite where there is data, or the device fails, and
        TransientError when it has no memory for a single chip.
        """
        join = self._exact if self.grid.exact else self._blended
        with self._failures():
            for y, tensors in _one_behind(join(data, valid, mul, add, origin, window)):
                here = Window(y, window.x0, y + tensors[0].shape[-2], window.x1)
                known = valid[here.slices(origin)]
                classes = np.where(known, self.values[tensors[0]], np.uint8(self.card.nodata))
                confidence = np.where(known, tensors[1], np.uint8(CONFIDENCE_NODATA))
                self.task.check(confidence)
                probs = np.where(known, tensors[2], np.uint8(CONFIDENCE_NODATA)) if self.probabilities else None
                yield Rows(classes, confidence, probs)

    def _strip(self, data: NDArray[np.generic], valid: NDArray[np.bool_], mul: Tensor, add: Tensor) -> _Strip:
        """A row of chips on its way to the device, as stored: floats are four times as large."""
        device = self.device.torch
        raw, known = torch.from_numpy(np.ascontiguousarray(data)), torch.from_numpy(np.ascontiguousarray(valid))
        if device.type == "cuda":
            raw, known = raw.pin_memory(), known.pin_memory()
        return _Strip(
            raw.to(device, non_blocking=True), known.to(device, non_blocking=True), mul, add, bool(valid.all())
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, K, H, W) logits of (B, band, H, W)."""
        with self.device.autocast():
            out: Tensor = self.module(x.contiguous(memory_format=torch.channels_last))
        return out

    @torch.inference_mode()
    def classes(self, chip: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """(y, x) class indices of one chip (band, y, x) as the model sees it, alone: without context, flips or turns.

        Raises as `rows`.
        """
        with self._failures():
            decoded = self.task.decode(self.forward(torch.from_numpy(chip[None]).to(self.device.torch)))
            index: NDArray[np.uint8] = decoded[0][0].cpu().numpy()
            sure = decoded[1][0].cpu().numpy()
        self.task.check(np.where(valid, sure, np.uint8(CONFIDENCE_NODATA)))
        return index

    def _softmax(self, x: Tensor) -> Tensor:
        """(B, K, H, W) float32 probabilities, averaged over flips and turns when asked."""
        if not self.tta:
            whole: Tensor = self.task.softmax(self.forward(x))
            return whole
        total = torch.zeros(())
        for turns in range(4):
            for flip in (False, True):
                turned = torch.rot90(x.flip(-1) if flip else x, turns, (-2, -1))
                probs = torch.rot90(self.task.softmax(self.forward(turned)), -turns, (-2, -1))
                total = total.to(probs.device) + (probs.flip(-1) if flip else probs)
        return total / 8

    def _decoded(self, probability: Tensor) -> list[Tensor]:
        """What leaves the device: class, confidence and, when asked, all probabilities; uint8."""
        outputs = list(self.task.decode_probabilities(probability))
        return [*outputs, self.task.quantise(probability)] if self.probabilities else outputs

    def _cores(self, x: Tensor) -> list[Tensor]:
        """The decoded cores of chips. Without averaging the logits are decoded as they are, which is fastest."""
        h = self.grid.halo
        if self.tta or self.probabilities:
            return self._decoded(_inner(self._softmax(x), h))
        return list(self.task.decode(_inner(self.forward(x), h)))

    def _exact(
        self,
        data: NDArray[np.generic],
        valid: NDArray[np.bool_],
        mul: NDArray[np.float32],
        add: NDArray[np.float32],
        origin: Window,
        window: Window,
    ) -> Iterator[tuple[int, list[Tensor]]]:
        """Rows of cores. A chip is trimmed to what touches the window: its halo makes that free of effect."""
        m, a = (torch.from_numpy(v).to(self.device.torch) for v in (mul, add))
        for row in self.grid.rows(window):
            wanted = [self.trimmed(self.grid.kept(*k), window) for k in row]
            strip = wanted[0].union(wanted[-1])
            y0, y1 = max(strip.y0, window.y0), min(strip.y1, window.y1)
            out = self._blank(y1 - y0, window.shape[1])
            todo = [w for w in wanted if valid[w.intersect(window).slices(origin)].any()]
            if todo:
                seen = todo[0].union(todo[-1]).expand(self.grid.halo)
                rows, cols = seen.slices(origin)
                strip_in = self._strip(data[:, rows, cols], valid[rows, cols], m, a)
                for batch, found in self._each(todo, partial(self._cores_of, strip_in, seen)):
                    for i, core in enumerate(batch):
                        kept = core.intersect(window)
                        rows, cols = kept.slices(core)
                        to = (slice(kept.y0 - y0, kept.y1 - y0), slice(kept.x0 - window.x0, kept.x1 - window.x0))
                        for target, value in zip(out, found, strict=True):
                            target[(..., *to)] = value[i][..., rows, cols]
            yield y0, out

    def trimmed(self, core: Window, window: Window) -> Window:
        """The part of a core that touches ``window``, on the network's stride."""
        if self.fixed:  # a compiled program has one shape
            return core
        s, w = self.grid.stride, core.intersect(window)
        return Window(w.y0 // s * s, w.x0 // s * s, -(-w.y1 // s) * s, -(-w.x1 // s) * s)

    def _blended(
        self,
        data: NDArray[np.generic],
        valid: NDArray[np.bool_],
        mul: NDArray[np.float32],
        add: NDArray[np.float32],
        origin: Window,
        window: Window,
    ) -> Iterator[tuple[int, list[Tensor]]]:
        """Softmax outputs summed under the card's window in a rolling buffer as high as one chip.

        Every pixel gets all chips of the lattice that hold it, also at the border of the data, so no weight is zero.
        """
        device, size, step = self.device.torch, self.grid.size, self.grid.step
        m, a = (torch.from_numpy(v).to(device) for v in (mul, add))
        weight = torch.from_numpy(blend_window(self.card.window, size)).to(device)
        row_list = list(self.grid.rows(window))
        for n, row in enumerate(row_list):
            chips = [self.grid.chip(*k) for k in row]
            strip = chips[0].union(chips[-1])
            if n == 0:
                total = torch.zeros((len(self.card.classes), *strip.shape), device=device)
                norm = torch.zeros(strip.shape, device=device)
            todo = [c for c in chips if valid[c.slices(origin)].any()]
            if todo:
                rows, cols = strip.slices(origin)
                strip_in = self._strip(data[:, rows, cols], valid[rows, cols], m, a)
                for batch, probs in self._each(todo, partial(self._softmax_of, strip_in, strip)):
                    for i, chip in enumerate(batch):
                        cols = slice(chip.x0 - strip.x0, chip.x1 - strip.x0)
                        total[..., cols] += probs[i] * weight
                        norm[..., cols] += weight
            last = n == len(row_list) - 1
            done = Window(strip.y0, strip.x0, strip.y1 if last else strip.y0 + step, strip.x1).intersect(window)
            if not done.empty:
                part = done.slices(strip)
                weights = norm[part]
                mean = torch.where(weights > 0, total[(slice(None), *part)] / weights, 0.0)  # 0: no chip had data
                yield done.y0, [v[0] for v in self._decoded(mean[None])]
            total = torch.cat([total[:, step:], torch.zeros_like(total[:, :step])], 1)
            norm = torch.cat([norm[step:], torch.zeros_like(norm[:step])])

    def _cores_of(self, strip: _Strip, place: Window, cores: Sequence[Window]) -> list[Tensor]:
        """What is known of ``cores``; the strip's pixels cover ``place``."""
        return self._cores(strip.chips([c.expand(self.grid.halo).slices(place) for c in cores]))

    def _softmax_of(self, strip: _Strip, place: Window, chips: Sequence[Window]) -> Tensor:
        return self._softmax(strip.chips([c.slices(place) for c in chips]))

    def _each(self, todo: Sequence[Window], work: Callable[[list[Window]], T]) -> Iterator[tuple[list[Window], T]]:
        """``work`` on batches of chips. What the device has no memory for is halved, and so is what comes later.

        At first the batch; then, where chips are joined exactly and their size is free, the core of a chip.
        """
        while todo:
            if self.side and max(todo[0].shape) > self.side:
                todo = [*_halves(todo[0], self.grid.stride), *todo[1:]]
                continue
            batch = next(_batches(todo, self.batch))
            size, free = max(batch[0].shape), self.grid.exact and not self.fixed
            try:
                found = work(batch)
            except (RuntimeError, MemoryError) as err:
                if not out_of_memory(err) or (len(batch) == 1 and (not free or size < max(128, 2 * self.grid.stride))):
                    raise
            else:
                yield batch, found
                todo = todo[len(batch) :]
                continue
            if len(batch) > 1:
                self.batch = len(batch) // 2
            else:
                self.side = -(-size // (2 * self.grid.stride)) * self.grid.stride
            shown = f"chips of {self.side or size} pixels, {self.batch} at once"
            log.warning("%s: not enough memory, going on with %s", self.card.name, shown)
            if self.device.torch.type == "cuda":  # not in the handler: it keeps the tensors of the failed try alive
                torch.cuda.empty_cache()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """What the device raises, as an error of ours."""
        where = f"{self.card.name} on {self.device.torch}"
        try:
            yield
        except (RuntimeError, MemoryError) as err:
            why = str(err).partition("\n")[0]
            if out_of_memory(err):
                raise TransientError(
                    f"{where}: not enough memory for a single chip ({why}); free some, or set GEOML_DEVICE=cpu"
                ) from err
            if isinstance(err, torch.AcceleratorError):
                raise ModelError(f"{where}: the device failed ({why})") from err
            raise

    def _blank(self, height: int, width: int) -> list[Tensor]:
        shapes = [(height, width)] * 2 + [(len(self.card.classes), height, width)] * self.probabilities
        return [torch.zeros(s, dtype=torch.uint8, device=self.device.torch) for s in shapes]


def _inner(x: Tensor, halo: int) -> Tensor:
    return x[..., halo : x.shape[-2] - halo, halo : x.shape[-1] - halo]


def _halves(window: Window, stride: int) -> list[Window]:
    """Two parts of a window, cut across its longer side at a multiple of the stride."""
    height, width = window.shape
    half = max(1, max(height, width) // 2 // stride) * stride
    if height >= width:
        cut = window.y0 + half
        return [Window(window.y0, window.x0, cut, window.x1), Window(cut, window.x0, window.y1, window.x1)]
    cut = window.x0 + half
    return [Window(window.y0, window.x0, window.y1, cut), Window(window.y0, cut, window.y1, window.x1)]


def _batches(chips: Sequence[Window], size: int) -> Iterator[list[Window]]:
    """Neighbouring chips of one shape, at most ``size`` at once."""
    for _, group in groupby(chips, key=lambda c: c.shape):
        same = list(group)
        yield from (same[i : i + size] for i in range(0, len(same), size))


def _one_behind(strips: Iterator[tuple[int, list[Tensor]]]) -> Iterator[tuple[int, list[NDArray[np.uint8]]]]:
    """Strips as numpy arrays; on CUDA copied to pinned memory while the next strip is computed."""
    pending: tuple[int, list[Tensor], torch.cuda.Event | None] | None = None
    for y, tensors in strips:
        event = None
        if tensors[0].is_cuda:
            pinned = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors]
            for to, value in zip(pinned, tensors, strict=True):
                to.copy_(value, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            tensors = pinned
        if pending is not None:
            yield _landed(pending)
        pending = (y, tensors, event)
        if event is None:
            yield _landed(pending)
            pending = None
    if pending is not None:
        yield _landed(pending)


def _landed(strip: tuple[int, list[Tensor], torch.cuda.Event | None]) -> tuple[int, list[NDArray[np.uint8]]]:
    y, tensors, event = strip
    if event is not None:
        event.synchronize()
    return y, [t.cpu().numpy() for t in tensors]


def map_sample(predictor: Predictor, sample: Sample, window: Window) -> Iterator[Rows]:
    """The map of a window of a sample, in rows from north to south; beyond the window is no data to the model."""
    card = predictor.card
    channels = len(card.bands) * card.dates
    mul, add = coefficients(card, [1.0] * channels, [0.0] * channels)
    origin = predictor.needed(window)
    seen = cut(sample, origin, window, origin.shape)
    yield from predictor.rows(seen.image, seen.valid, mul, add, origin, window)
