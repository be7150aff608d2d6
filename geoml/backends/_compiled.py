"""Networks that a library runs after a conversion: what its back end does besides calling the library.

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
from geoml.io.cards.signature import Signature
from geoml.nn.context import Context, asked
from geoml.nn.fusion import fuse_batch_norms
from geoml.settings import settings

PROBE = 64
"""Pixels of a side on which fusion is tried."""
LOADED = 4
"""Programs in memory, each of a shape of its own."""

Program = Callable[[Sequence[Tensor]], Tensor]
"""Raw output (B, K, y, x) of images (B, channel, y, x), and then what the network asks for, by name; B is 1 but on a
GPU, and all lie on the device."""
Proof = Mapping[str, Any]
"""As JSON: what was compared, how much is equal, and how much faster than PyTorch it is."""


def choose_cpu(precision: str | None = None) -> eager.Device:
    """The processor in ``precision``; None asks the settings. Raises InputError if they ask for another device,
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
    """In which it computes where the device can."""
    auto: ClassVar[tuple[str, ...]] = ("cpu",)
    """Types of device on which ``auto`` tries it."""
    autocasts: ClassVar[bool] = False
    """Whether the program that is converted says itself what is computed in bf16; else the library is told."""

    def __init__(self, module: nn.Module, signature: Signature, device: eager.Device | None = None) -> None:
        self._how, name = (device or choose_cpu()).for_network(signature), signature.name
        if self._how.int8 and signature.int8 is None:
            raise InputError(f"GEOML_PRECISION: 'int8', and {name} has no such program; see geoml models quantize")
        super().__init__(name, self._how.torch, self._how.batch, fixed=True)
        self.asks, self.precision = asked(module), self._how.precision
        self._module, self._signature, self._threads = module.eval(), signature, torch.get_num_threads()
        declared = dict(vars(module)).get("stride", getattr(type(module), "stride", None))
        self._stride = declared if isinstance(declared, int) else signature.stride
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

        Raises ModelError if the network cannot be converted or does not say then what it says in PyTorch, InputError
        for int8 where the card does not say what is lost by it.
        """
        record, name = self._signature.int8, self._signature.name
        if self._how.int8 and record and self.name not in record.loss:
            known = " or ".join(record.loss)
            raise InputError(f"GEOML_BACKEND: {name} was not measured in int8 by {self.name}; expected {known}")
        here = self.shape(size, size)
        shapes = {
            "x": (self._many, self._signature.channels, *here),
            "looks": (self._many, self._signature.dates, *here),
            "months": (self._many, self._signature.dates),
            "place": (self._many, 2, *here),
        }
        return self._program({k: shapes[k] for k in ("x", *sorted(self.asks))})[1]

    def forward(self, x: Tensor, context: Context = MappingProxyType({})) -> Tensor:
        """Raw output (B, K, y, x), or features (B, F), of (B, channel, y, x) float32. A processor loses nothing by one
        sample after the other; a GPU has as many at once as fit, the last of them repeated where some are missing.

        Raises ModelError as `prove` does for a shape that was not there before, and where the library fails.
        """
        height, width = x.shape[-2:]
        tall, wide = self.shape(height, width)
        inputs = {k: padded(v, tall, wide) for k, v in (("x", x), *sorted(context.items()))}
        many = self._many
        program, _ = self._program({k: (many, *v.shape[1:]) for k, v in inputs.items()})
        places = torch.arange(-(-len(x) // many) * many, device=self.device).clamp_max(len(x) - 1).view(-1, many)
        parts = [self._run(program, [v.index_select(0, at) for v in inputs.values()]) for at in places]
        return self._cut(torch.cat(parts)[: len(x)], height, width)

    @property
    def _many(self) -> int:
        """Samples in one run of a program."""
        return self.batch if self.device.type == "cuda" else 1

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Of the chip, on the network's stride, as which an image is computed."""
        tall, wide = (-(-n // self._stride) * self._stride for n in (height, width))
        return tall, wide

    def exported(self, shapes: Mapping[str, tuple[int, ...]], *, fused: bool = False) -> torch.export.ExportedProgram:
        """The network for inputs of these shapes; ``fused``: with batch normalisations taken into convolutions."""
        with torch.inference_mode(False), torch.no_grad():
            given = {k: v.to(self.device) for k, v in proofs.made_inputs(shapes, 0).items()}
            # a copy, for a network that ran in inference mode is not exported
            network = copy.deepcopy(self._module).to(self.device)
            if fused:
                probe = given["x"][..., : self.shape(PROBE, PROBE)[0], : self.shape(PROBE, PROBE)[1]]
                network = copy.deepcopy(fuse_batch_norms(network, probe))
            cast = self.device.type if self.autocasts and self._how.bf16 else ""
            wrapped = _Positional(network, tuple(given)[1:], cast).eval()
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
            return program([v.contiguous() for v in inputs])
        except RuntimeError as err:
            if out_of_memory(err):
                raise
            raise ModelError(f"{self._signature.name} by {self.name}: failed ({_why(err)})") from err

    def _program(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Program, Proof]:
        """The program for inputs of these shapes, proved. Raises ModelError."""
        key = tuple(shapes.items())
        if key in self._programs:
            self._programs.move_to_end(key)
            return self._programs[key]
        entry = kept(self.name, self._key(shapes), lambda: self._make(shapes))
        if why := entry.known.get("failed"):
            raise ModelError(f"{self._signature.name} by {self.name}: {why}")
        try:
            found = self.load(entry.files, self._threads), entry.known["proof"]
        except Exception as err:  # a library of others may raise anything
            if out_of_memory(err):
                raise
            raise ModelError(f"{self._signature.name} by {self.name}: cannot be loaded ({_why(err)})") from err
        self._programs[key] = found
        if len(self._programs) > LOADED:
            self._programs.popitem(last=False)
        return found

    def _key(self, shapes: Mapping[str, tuple[int, ...]]) -> list[object]:
        int8 = self._signature.int8
        record = int8.model_dump(mode="json") if self._how.int8 and int8 else None
        packages = ("geoml", "torch", "segmentation-models-pytorch", "timm", *self.packages, *(NEEDS if record else ()))
        versions = {name: version(name) for name in packages}
        device = processor()
        if self.device.type == "cuda":
            device = (*device, torch.cuda.get_device_name(self.device), str(torch.version.cuda))
        parts = versions, device, self.precision, self._stride, sorted(shapes.items())
        return [digest_of(self._module, self._signature), *parts, *([record] if record else [])]

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
        record = self._signature.int8
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
        usual = exact = eager.Backend(copy.deepcopy(self._module), self._signature, self._how)
        if self._how.bf16:
            exact = eager.Backend(copy.deepcopy(self._module), self._signature, replace(self._how, bf16=False))

        def converted(x: Tensor, context: Context) -> Tensor:
            inputs = [padded(v, *shapes["x"][2:]) for v in (x, *context.values())]
            return self._cut(self._run(program, inputs), *x.shape[-2:])

        sizes, found, usuals, exacts, seconds = [], [], [], [], []
        for seed, (height, width) in enumerate(self._sizes(*shapes["x"][2:])):
            made = {k: v.to(self.device) for k, v in proofs.made_inputs(shapes, seed + 1).items()}
            inputs = proofs.cut(made, height, width)
            here, ours = proofs.run(converted, inputs)
            there, theirs = proofs.run(usual.forward, inputs)
            found.append(here)
            usuals.append(there)
            exacts.append(there if usual is exact else proofs.run(exact.forward, inputs)[0])
            sizes.append([height, width])
            seconds.append((ours, theirs))
        ours, theirs = map(min, zip(*seconds, strict=True))
        judge = proofs.of_features if self._signature.vector else proofs.of_pixels
        proof, why = judge("bf16" if self._how.bf16 else "fp32", found, usuals, exacts)
        return {"sizes": sizes, **proof, "speed": round(theirs / max(ours, 1e-9), 3)}, why

    def _cut(self, found: Tensor, height: int, width: int) -> Tensor:
        return found if self._signature.vector else found[..., :height, :width]

    def _sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Of what is compared: one on the stride, one off it (or the first again, where every size is on it)."""
        off = max(self._stride // 2, 1) if self._stride > 1 else 0
        return [(height, width), (height - off, width - max(off - 1, min(off, 1)))]


class _Positional(nn.Module):
    """A network whose inputs are known by their place: the image, then what it asks for.

    With ``cast``, a type of device, it computes under bf16 autocast and gives float32.
    """

    def __init__(self, network: nn.Module, names: tuple[str, ...], cast: str = "") -> None:
        super().__init__()
        self.network, self.names, self.cast = network, names, cast

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        named = dict(zip(self.names, context, strict=True))
        if not self.cast:
            found: Tensor = self.network(x, **named)
            return found
        with torch.autocast(self.cast, torch.bfloat16):
            found = self.network(x, **named)
        return found.float()


def by_arrays(run: Callable[[Sequence[NDArray[np.generic]]], NDArray[np.float32]]) -> Program:
    """The program of a library that takes and gives arrays of the host."""
    return lambda inputs: torch.from_numpy(run([v.numpy() for v in inputs]))


def padded(values: Tensor, height: int, width: int) -> Tensor:
    """What has pixels, with its last row and column repeated."""
    if values.ndim != 4 or values.shape[-2:] == (height, width):
        return values
    sides = zip((height, width), values.shape[-2:], strict=True)
    rows, columns = (torch.arange(n, device=values.device).clamp_max(m - 1) for n, m in sides)
    return values.index_select(2, rows).index_select(3, columns)


def _why(err: BaseException) -> str:
    return (str(err).strip().partition("\n")[0] or type(err).__name__)[:200]
