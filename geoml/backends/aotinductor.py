"""AOTInductor: PyTorch's own compiler ahead of time, for CUDA and, with a C++ compiler, for any processor.

https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html. The program is machine code; it is kept as the
others are, in the scratch folder that nobody else can write to. Compiling takes minutes, so on a processor it is used
where it is named, and ``auto`` does not try it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from geoml.backends import torch as eager
from geoml.backends._batches import Batches
from geoml.backends._compiled import Compiled, Program
from geoml.backends.torch import Device
from geoml.errors import InputError, MissingExtra

MODEL = "model.pt2"


def choose(precision: str | None = None) -> Device:
    """The device of the settings in ``precision``; None asks them too. Raises MissingExtra without a C++ compiler,
    InputError for a device or a precision that it does not have."""
    found = eager.choose(None, precision)
    if found.torch.type not in ("cpu", "cuda"):
        raise InputError(f"GEOML_DEVICE: {found.torch.type!r}; the back end aotinductor computes on cpu or cuda")
    if shutil.which(compiler := os.environ.get("CXX", "g++")) is None:
        raise MissingExtra(
            f"backend: aotinductor compiles with {compiler}, which is not installed; install it, or set CXX"
        )
    return found


@final
class Backend(Compiled):
    """A network on a processor or a GPU: `geoml.engine.contract.Backend` by AOTInductor."""

    name: ClassVar[str] = "aotinductor"
    packages: ClassVar[tuple[str, ...]] = ()
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    auto: ClassVar[tuple[str, ...]] = ("cuda",)
    autocasts: ClassVar[bool] = True
    failures = Batches.failures  # its threads are those of torch

    def convert(self, program: torch.export.ExportedProgram) -> dict[str, bytes]:
        from torch._inductor import aoti_compile_and_package
        from torch._inductor.utils import fresh_cache

        how: dict[str, Any] = {"compile_threads": 1, "cpp.dynamic_threads": True}
        if self.device.type == "cpu":
            how["freezing"] = True  # weights in the layout of its convolutions, batch normalisations fused
        with tempfile.TemporaryDirectory() as folder, fresh_cache(), torch.no_grad():
            path = aoti_compile_and_package(program, package_path=f"{folder}/{MODEL}", inductor_configs=how)
            return {MODEL: Path(path).read_bytes()}

    def load(self, files: Mapping[str, bytes], threads: int) -> Program:
        from torch._inductor import aoti_load_package

        with tempfile.TemporaryDirectory() as folder:
            (path := Path(folder) / MODEL).write_bytes(files[MODEL])
            index = (self.device.index or 0) if self.device.type == "cuda" else -1
            compiled = aoti_load_package(str(path), device_index=index)

        def run(inputs: Sequence[Tensor]) -> Tensor:
            found: Tensor = compiled(*inputs)
            return found

        return run
