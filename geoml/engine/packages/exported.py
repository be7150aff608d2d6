"""Packages whose network is a ``.pt2`` program (torch.export): no Python of ours is needed to run it.

``torch.export.load`` trusts its file: it unpickles, evaluates expressions, looks up functions by name and compiles
Python. So it is not called: records (`geoml.engine.packages.archive`), tensors (`payloads`), sizes (`dynamic_shapes`)
and steps (`graph`, of the operators in `operators`) are read here, and run by `network`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoml.engine.contract import output_of
from geoml.engine.packages.archive import open_archive
from geoml.engine.packages.dynamic_shapes import axes
from geoml.engine.packages.graph import Graph, read_graph
from geoml.engine.packages.measure import ReceptiveField, measure
from geoml.engine.packages.network import ProgramNetwork
from geoml.engine.packages.payloads import Payloads
from geoml.engine.packages.plain_texts import check_texts
from geoml.engine.packages.weights import write
from geoml.errors import ModelError
from geoml.grid.chips import exact_grid
from geoml.io.cards.map_card import MapCard

WEIGHTS = "model.pt2"
Prove = Callable[[nn.Module], Mapping[str, Any]]
DEEPEST = 64
"""Pixels: no common encoder halves its input more than six times."""


class Exported(nn.Module):
    """An exported program with the interface of a model: (batch, bands, y, x) float to (batch, classes, y, x) logits.

    Sizes that the program does not admit are padded to the next one that it does (edge pixels are repeated at the
    bottom and right, samples at the end) and the output is cropped back. Raises ModelError if none is large enough.
    """

    def __init__(self, graph: Graph, payloads: Payloads) -> None:
        super().__init__()
        self.batch, self.bands, self.height, self.width = axes(graph.sizes, graph.ranges)
        self.net = ProgramNetwork(graph, payloads)
        self.stride = 1

    @property
    def fixed_size(self) -> int | None:
        """The only height = width that the program takes; None: several."""
        return self.height.fixed or self.width.fixed

    @property
    def largest_side(self) -> int | None:
        """Largest height = width that the program takes; None: any."""
        return min((n for n in (self.height.most, self.width.most) if n is not None), default=None)

    @torch.no_grad()
    def probe_multiples(self, size: int) -> None:
        """Find the multiple that free sizes need, from ``size``, which works, in steps of 1, 2, 4 … pixels.

        With `torch.export.Dim.AUTO` it is in guards only, which are code and not evaluated here.
        """
        if self.height.step > 1 or self.width.step > 1 or self.fixed_size is not None:
            return
        for step in (2**k for k in range(DEEPEST.bit_length())):
            try:
                near = size + step if self.largest_side is None or size + step <= self.largest_side else size - step
                if tuple(self(torch.zeros(1, self.bands.least, near, near)).shape[-2:]) == (near, near):
                    break
            except (RuntimeError, ModelError):
                continue
        self.height, self.width = (replace(a, step=step, offset=size % step) for a in (self.height, self.width))

    def train(self, mode: bool = True) -> Exported:
        """Does nothing: the export has fixed what training mode would change."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        down, right = self.height.above(height), self.width.above(width)
        if self.height.symbol is not None and self.height.symbol == self.width.symbol:
            down = right = max(down, right)
        if (down, right) != (height, width):
            x = functional.pad(x, (0, right - width, 0, down - height), mode="replicate")
        y = torch.cat([self._samples(part) for part in torch.split(x, self.batch.most or len(x))])
        return y[..., :height, :width]

    def _samples(self, x: Tensor) -> Tensor:
        count = self.batch.above(len(x))
        y: Tensor = self.net(torch.cat([x, x[-1:].expand(count - len(x), -1, -1, -1)]) if count > len(x) else x)
        return y[: len(x)]


def load_exported(path: Path, card: MapCard, content: bytes) -> Exported:
    """The program in the ``content`` of ``path``, checked against its card.

    Raises ModelError for anything but plain tensors and operators.
    """
    module = read_program(content, str(path))
    _check(module, card, str(path))
    return module


