"""A model package made ready to run over windows of any size: pixels in memory in, finished rows out.

Chips come from one lattice of the plane (`geoml.grid.chips`). Which joiner makes rows of them is the output's
business: things with a centre are owned by a chip, pixels are joined exactly at their cores where the card says how far
the network sees, and blended with the card's window otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoml.data.chips import seen
from geoml.data.scene import Sample
from geoml.engine.contract import BACKENDS, AnyOutput, Backend, PixelOutput, Rows, output_of
from geoml.engine.inference.blended import blended
from geoml.engine.inference.exact import exact
from geoml.engine.inference.lattice import levels_of
from geoml.engine.inference.network import Network
from geoml.engine.inference.owner import owned
from geoml.engine.inference.pyramid import on_all_levels
from geoml.engine.packages.calibrate import check_calibrated
from geoml.engine.packages.package import Package
from geoml.engine.pixels import Pixels
from geoml.errors import InputError
from geoml.grid.plane import Window

BACKEND = "torch"


class Predictor:
    """A package, ready to run.

    Args:
        package: the model with its card.
        output: what is made of its raw output; None is that of its card, without options.
        join: auto, exact or blend; see `levels_of`.
        tta: average over the eight flips and quarter turns (D4).
        factors: of a pyramid, for an output of things: look at pixels so many times as wide too.
        backend: what runs the network; None is that of PyTorch on ``device``.
        device: where to run; None chooses by the settings.

    Raises InputError for a way to join or a pyramid that the output or the network cannot serve or a device that is not
    there, ModelError for a model that is not calibrated or a device that fails, TransientError if the device has no
    room for the model.
    """

    def __init__(
        self,
        package: Package,
        output: AnyOutput | None = None,
        *,
        join: str = "auto",
        tta: bool = False,
        factors: Sequence[int] = (),
        backend: Backend | None = None,
        device: object = None,
    ) -> None:
        check_calibrated(package)
        self.card, self.output = package.card, output or output_of(package.card)
        self.levels = levels_of(self.card, self.output, join, tta=tta, factors=factors)
        self.grid, self.tta = self.levels[1], tta
        self.backend: Backend = backend or BACKENDS.find(BACKEND).Backend(package.module, self.card.signature, device)
        self.facts: Mapping[str, object] = {}  # what the item of a block says of the back end
        if factors and "place" in self.backend.asks:
            raise InputError(
                f"pyramid: {self.card.name} needs the position of each pixel, which is known at the finest level only"
            )
        if self.backend.most and self.grid.halo and not self.grid.whole and self.output.joiner == "pixels":
            self.grid = self.grid.doubled()

    def needed(self, window: Window) -> Window:
        """The input window whose pixels decide ``window``: its chips, trimmed where that is free of effect."""
        if self.output.joiner == "owner":
            each = (grid.input_window(window.coarser(k)).finer(k) for k, grid in self.levels.items())
            return reduce(Window.union, each)
        if self.backend.fixed or self.grid.whole or not self.grid.exact:
            return self.grid.input_window(window)
        return self.trimmed(window, window).expand(self.grid.halo)

    def trimmed(self, core: Window, window: Window) -> Window:
        """The part of a core that is computed for ``window``."""
        return Network(self.backend, self.card, self.grid, self.output).trimmed(core, window)

    @torch.inference_mode()
    def rows(self, pixels: Pixels, window: Window, asked: NDArray[np.bool_] | None = None) -> Iterator[Rows]:
        """Predict ``window`` from pixels that cover at least ``needed(window)``, in rows from top to bottom.

        Of pixels outside of ``asked``, (y, x) of the window, nothing is promised: chips of none but these cost nothing.
        Where there is no data the model sees 0 and the output is nodata. Raises ModelError if the model's output is
        not finite where there is data, or the device fails, and TransientError if it has no memory for a single chip.
        """
        output = self.output
        with self.backend.failures():
            if output.joiner == "owner":
                levels = {k: Network(self.backend, self.card, g, output) for k, g in self.levels.items()}
                find = on_all_levels(levels, pixels, window) if len(levels) > 1 else owned(levels[1], pixels, window)
                yield from find
                return
            join = exact if self.grid.exact else blended
            network = Network(self.backend, self.card, self.grid, output, self.tta)
            wanted = pixels.valid
            if asked is not None:
                wanted, inner = np.zeros_like(wanted), window.slices(pixels.origin)
                wanted[inner] = pixels.valid[inner] & asked
            for here, encoded in self.backend.download(join(network, pixels, window, wanted)):
                yield Rows(here, output.stored(encoded, pixels.valid[here.slices(pixels.origin)]))

    def forward(self, x: Tensor) -> Tensor:
        """Raw output (B, K, y, x) of (B, channel, y, x) as the model sees it."""
        return self.backend.forward(x)

    @torch.inference_mode()
    def alone(self, chip: NDArray[np.float32], valid: NDArray[np.bool_]) -> Rows:
        """What is made of one chip (channel, y, x) as the model sees it: without context, flips or turns.

        Raises InputError if the output is none of pixels, ModelError if it is not finite or the device fails, and
        TransientError if the device has no memory for the chip.
        """
        if self.output.joiner == "owner":
            raise InputError(f"{self.card.name}: finds objects; expected an output of pixels")
        with self.backend.failures():
            return stored(self.output, self.forward(self.backend.upload(chip[None])), valid[None])


def stored(output: PixelOutput, raw: Tensor, known: NDArray[np.bool_]) -> Rows:
    """Raw output (B, K, y, x) as it would be stored, samples below each other; ``known`` is (B, y, x).

    Raises ModelError if it is not finite and something is known.
    """
    return rows_of(output, [t.cpu() for t in output.encode_raw(raw)], known)


def rows_of(output: PixelOutput, encoded: Sequence[Tensor], known: NDArray[np.bool_]) -> Rows:
    """As `stored`, from what the output encoded: of each layer (B, band, y, x) on the CPU."""
    below = [t.numpy().swapaxes(0, 1).reshape(t.shape[1], -1, t.shape[-1]) for t in encoded]
    mask = known.reshape(-1, known.shape[-1])
    return Rows(Window(0, 0, *mask.shape), output.stored(below, mask))


def map_sample(predictor: Predictor, sample: Sample, window: Window, within: Window | None = None) -> Iterator[Rows]:
    """The map of a window of a sample, in rows from north to south; beyond ``within`` (the window, where None) is no
    data to the model."""
    channels = len(predictor.card.bands) * predictor.card.dates
    origin = predictor.needed(window)
    image, valid = seen(sample, origin, within or window)
    yield from predictor.rows(
        Pixels(image, valid.astype(np.uint16), (1.0,) * channels, (0.0,) * channels, origin), window
    )
