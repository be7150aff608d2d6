"""The protocols that plug-ins implement, and what the steps of the engine pass to each other.

The engine imports no input, output or backend: it finds them by file name in `geoml.inputs`, `geoml.outputs` and
`geoml.backends`, and calls only what these protocols define. A task names its input and its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geoml.engine.pixels import Pixels
from geoml.engine.task import find_any
from geoml.errors import InputError
from geoml.grid.plane import Block, Plane, Window
from geoml.io.cog.each_band import of_each
from geoml.io.cog.overview import Overview
from geoml.io.stac.items import AssetInfo, BandInfo
from geoml.registry import Registry

if TYPE_CHECKING:
    import datetime as dt

    import pystac
    import torch
    from torch import Tensor, nn

    from geoml.cube.harmonise import Transform
    from geoml.engine.following import Follower
    from geoml.engine.run.plan import Plan, PlannedBlock, SelfChange
    from geoml.io.cards.map_card import MapCard
    from geoml.io.cards.signature import Signature
    from geoml.io.cog.template import Colormap
    from geoml.io.report.part import ReportPart
    from geoml.nn.context import Context
    from geoml.recipe import PredictRecipe

T = TypeVar("T")

INPUTS = Registry("geoml.inputs", "input")
OUTPUTS = Registry("geoml.outputs", "output")
BACKENDS = Registry("geoml.backends", "backend")


@dataclass(frozen=True, eq=False)
class Rows:
    """Results for the rows ``window`` of a block (or of any window), which come from top to bottom.

    For an output of pixels: (band, y, x) for each of its layers by key, as stored, nodata where there was no input. For
    an output of objects: its columns by name, (n, …) each, with the pixel that represents each in ``y`` and ``x``.
    """

    window: Window
    arrays: Mapping[str, NDArray[np.number]]

    def __getitem__(self, key: str) -> NDArray[np.number]:
        return self.arrays[key]


@dataclass(frozen=True, eq=False)
class BlockRun:
    """A block in memory: its pixels, and where the region asks for output."""

    plan: Plan
    planned: PlannedBlock
    block: Block
    pixels: Pixels
    """The pixels of the window that the model needs for the block."""
    asked: NDArray[np.bool_]
    """(y, x) of the block, True inside the region."""
    dates: tuple[tuple[pystac.Item, ...], ...]
    """The items of each date."""
    properties: Mapping[str, object] = field(default_factory=dict)
    """Properties that the input adds to the item of the block."""
    times: tuple[dt.datetime, dt.datetime] | None = None
    """First and last time that it covers; None: those of its items."""
    likeness: NDArray[np.uint8] | None = None
    """(y, x) of the block to the training data, see `geoml.cube.domain`; None if the package has no record."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Duration of its reading, by stage."""

    @cached_property
    def inner(self) -> Pixels:
        """The pixels of the block itself."""
        return self.pixels.crop(self.block.window)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One COG of a block: ``KEY.tif``, and the asset of that name."""

    key: str
    title: str
    dtype: str = "uint8"
    nodata: float | None = None
    bands: tuple[str, ...] = ()
    """Names of its bands in STAC; one of the key's name when empty."""
    descriptions: tuple[str, ...] = ()
    """Of the bands in the file; their names when empty."""
    scale: float | tuple[float, ...] = 1.0
    """``physical = stored * scale + offset``: of all bands, or of each."""
    offset: float | tuple[float, ...] = 0.0
    unit: str | None = None
    description: str = ""
    """Of the bands in STAC."""
    tile: int = 512
    """Pixels of a side of a tile of the COG; a tile holds all bands."""
    overview: Overview = "average"
    predictor: bool = True
    """Differences along the row: pays for quantities, not for classes."""
    colormap: Colormap | None = None
    fields: Mapping[str, object] = field(default_factory=dict)
    """Further fields of the asset, such as ``classification:classes``."""
    vertical: str | None = None
    """CRS of its values where they are heights; the CRS of its file is then that of the plane with it."""
    extra: bool = False
    """True for an optional layer, listed after the count of valid observations in the item."""

    @property
    def names(self) -> tuple[str, ...]:
        return self.bands or (self.key,)

    def band_infos(self, statistics: Sequence[Mapping[str, float | None]]) -> tuple[BandInfo, ...]:
        """STAC metadata of each band, with the statistics of its stored values."""
        scales, offsets = (of_each(v, len(self.names)) for v in (self.scale, self.offset))
        each = zip(self.names, scales, offsets, statistics, strict=True)
        return tuple(
            BandInfo(n, self.dtype, self.nodata, k, b, self.unit, self.description, statistics=s) for n, k, b, s in each
        )


