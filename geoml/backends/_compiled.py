"""Networks that a library runs on the processor after a conversion: what its back end does beside calling the library.

A program is converted for one shape of chips, so that nothing of it hangs on a size that it has not seen; images are
padded to the network's stride here, whatever the architecture says it takes. It is compared with PyTorch before its
first use (`geoml.backends._proof`) and kept for the next process (`geoml.backends._kept`).
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml.backends import _proof as proofs
from geoml.backends import torch as eager
from geoml.backends._batches import Batches
from geoml.backends._int8 import NEEDS, check_installed, quantised, to_onnx
from geoml.backends._kept import Kept, kept
from geoml.backends._network import digest_of, processor
from geoml.errors import InputError, ModelError, out_of_memory
from geoml.io.cards.map_card import MapCard
from geoml.nn.context import Context, asked
from geoml.nn.fusion import fuse_batch_norms
from geoml.settings import settings

PROBE = 64
"""Pixels of a side on which fusion is tried."""
LOADED = 4
"""Programs in memory, each of a shape of its own."""

Program = Callable[[Sequence[NDArray[np.generic]]], NDArray[np.float32]]
"""Raw output (1, K, y, x) of the image (1, channel, y, x), and then what the network asks for, by name."""
Proof = Mapping[str, Any]
"""As JSON: what was compared, how much is equal, and how much faster than PyTorch it is."""


def choose_cpu(precision: str | None = None) -> eager.Device:
    """The processor in ``precision``; None asks the settings. Raises InputError where they ask for another device,
    MissingExtra for int8 without what makes it."""
    if settings().device not in ("auto", "cpu"):
        raise InputError(f"GEOML_DEVICE: {settings().device!r}; this back end computes on cpu")
    if (precision or settings().precision) == "int8":
        check_installed()
        return replace(eager.choose("cpu", "fp32"), int8=True)
    return eager.choose("cpu", precision)


class Compiled(Batches):
    """`geoml.engine.contract.Backend` by a library of which a subclass says how it converts and loads.

    Making one costs nothing; `prove` and the first `forward` of each shape convert the network or find it converted.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    """Distributions of which another version is another program."""
    precisions: ClassVar[tuple[str, ...]]
    """In which it computes where the processor can."""

    def __init__(self, module: nn.Module, card: MapCard, device: eager.Device | None = None) -> None:
        self._how = device or choose_cpu()
        if self._how.int8 and card.int8 is None:
            raise InputError(f"GEOML_PRECISION: 'int8', and {card.name} has no such program; see geoml models quantize")
        super().__init__(card.name, self._how.torch, self._how.batch, fixed=True)
        self.asks, self.precision = asked(module), self._how.precision
        self._module, self._card, self._threads = module.eval(), card, torch.get_num_threads()
        declared = dict(vars(module)).get("stride", getattr(type(module), "stride", None))
        self._stride = declared if isinstance(declared, int) else card.stride
        self._programs: OrderedDict[object, tuple[Program, Proof]] = OrderedDict()

    @abstractmethod
    def convert(self, program: torch.export.ExportedProgram) -> dict[str, bytes]:
        """The files, by name, of a program of the library. May raise anything."""

    def adopt(self, model: bytes) -> dict[str, bytes]:
        """The same of an ONNX model, of a library that runs quantised steps in int8. May raise anything."""
        raise NotImplementedError

    @abstractmethod
    def load(self, files: Mapping[str, bytes], threads: int) -> Program:
        """What `convert` gave, ready to run in ``self.precision``. May raise anything; what it gives, RuntimeError."""

    def prove(self, size: int) -> Proof:
        """Make ready for chips of ``size`` pixels a side with all that the network asks for.

        Raises ModelError where the network cannot be converted or does not say then what it says in PyTorch, InputError
        for int8 where the card does not say what is lost by it.
        """
        if self._how.int8 and self._card.int8 and self.name not in self._card.int8.loss:
            known = " or ".join(self._card.int8.loss)
            raise InputError(
                f"GEOML_BACKEND: {self._card.name} was not measured in int8 by {self.name}; expected {known}"
            )
        here = self.shape(size, size)
        shapes = {
            "x": (1, len(self._card.bands) * self._card.dates, *here),
            "looks": (1, self._card.dates, *here),
            "months": (1, self._card.dates),
            "place": (1, 2, *here),
        }
        return self._program({k: shapes[k] for k in ("x", *sorted(self.asks))})[1]

    def forward(self, x: Tensor, context: Context = MappingProxyType({})) -> Tensor:
        """Raw output (B, K, y, x) of (B, channel, y, x) float32, one sample after the other: a processor loses nothing.

        Raises ModelError as `prove` does for a shape that was not there before, and where the library fails.
        """
        height, width = x.shape[-2:]
        tall, wide = self.shape(height, width)
        inputs = {k: padded(v, tall, wide) for k, v in (("x", x), *sorted(context.items()))}
        program, _ = self._program({k: (1, *v.shape[1:]) for k, v in inputs.items()})
        parts = [self._run(program, [v[i : i + 1] for v in inputs.values()]) for i in range(len(x))]
        return torch.cat(parts)[..., :height, :width]

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Of the chip, on the network's stride, as which an image is computed."""
        tall, wide = (-(-n // self._stride) * self._stride for n in (height, width))
        return tall, wide

    def exported(self, shapes: Mapping[str, tuple[int, ...]], *, fused: bool = False) -> torch.export.ExportedProgram:
        """The network for inputs of these shapes; ``fused``: with batch normalisations taken into convolutions."""
        with torch.inference_mode(False), torch.no_grad():
            given = proofs.made_inputs(shapes, 0)
            network = copy.deepcopy(self._module)  # a network that ran in inference mode is not exported
            if fused:
                probe = given["x"][..., : self.shape(PROBE, PROBE)[0], : self.shape(PROBE, PROBE)[1]]
                network = copy.deepcopy(fuse_batch_norms(network, probe))
            wrapped = _Positional(network, tuple(given)[1:]).eval()
            return torch.export.export(wrapped, tuple(given.values()), strict=False)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """As `Batches.failures`; inside, torch has one thread, for two crowds of threads get in each other's way."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with super().failures():
                yield
        finally:
            torch.set_num_threads(before)

    def _run(self, program: Program, inputs: Sequence[Tensor]) -> Tensor:
        try:
            return torch.from_numpy(program([v.contiguous().numpy() for v in inputs]))
        except RuntimeError as err:
            if out_of_memory(err):
                raise
            raise ModelError(f"{self._card.name} by {self.name}: failed ({_why(err)})") from err

    def _program(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Program, Proof]:
        """The program for inputs of these shapes, proved. Raises ModelError."""
        key = tuple(shapes.items())
        if key in self._programs:
            self._programs.move_to_end(key)
            return self._programs[key]
        entry = kept(self.name, self._key(shapes), lambda: self._make(shapes))
        if why := entry.known.get("failed"):
            raise ModelError(f"{self._card.name} by {self.name}: {why}")
        found = self.load(entry.files, self._threads), entry.known["proof"]
        self._programs[key] = found
        if len(self._programs) > LOADED:
            self._programs.popitem(last=False)
        return found

    def _key(self, shapes: Mapping[str, tuple[int, ...]]) -> list[object]:
        record = self._card.int8.model_dump(mode="json") if self._how.int8 and self._card.int8 else None
        packages = ("geoml", "torch", "segmentation-models-pytorch", "timm", *self.packages, *(NEEDS if record else ()))
        versions = {name: version(name) for name in packages}
        parts = versions, processor(), self.precision, self._stride, sorted(shapes.items())
        return [digest_of(self._module, self._card), *parts, *([record] if record else [])]

    def _make(self, shapes: Mapping[str, tuple[int, ...]]) -> Kept:
        """Convert and compare; what comes to nothing says why. Raises TransientError without memory."""
        try:
            if self._how.int8:
                files, proof, why = self._in_int8(shapes)
            else:
                files = self.convert(self.exported(shapes))
                proof, why = self._compare(files, shapes)
        except Exception as err:  # a converter of others may raise anything
            if out_of_memory(err):
                raise
            return Kept({"failed": f"the network cannot be converted ({type(err).__name__}: {_why(err)})"})
        return Kept({"proof": proof, "failed": why}, {} if why else files)

    def _in_int8(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, bytes], Proof, str]:
        """Files, proof, and why it fails: of what int8 is made of, in fp32. What is lost by int8, the card says."""
        record = self._card.int8
        assert record is not None
        model = to_onnx(self.exported(shapes, fused=True))
        exact, why = self._compare(self.adopt(model), shapes)
        if why:
            return {}, {}, why
        files = self.adopt(quantised(model, record))
        proof, _ = self._compare(files, shapes)
        said = {"fp32": exact}
        if self.name in record.loss:
            before, after = record.loss[self.name].miou
            said["loss"] = {"split": record.split, "miou": before, "miou_int8": after}
        return files, {**proof, **said}, ""

    @torch.inference_mode()
    def _compare(self, files: Mapping[str, bytes], shapes: Mapping[str, tuple[int, ...]]) -> tuple[Proof, str]:
        """A proof, and why it fails; "" where it does not."""
        program = self.load(files, self._threads)
        network = copy.deepcopy(self._module)
        usual = eager.Backend(network, self._card, self._how)
        exact = eager.Backend(network, self._card, replace(self._how, bf16=False)) if self._how.bf16 else usual

        def converted(x: Tensor, context: Context) -> Tensor:
            inputs = [padded(v, *shapes["x"][2:]) for v in (x, *context.values())]
            return self._run(program, inputs)[..., : x.shape[-2], : x.shape[-1]]

        sizes, found, own, seconds = [], [], [], []
        for seed, (height, width) in enumerate(self._sizes(*shapes["x"][2:])):
            inputs = proofs.cut(proofs.made_inputs(shapes, seed + 1), height, width)
            here, ours = proofs.run(converted, inputs)
            there, theirs = proofs.run(usual.forward, inputs)
            reference = there if usual is exact else proofs.run(exact.forward, inputs)[0]
            found.append(proofs.distance(here, reference))
            own.append(proofs.distance(there, reference))
            sizes.append([height, width])
            seconds.append((ours, theirs))
        far = proofs.worst(found)
        ours, theirs = map(min, zip(*seconds, strict=True))
        proof = {
            "sizes": sizes, "equal": far.equal, "close": far.close, "mean": far.mean, "largest": far.largest,
            "torch_equal": proofs.worst(own).equal, "speed": round(theirs / max(ours, 1e-9), 3),
        }  # fmt: skip
        return proof, proofs.doubt("bf16" if self._how.bf16 else "fp32", far, proofs.worst(own))

    def _sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Of what is compared: one on the stride, one off it (or the first again, where every size is on it)."""
        off = max(self._stride // 2, 1) if self._stride > 1 else 0
        return [(height, width), (height - off, width - max(off - 1, min(off, 1)))]


class _Positional(nn.Module):
    """A network whose inputs are known by their place: the image, then what it asks for."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        found: Tensor = self.network(x, **dict(zip(self.names, context, strict=True)))
        return found


def padded(values: Tensor, height: int, width: int) -> Tensor:
    """What has pixels, with its last row and column repeated."""
    if values.ndim != 4 or values.shape[-2:] == (height, width):
        return values
    rows, columns = (torch.arange(n).clamp_max(m - 1) for n, m in zip((height, width), values.shape[-2:], strict=True))
    return values.index_select(2, rows).index_select(3, columns)


def _why(err: BaseException) -> str:
    return (str(err).strip().partition("\n")[0] or type(err).__name__)[:200]
