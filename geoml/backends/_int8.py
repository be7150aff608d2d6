"""Networks in integers of eight bits, by the quantisation of ONNX Runtime after training (static, QDQ).

The ranges of values are seen once, on training data (`seen_ranges`), and stand in the card; a program of any shape of
chips is made of them (`quantised`). Weights have a scale for each channel and seven bits, so that sums of pairs do not
saturate on processors without VNNI (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html) and
the loss that was measured holds there too. The last convolution and what follows it stay in fp32: eight bits of raw
output would make ties of classes.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoml.errors import MissingExtra
from geoml.io.cards.int8 import Int8

STEPS = ("Conv", "Relu", "Clip", "MaxPool", "Concat", "Resize", "Add")
"""Kinds that compute in int8. Without its activation a convolution would have the range before it."""
NEEDS = ("onnx", "onnxruntime", "onnxscript")
"""Distributions, and modules, that make programs in int8, whoever runs them."""
PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}
"""What says to the library that nothing is left to fuse, as `geoml.nn.fusion` has done it."""


def check_installed() -> None:
    """Raise MissingExtra if what makes programs in int8 is absent."""
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise MissingExtra(f"GEOML_PRECISION: int8 needs {missing[0]}; pip install 'geoml[onnx]'")


@cache
def onnx_runtime() -> Any:
    """The library with its quantisation, which tells nobody that it is used: its wheels for Linux report to
    their maker unless the environment says no before they are loaded (its Privacy.md)."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime
    import onnxruntime.quantization

    onnxruntime.disable_telemetry_events()  # where another one has loaded it before
    return onnxruntime


def to_onnx(program: torch.export.ExportedProgram) -> bytes:
    """An ONNX model with its weights inside and what is constant computed, so that a bias is no computation."""
    made = torch.onnx.export(program, dynamo=True, optimize=True, verbose=False)
    assert made is not None
    content: bytes = made.model_proto.SerializeToString()
    return content


def seen_ranges(model: bytes, images: Iterable[NDArray[np.float32]]) -> tuple[dict[str, tuple[float, float]], str]:
    """The least and the largest value of each tensor on ``images``, and the digest of the steps they are of.

    Images have the shape of the model's input.
    """
    library = onnx_runtime().quantization

    loaded, steps, _ = _steps(model)
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "model.onnx").write_bytes(loaded.SerializeToString())
        augmented = str(Path(folder) / "augmented.onnx")
        watched = library.create_calibrator(path, list(STEPS), augmented, library.CalibrationMethod.MinMax)
        watched.collect_data(_Images(loaded.graph.input[0].name, iter(images)))
        found = watched.compute_data()
    sides = {k: [float(f"{np.asarray(v).item():.7g}") for v in t.range_value] for k, t in found.items()}
    return {k: (low, high) for k, (low, high) in sorted(sides.items())}, steps


def quantised(model: bytes, record: Int8) -> bytes:
    """The program in int8 of a model of any shape of chips, by the ranges of the card.

    Raises ValueError if the ranges are of other steps, as another version of torch may write them.
    """
    library = onnx_runtime().quantization
    loaded, steps, left = _steps(model)
    if steps != record.graph:
        raise ValueError("its ranges are of other steps than this geoml and torch make; quantize the package again")
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "model.onnx").write_bytes(loaded.SerializeToString())
        sides = {
            k: library.TensorData(lowest=np.float32(a), highest=np.float32(b)) for k, (a, b) in record.ranges.items()
        }
        library.save_tensors_data(
            library.TensorsData(library.CalibrationMethod.MinMax, sides), ranges := Path(folder) / "ranges.json"
        )
        library.quantize_static(
            path, to := Path(folder) / "int8.onnx", None, quant_format=library.QuantFormat.QDQ,
            op_types_to_quantize=[*STEPS], nodes_to_exclude=left, calibration_cache_path=ranges,
            activation_type=library.QuantType.QUInt8, weight_type=library.QuantType.QInt8,
            per_channel=True, reduce_range=True,
        )  # fmt: skip
        return to.read_bytes()


@dataclass
class _Images:
    """As the library reads them, one after the other."""

    name: str
    left: Iterator[NDArray[np.float32]]

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return None if (image := next(self.left, None)) is None else {self.name: image}


def _steps(model: bytes) -> tuple[Any, str, list[str]]:
    """The model, the digest of its quantised steps, and the names of those from the last convolution on."""
    import onnx

    loaded = onnx.load_from_string(model)
    for key, value in PREPARED.items():
        loaded.metadata_props.add(key=key, value=value)
    nodes = list(loaded.graph.node)
    last = max((k for k, node in enumerate(nodes) if node.op_type == "Conv"), default=len(nodes))
    steps = [(n.op_type, list(n.input), list(n.output)) for n in nodes[:last] if n.op_type in STEPS]
    digest = hashlib.sha256(json.dumps(steps).encode()).hexdigest()
    return loaded, digest, [n.name for n in nodes[last:]]