@dataclass(frozen=True, eq=False)
class BlockPixels:
    """What an input reads for a block: pixels, the items of each date, and properties for the item of the block."""

    pixels: Pixels
    dates: tuple[tuple[pystac.Item, ...], ...]
    properties: Mapping[str, object] = field(default_factory=dict)
    times: tuple[dt.datetime, dt.datetime] | None = None
    """First and last time that the block covers; None: those of its items."""


@dataclass(frozen=True, eq=False)
class SampleFit:
    """What an input measured on the sample of a region, once for all blocks, and the sample as blocks then see it.

    ``shifts`` (dy, dx) in pixels and ``transforms`` of physical values are of each later date against the first.
    """

    squares: list[list[Pixels]]
    shifts: tuple[tuple[float, float] | None, ...] = ()
    transforms: tuple[Transform | None, ...] = ()


@runtime_checkable
class Input(Protocol):
    """Reads the pixels of a block: the class ``Input`` of a file in `geoml.inputs`.

    Constructed from a card and, in a run, its recipe. Constructing one is cheap. Raises InputError for a card with a
    number of dates that it does not read.
    """

    every: ClassVar[bool]
    """True if a pixel needs all dates; otherwise one is enough, and a date without any item is not an error."""
    rasters: ClassVar[bool]
    """False if files have no pixels of the ground, so that they are not checked against the grid in their item."""

    def __init__(self, card: MapCard, recipe: PredictRecipe | None = None) -> None: ...

    @property
    def fits(self) -> bool:
        """True if the pixels of blocks depend on what `fit` measures."""

    @property
    def around(self) -> int:
        """Pixels around the model's window whose files affect it, and so are part of the hash of a block."""

    def check(self, when: Sequence[str]) -> None:
        """Raise InputError unless these, the ``datetime`` of a recipe, are the dates that are read."""
        ...

    def reference(self, when: Sequence[str]) -> str | None:
        """The part of a monitor's ``datetime`` that each day is compared with; None if days stand alone.

        Raises InputError if days cannot be processed one by one.
        """
        ...

    def steps(self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window) -> list[Pixels]:
        """The composite of each date, with the radiometry from the sample of the plan, at its place in its files.

        ``items`` are those of the whole run. Raises InputError for a band that an item lacks or units that do not fit,
        DataError for a broken file, TransientError if a server does not answer.
        """
        ...

    def together(self, steps: Sequence[Pixels]) -> Pixels:
        """All dates combined, as the model sees them."""
        ...

    def fit(self, plan: Plan, squares: list[list[Pixels]]) -> SampleFit:
        """Measure on the steps of a sample what all blocks must share. Raises DataError if dates do not fit."""
        ...

    def trial(
        self, plan: Plan, squares: Sequence[Sequence[Pixels]], pixels: NDArray[np.float32]
    ) -> tuple[SelfChange | None, str]:
        """The model's result on samples whose answer is known without a label, and a sentence if it is wrong.

        ``pixels`` are (N, date, band) physical values of it.
        """
        ...

    def read(self, plan: Plan, items: Sequence[pystac.Item], block: Block, window: Window) -> BlockPixels:
        """The pixels of ``window``, which the model needs for a block, corrected by the sample of the plan.

        Raises InputError for a band that an item lacks or units that do not fit, DataError for a broken file or dates
        that do not fit, TransientError if a server does not answer.
        """
        ...

    def pictures(self, pixels: Pixels) -> Mapping[str, Pixels]:
        """Pictures of (thinned) pixels to show, each like one date; ``preview`` is the thumbnail."""
        ...

    def warnings(self, plan: Plan) -> Sequence[str]:
        """Warnings for readers of the map."""
        ...


@runtime_checkable
class BlockPart(Protocol):
    """What an output collects from a block besides its COGs, for `Output.collect`."""

    def add(self, rows: Rows) -> None:
        """Take finished rows, from top to bottom; outside the region they are empty."""
        ...

    def write(self, path: Path, outside: NDArray[np.bool_] | None) -> None:
        """Write the part atomically. ``outside`` (y, x): unlike the training data; None if that is unknown.

        Raises DataError if it cannot be written.
        """
        ...


