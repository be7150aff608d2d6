"""OpenVINO: networks on Intel's and other processors, converted for one shape of chips; the extra ``openvino``.

https://docs.openvino.ai. Precision is what geoml's settings say and never what the library finds good: by itself it
computes in bf16 wherever the processor can, and halves weights when it saves them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from geoml.backends._compiled import Compiled, Program, by_arrays, choose_cpu
from geoml.backends.torch import Device
from geoml.errors import MissingExtra

MODEL, WEIGHTS = "model.xml", "model.bin"
PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Ours, and those of the library: a program in int8 says itself what is, and the rest of it is fp32."""


def choose(precision: str | None = None) -> Device:
    """The processor in ``precision``; None asks the settings. Raises MissingExtra without the library, InputError for a
    device that it does not have."""
    if find_spec("openvino") is None:
        raise MissingExtra("backend: openvino is not installed; pip install 'geoml[openvino]'")
    return choose_cpu(precision)


@cache
def _library() -> Any:
    """The library, which tells nobody that it is used: without its module for that, it does without."""
    told = sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    finally:
        if told is None:
            del sys.modules["openvino_telemetry"]
    return openvino


@final
class Backend(Compiled):
    """A network on the processor: `geoml.engine.contract.Backend` by OpenVINO."""

    name: ClassVar[str] = "openvino"
    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "int8")

    def convert(self, program: torch.export.ExportedProgram) -> dict[str, bytes]:
        """An OpenVINO model with weights in fp32, all shapes fixed."""
        library = _library()
        model = library.convert_model(program)
        shapes = [tuple(p.meta["val"].shape) for p in program.graph.nodes if p.op == "placeholder"]
        model.reshape({i: list(shape) for i, shape in zip(model.inputs, shapes[-len(model.inputs) :], strict=True)})
        return _saved(model)

    def adopt(self, model: bytes) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as folder:
            (path := Path(folder) / "model.onnx").write_bytes(model)
            return _saved(_library().Core().read_model(path))

    def load(self, files: Mapping[str, bytes], threads: int) -> Program:
        library = _library()
        core = library.Core()
        model = core.read_model(model=files[MODEL], weights=files[WEIGHTS])
        how = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # several processes would be pinned to the same cores
        }
        request = core.compile_model(model, "CPU", how).create_infer_request()

        def run(inputs: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
            found: NDArray[np.float32] = request.infer(list(inputs), share_inputs=True)[0]
            return found.copy() if not found.flags.owndata else found

        return by_arrays(run)


def _saved(model: Any) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        _library().save_model(model, Path(folder) / MODEL, compress_to_fp16=False)
        return {name: (Path(folder) / name).read_bytes() for name in (MODEL, WEIGHTS)}
