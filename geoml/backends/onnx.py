"""ONNX Runtime: networks on any processor, converted for one shape of chips; the extra ``onnx``.

https://onnxruntime.ai. It computes in fp32, whatever the processor is good at, and in int8 when that is asked for. What
is seen of a network for int8 is seen here, for every back end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from geoml.backends._compiled import Compiled, Program, by_arrays, choose_cpu, padded
from geoml.backends._int8 import onnx_runtime, seen_ranges, to_onnx
from geoml.backends.torch import Device
from geoml.errors import InputError, MissingExtra
from geoml.settings import settings

MODEL = "model.onnx"


def choose(precision: str | None = None) -> Device:
    """The processor in fp32 or int8; None asks the settings. Raises MissingExtra without the library, InputError for a
    device or a precision that it does not have."""
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise MissingExtra(f"backend: {missing[0]} is not installed; pip install 'geoml[onnx]'")
    if (precision or settings().precision) == "bf16":
        raise InputError("GEOML_PRECISION: 'bf16'; the back end onnx computes in fp32 or int8; expected auto or fp32")
    return replace(choose_cpu(precision), bf16=False)


@final
class Backend(Compiled):
    """A network on the processor: `geoml.engine.contract.Backend` by ONNX Runtime."""

    name: ClassVar[str] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "onnxscript")
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "int8")

    def convert(self, program: torch.export.ExportedProgram) -> dict[str, bytes]:
        return self.adopt(to_onnx(program))

    def adopt(self, model: bytes) -> dict[str, bytes]:
        return {MODEL: model}

    def calibrate(self, images: Iterable[NDArray[np.float32]]) -> tuple[dict[str, tuple[float, float]], str]:
        """The ranges of the values in the network on (channel, y, x) images of one shape, and the digest of the steps
        that they are of. May raise anything."""
        images = iter(images)
        first = next(images)
        shape = self.shape(*first.shape[-2:])
        program = self.exported({"x": (1, first.shape[0], *shape)}, fused=True)
        chips = (padded(torch.from_numpy(x[None]), *shape).numpy() for x in chain([first], images))
        return seen_ranges(to_onnx(program), chips)

    def load(self, files: Mapping[str, bytes], threads: int) -> Program:
        onnxruntime = onnx_runtime()
        how = onnxruntime.SessionOptions()
        how.intra_op_num_threads, how.inter_op_num_threads = threads, 1
        how.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        how.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(files[MODEL], how, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]

        def run(inputs: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
            try:
                found: NDArray[np.float32] = session.run(None, dict(zip(names, inputs, strict=True)))[0]
            except Exception as err:  # its own classes are not RuntimeError
                raise RuntimeError(f"onnxruntime: {err}") from err
            return found

        return by_arrays(run)