@dataclass(frozen=True)
class FinishedRun:
    """The finished blocks of a run, to be collected in the folder ``out``."""

    out: Path
    plan: Plan
    done: Sequence[str]
    items: Sequence[pystac.Item]
    """Items of the finished blocks that begin first and end last."""
    sources: Sequence[pystac.Item]
    parts: Callable[[Callable[[Path], Any]], Iterator[tuple[Block, Any]]]
    """``parts(read)`` gives each block with what ``read`` makes of the file that its `BlockPart` wrote. A damaged one
    is removed, so that the next run does its block again, and raises DataError."""
    pull: Callable[..., object] = lambda *names: None
    """Brings files of the run, by their names, into ``out`` where they are elsewhere."""


@runtime_checkable
class Output(Protocol):
    """How the raw output of a network becomes files: the class ``Output`` of a file in `geoml.outputs`.

    Constructed from a card and, in a run, its recipe, which it checks: raises InputError for options that it does not
    support. Constructing one is cheap.
    """

    joiner: ClassVar[Any]
    """``pixels`` or ``owner``: see `PixelOutput` and `OwnedOutput`."""
    changes: ClassVar[bool]
    """True of a `ChangeOutput`: dates are compared."""

    def __init__(self, card: MapCard, recipe: PredictRecipe | None = None) -> None: ...

    @property
    def raw(self) -> int:
        """Channels of the raw output of the card's network."""
        ...

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The COGs of a block, in the order of `PixelOutput.encode`; may be none."""
        ...

    @property
    def about(self) -> str:
        """What the layers contain, in words, for the list of files; empty without layers."""
        ...

    @property
    def tables(self) -> Mapping[str, str]:
        """GeoParquet files of the whole run that `collect` writes (name -> title); empty if blocks have no part."""
        ...

    def answer(self, rows: Rows) -> tuple[NDArray[np.number], ...]:
        """Rows in the form that a task scores against the truth."""
        ...

    def part(self, run: BlockRun) -> BlockPart:
        """An empty part of a block. Called only if there are `tables`."""
        ...

    def collect(self, run: FinishedRun) -> None:
        """Write `tables` into the folder of the run: the same bytes for any cut into blocks. Raises DataError."""
        ...

    def report(self, out: Path) -> ReportPart:
        """This output's part of the report of the run in the folder ``out``, which holds its `tables`."""
        ...

    def follower(self) -> Follower[Any] | None:
        """Follows its features over the days of a series; None if features keep no ids."""
        ...


@runtime_checkable
class PixelOutput(Output, Protocol):
    """An output of pixels: chips are joined at their cores, or blended if they can be averaged."""

    joiner: ClassVar[Literal["pixels"]]

    @property
    def channels(self) -> int:
        """Channels of the result of `average`."""
        ...

    def average(self, raw: Tensor) -> Tensor:
        """(B, channel, y, x) float32 from (B, K, y, x) raw output; may be averaged over chips, flips and turns."""
        ...

    def encode(self, averaged: Tensor) -> list[Tensor]:
        """What leaves the device: for each layer (B, band, y, x) in its dtype. Reads no value on the host."""
        ...

    def encode_raw(self, raw: Tensor) -> list[Tensor]:
        """``encode(average(raw))``, or a faster equivalent."""
        ...

    def stored(self, encoded: Sequence[NDArray[np.number]], known: NDArray[np.bool_]) -> dict[str, NDArray[np.number]]:
        """By key of the layers (band, y, x) as stored: nodata where not ``known`` (y, x).

        Raises ModelError if the raw output was not finite and something is known.
        """
        ...


@runtime_checkable
class OwnedOutput(Output, Protocol):
    """An output of objects, each represented by one pixel; it belongs to the chip and the block that own that pixel."""

    joiner: ClassVar[Literal["owner"]]
    reach: ClassVar[int]
    """Pixels around that one that `candidates` reads in the raw output; chips are wider by this."""

    def candidates(self, raw: Tensor, chip: Window, known: Tensor) -> Mapping[str, Tensor]:
        """Columns (n, …) of the things in the raw output (K, y, x) of a chip; ``y`` and ``x`` are pixels of the plane.

        ``known`` (y, x) is True where there was data. Raises ModelError for raw output that is not finite there.
        """
        ...

    def at_level(self, found: Mapping[str, NDArray[np.number]], factor: int) -> dict[str, NDArray[np.number]]:
        """``found``, candidates in pixels ``factor`` times as wide as those of the plane (one of the levels of the
        recipe's pyramid), in pixels of the plane, and only those of the sizes that this level is for.
        """
        ...

    def levels(self) -> Sequence[Mapping[str, Any]]:
        """The entry of ``run.json`` for each level of a pyramid, as JSON; empty if the recipe has none."""
        ...

    def warnings(self) -> Sequence[str]:
        """Warnings for readers of its tables."""
        ...


