"""TensorRT: networks as one engine for one NVIDIA GPU, by Torch-TensorRT; the extra ``tensorrt``.

https://docs.pytorch.org/TensorRT. The engine is kept as bytes and run by TensorRT alone: a network with a step that it
does not have cannot be converted, and none of it runs elsewhere in silence. fp32 is without TF32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from geoml.backends import torch as eager
from geoml.backends._batches import Batches
from geoml.backends._compiled import Compiled, Program
from geoml.backends.torch import Device
from geoml.errors import InputError, MissingExtra

ENGINE = "model.engine"


def choose(precision: str | None = None) -> Device:
    """The GPU of the settings in ``precision``; None asks them too. Raises MissingExtra without the library, InputError
    without a CUDA device and for a precision that it does not have."""
    missing = [name for name in ("torch_tensorrt", "tensorrt") if find_spec(name) is None]
    if missing:
        raise MissingExtra(f"backend: {missing[0]} is not installed; pip install 'geoml[tensorrt]'")
    found = eager.choose(None, precision)
    if found.torch.type != "cuda":
        raise InputError(f"GEOML_DEVICE: {found.torch.type!r}; the back end tensorrt computes on cuda")
    return found


@final
class Backend(Compiled):
    """A network on an NVIDIA GPU: `geoml.engine.contract.Backend` by TensorRT."""

    name: ClassVar[str] = "tensorrt"
    packages: ClassVar[tuple[str, ...]] = ("torch-tensorrt", "tensorrt")
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    auto: ClassVar[tuple[str, ...]] = ("cuda",)
    failures = Batches.failures  # nothing of it computes on the processor

    def convert(self, program: torch.export.ExportedProgram) -> dict[str, bytes]:
        import torch_tensorrt

        precisions = {torch.float32, torch.bfloat16} if self.precision == "bf16" else {torch.float32}
        engine = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
            program, arg_inputs=program.example_inputs[0], enabled_precisions=precisions, disable_tf32=True
        )
        return {ENGINE: bytes(engine)}

    def load(self, files: Mapping[str, bytes], threads: int) -> Program:
        import tensorrt

        # the engine stays alive with the context that `run` holds
        runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
        if (engine := runtime.deserialize_cuda_engine(files[ENGINE])) is None:
            raise RuntimeError("tensorrt: the engine is of another version or device")
        context: Any = engine.create_execution_context()
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        taken = [n for n in names if engine.get_tensor_mode(n) == tensorrt.TensorIOMode.INPUT]
        (given,) = (n for n in names if n not in taken)
        shape = tuple(engine.get_tensor_shape(given))

        def run(inputs: Sequence[Tensor]) -> Tensor:
            found = torch.empty(shape, device=self.device)
            tensors = [*zip(taken, inputs, strict=True), (given, found)]
            for name, tensor in tensors:
                context.set_tensor_address(name, tensor.data_ptr())
            stream = torch.cuda.current_stream(self.device)
            if not context.execute_async_v3(stream.cuda_stream):
                raise RuntimeError("tensorrt: the engine failed")
            for _, tensor in tensors:
                tensor.record_stream(stream)  # its memory is not given away before the engine is through
            return found

        return run