def read_program(content: bytes, where: str) -> Exported:
    """The program in the bytes of a ``.pt2``. Raises ModelError for anything but plain tensors and operators."""
    archive = open_archive(content, where)
    try:
        payloads = Payloads(archive)
        payloads.check()
        program = archive.json(f"models/{archive.name}.json")
        check_texts(program, where)
        return Exported(read_graph(program, where), payloads)
    except ModelError as err:
        raise err if str(err).startswith(where) else ModelError(f"{where}: {err}") from err
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as err:
        raise ModelError(f"{where}: not a torch.export program that geoml knows ({str(err)[:200]})") from err


def save_exported(
    program: torch.export.ExportedProgram, card: MapCard, directory: str | Path, prove: Prove | None = None
) -> MapCard:
    """Write a package around an exported program; the card as written, with measured stride and radius.

    ``program`` takes one (B, bands, H, W) float32 tensor; where its sizes are free, only those that it admits are
    tried. The card comes last, and nothing is left behind by what fails. Raises ModelError if the program does not
    fit the card, or could not be loaded again, DataError if the folder cannot be written.
    """
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return save_program(buffer.getvalue(), card, directory, prove)


def save_program(content: bytes, card: MapCard, directory: str | Path, prove: Prove | None = None) -> MapCard:
    """As `save_exported`, of the bytes of a ``.pt2``. ``prove`` may raise; what it gives are scores of the card."""
    card = card.model_copy(update={"architecture": "exported", "weights": WEIGHTS})
    module = read_program(content, card.name)
    _check(module, card, card.name)
    scores = {**card.scores, **(prove(module) if prove else {})}
    field = _receptive_field(module, card)
    parameters = sum(p.numel() for p in module.parameters())
    parameters = parameters or sum(b.numel() for b in module.buffers() if b.is_floating_point())  # as of ONNX
    measured = {"stride": field.stride, "radius": field.radius, "short_radius": None, "parameters": parameters}
    return write(card.model_copy(update={**measured, "scores": scores}), content, directory)


def _receptive_field(module: Exported, card: MapCard) -> ReceptiveField:
    """Stride and radius of a program with free sizes; no radius where a chip with its halo would be too large for it.

    A program does not declare its stride, so the search starts at the largest of common encoders.
    """
    if module.fixed_size is not None:
        return ReceptiveField(None, 1)
    start = math.lcm(card.stride, module.height.step, module.width.step)
    if start & (start - 1) == 0:
        start = max(start, DEEPEST)
    sizes = tuple(n for n in (256, 512, 1024) if module.largest_side is None or n <= module.largest_side)
    try:
        field = measure(module, len(card.bands) * card.dates, start, sizes=sizes)
    except ModelError:  # a field so wide that the program takes no scene of its size
        field = ReceptiveField(None, start)
    if field.radius is not None:
        size = exact_grid(card.chip_size, field.radius, field.stride).size
        if module.largest_side is None or size <= module.largest_side:
            return field
    return ReceptiveField(None, card.stride)


def _check(module: Exported, card: MapCard, where: str) -> None:
    """Raise ModelError unless a program takes the card's chips and gives its classes; probes the sizes it needs."""
    bands, size = len(card.bands) * card.dates, card.chip_size
    height, width = module.height.fixed, module.width.fixed
    if module.bands.fixed not in (None, bands):
        raise ModelError(f"{where}: the program takes {module.bands.fixed} bands, the card lists {bands}")
    if module.fixed_size not in (None, size) or (height is None) != (width is None):
        raise ModelError(f"{where}: the program takes {height} x {width} pixels, not {size}")
    if module.largest_side is not None and size > module.largest_side:
        raise ModelError(
            f"{where}: the program takes up to {module.largest_side} pixels a side, the card has chips of {size}"
        )
    try:
        with torch.no_grad():
            shape = tuple(module(torch.zeros(1, bands, size, size)).shape)
    except (RuntimeError, ModelError, AttributeError, TypeError, IndexError) as err:
        raise ModelError(f"{where}: the program fails on a chip of {size} pixels ({err})") from err
    raw = output_of(card).raw
    if shape != (1, raw, size, size):
        raise ModelError(f"{where}: the output is {shape}; expected (1, {raw} channels, {size}, {size})")
    module.probe_multiples(size)