@runtime_checkable
class ChangeOutput(PixelOutput, Protocol):
    """An output of pixels that maps where dates differ; its ``changes`` is True."""

    def called(self, rows: Rows) -> NDArray[np.bool_]:
        """(y, x) of rows: True where changed."""
        ...


AnyOutput = PixelOutput | OwnedOutput


@runtime_checkable
class Backend(Protocol):
    """A network on a device: the class ``Backend`` of a file in `geoml.backends`.

    The file also has ``choose()``, which returns what the settings require of the machine as a hashable value, and
    raises MissingExtra if a library is missing.
    It takes and returns tensors; those of a backend without torch are on the CPU. Constructing one raises
    TransientError if memory runs out and ModelError if the device fails.
    """

    name: str
    device: torch.device
    """Device of its input and output tensors."""
    fixed: bool
    """True if it takes only one chip shape."""
    batch: int
    """Chips per forward pass, as memory allows."""
    side: int
    """Largest side of a window that may be cut, as memory allows; 0: any."""
    most: int
    """Pixels of the largest chip, with its halo, that is worth its memory; 0: chips stay as the card has them."""
    asks: frozenset[str]
    """What the network takes besides pixels; see `geoml.nn.context`."""
    precision: str
    """Precision in which it computes: fp32, bf16 or int8."""
    packages: ClassVar[tuple[str, ...]]
    """Distributions besides torch that affect what it computes."""
    precisions: ClassVar[tuple[str, ...]]
    """Precisions that it supports, on a machine that is good at them."""
    auto: ClassVar[tuple[str, ...]]
    """Types of device (cpu, cuda) on which ``auto`` tries it; what is compiled for minutes is named instead."""

    def __init__(self, module: nn.Module, signature: Signature, device: object = None) -> None: ...

    def prove(self, size: int) -> Mapping[str, Any] | None:
        """Prepare for chips of ``size`` pixels a side, and return, as JSON, what was compared with PyTorch; None for
        PyTorch itself. Its ``speed`` is how much faster it is. Raises ModelError if results differ."""
        ...

    def upload(self, array: NDArray[np.number | np.bool_]) -> Tensor:
        """A host array as a tensor on the device; the copy may still be in progress."""
        ...

    def forward(self, x: Tensor, context: Context = ...) -> Tensor:
        """Raw output of (B, channel, y, x) float32 as the model sees it, or the features (B, F) of a vector;
        ``context`` has some of what it ``asks``."""
        ...

    def download(self, strips: Iterator[tuple[T, list[Tensor]]]) -> Iterator[tuple[T, list[NDArray[np.number]]]]:
        """The same strips as host arrays, in order; one may be computed while another is copied."""
        ...

    def each(
        self, todo: Sequence[Window], work: Callable[[list[Window]], T], stride: int, *, free: bool
    ) -> Iterator[tuple[list[Window], T]]:
        """``work`` on batches of windows of one shape, in order. What does not fit in memory is halved and retried:
        the batch, and if they are ``free`` to be cut at multiples of ``stride``, the windows."""
        ...

    def failures(self) -> AbstractContextManager[None]:
        """A context in which errors of the device become TransientError (no memory) or ModelError."""
        ...


@cache
def _input_class(task: str) -> Callable[..., Input]:
    made: Callable[..., Input] = INPUTS.find(find_any(task).input).Input
    return made


def input_of(card: MapCard, recipe: PredictRecipe | None = None) -> Input:
    """The input that the task of a card names. Raises InputError for a card that does not fit it."""
    return _input_class(card.task)(card, recipe)


@cache
def _output_class(task: str) -> Callable[..., AnyOutput]:
    made: Callable[..., AnyOutput] = OUTPUTS.find(find_any(task).output).Output
    return made


def output_of(card: MapCard, recipe: PredictRecipe | None = None) -> AnyOutput:
    """The output that the task of a card names. Raises InputError for options of the recipe that it cannot serve."""
    return _output_class(card.task)(card, recipe)


def pixel_output(card: MapCard) -> PixelOutput:
    """The output of a card, without options. Raises InputError if it is not an output of pixels."""
    found = output_of(card)
    if found.joiner == "owner":
        raise InputError(f"task: {card.task} finds objects; expected one that maps every pixel")
    return found


def asset_info(
    layer: Layer, path: Path, size: int, sha256: str, statistics: Sequence[Mapping[str, float | None]]
) -> AssetInfo:
    """The asset of a finished layer."""
    about = AssetInfo(path, layer.title, size=size, sha256=sha256, fields=layer.fields, overview=layer.overview)
    return replace(about, bands=layer.band_infos(statistics))
