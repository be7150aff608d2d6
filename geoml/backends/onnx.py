"""ONNX Runtime: networks on any processor, converted for one shape of chips; the extra ``onnx``.

https://onnxruntime.ai. It computes in fp32, whatever the processor is good at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from geoml.backends._compiled import Compiled, Program, choose_cpu
from geoml.backends.torch import Device
from geoml.errors import InputError, MissingExtra
from geoml.settings import settings

MODEL = "model.onnx"


def choose() -> Device:
    """The processor in fp32. Raises MissingExtra without the library, InputError for a device or a precision that it
    does not have."""
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise MissingExtra(f"backend: {missing[0]} is not installed; pip install 'geoml[onnx]'")
    if settings().precision == "bf16":
        raise InputError("GEOML_PRECISION: 'bf16'; the back end onnx computes in fp32; expected auto or fp32")
    return replace(choose_cpu(), bf16=False)


@final
class Backend(Compiled):
    """A network on the processor: `geoml.engine.contract.Backend` by ONNX Runtime."""

    name: ClassVar[str] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "onnxscript")

    def convert(self, program: torch.export.ExportedProgram) -> dict[str, bytes]:
        """An ONNX model with its weights inside. The library fuses layers when it loads them, so nothing does here."""
        made = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False)
        assert made is not None
        return {MODEL: made.model_proto.SerializeToString()}

    def load(self, files: Mapping[str, bytes], threads: int) -> Program:
        import onnxruntime

        how = onnxruntime.SessionOptions()
        how.intra_op_num_threads, how.inter_op_num_threads = threads, 1
        how.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        how.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(files[MODEL], how, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]

        def run(inputs: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
            try:
                found: NDArray[np.float32] = session.run(None, dict(zip(names, inputs, strict=True)))[0]
            except Exception as err:  # its own classes are no RuntimeError
                raise RuntimeError(f"onnxruntime: {err}") from err
            return found

        return run
