"""An ONNX file: its graph becomes a torch program, compared with the output of ONNX Runtime.

https://onnx.ai; the extra ``onnx``. Operators outside of a list are refused by name, and so are weights in other
files, of which ONNX knows paths. A last Sigmoid or Softmax is left out, for a package gives logits. What computes in
half precision computes in single. Where the graph computes with the sizes of its input, ONNX Runtime folds that for
chips of one size.
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geoml.engine.importers import _network
from geoml.engine.importers._onnx_file import all_tensors, chances, gives_logits, in_single
from geoml.engine.importers._onnx_steps import STEPS, Unknown
from geoml.engine.importers._published import difference
from geoml.engine.packages.import_options import ImportOptions
from geoml.errors import InputError, MissingExtra, ModelError
from geoml.io.cards.map_card import MapCard
from geoml.texts import listed

WHAT = "an ONNX file"
SMALL = 64
"""Values of a constant that may be sizes, axes or scales."""
STRIDE = 32
"""Sizes that are tried are multiples of it: most encoders halve five times."""


class OnnxNetwork(nn.Module):
    """A graph of ONNX, (batch, band, y, x) float32 to its first output.

    Raises Unknown for an operator that is not known.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        import onnx

        graph = model.graph
        self.constants: dict[str, tuple[str, list[Any] | None]] = {}
        for tensor in graph.initializer:
            self._keep(tensor.name, onnx.numpy_helper.to_array(tensor))
        self.nodes: list[tuple[Any, str, dict[str, Any], list[str], list[str]]] = []
        for node in graph.node:
            about = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant" and "value" in about:
                self._keep(node.output[0], onnx.numpy_helper.to_array(about["value"]))
                continue
            if node.domain not in ("", "ai.onnx") or node.op_type not in STEPS:
                raise Unknown(f"the operator {node.domain or 'ai.onnx'}.{node.op_type}")
            about["outputs"] = len(node.output)
            self.nodes.append((STEPS[node.op_type], node.op_type, about, list(node.input), list(node.output)))
        (self.input,) = [i.name for i in graph.input if i.name not in self.constants]
        self.output = graph.output[0].name

    def _keep(self, name: str, value: Any) -> None:
        tensor = torch.from_numpy(value.copy())
        if tensor.is_floating_point():
            tensor = tensor.float()
        self.register_buffer(f"c{len(self.constants)}", tensor)
        self.constants[name] = f"c{len(self.constants)}", tensor.flatten().tolist() if tensor.numel() <= SMALL else None

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Any] = {self.input: x, "": None}
        for name, (own, small) in self.constants.items():
            values[name] = getattr(self, own)
            values[name].small = small
        for step, _, about, names, outputs in self.nodes:
            found = step(about, *(values[n] for n in names))
            several = found if isinstance(found, list) else [found]
            values.update(zip(outputs, several, strict=False))
        y: Tensor = values[self.output]
        return y


def recognises(source: Path) -> bool:
    """Whether a file looks like one."""
    return source.suffix == ".onnx"


def convert(
    source: str | Path, out: str | Path, asked: ImportOptions, *, seen: _network.Call = _network.as_it_is
) -> MapCard:
    """A package in ``out``; its card. What is compared with the original's is what ``seen`` makes of raw output.

    Raises MissingExtra without onnx and onnxruntime, InputError for a file or options that are missing, ModelError for
    a file that is damaged or holds operators that are not known.
    """
    if missing := [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]:
        raise MissingExtra(f"import: {missing[0]} is not installed; pip install 'geoml[onnx]'")
    path = Path(source)
    try:
        content = path.read_bytes()
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err.strerror}); expected {WHAT}") from err
    whole_file = _parsed(content, path)
    try:
        if in_single(whole_file):
            content = whole_file.SerializeToString()
    except Exception as err:  # of onnx and protobuf, which name no class for tensors that are cut short
        raise ModelError(f"{path}: damaged tensors ({str(err)[:120]})") from err
    channels, outputs, fixed = _described(content, path)
    told = _network.Told(
        description=f"Imported from {path.name}", channels=channels, outputs=outputs, chip_size=fixed,
        stride=1 if fixed else STRIDE, fixed=fixed is not None, training={"imported": "onnx"},
    )  # fmt: skip
    card = _network.card_of(asked, told, out)
    chip = _network.sample(channels, card.chip_size)
    model = _parsed(content, path)
    kind = gives_logits(model)
    changed = model.SerializeToString() if kind else content
    network, whole = _built(changed, path, channels, card.chip_size)
    original = _original(changed, path)
    if kind:
        difference(chances(original(chip), kind), _original(content, path)(chip), _network.TOLERANCE, str(path))
    _network.refuse_chances(original(chip), asked)
    told = told if whole else _network.without_sizes(told)
    return _network.save(network, original, asked, told, out, seen=seen)


def _described(content: bytes, path: Path) -> tuple[int, int | None, int | None]:
    """Bands, channels of the output where they are stated, and the only size of a chip. Raises ModelError."""
    model = _parsed(content, path)
    named = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in named]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != 1:
        raise ModelError(f"{path}: {len(inputs)} inputs; expected one of float32 (batch, band, y, x)")
    dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
    if len(dims) != 4 or dims[1] < 1 or (dims[2] or 0) != (dims[3] or 0):
        raise ModelError(f"{path}: an input of {dims}; expected (batch, band, y, x) with a number of bands and squares")
    out = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    return dims[1], (out[1] or None) if len(out) == 4 else None, dims[2] or None


def _parsed(content: bytes, path: Path) -> Any:
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception as err:  # of protobuf, which has no class of errors that is public
        raise ModelError(f"{path}: damaged or no ONNX ({str(err)[:120]})") from err
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path}: damaged or no ONNX (a graph without operators)")
    if any(t.data_location == onnx.TensorProto.EXTERNAL or t.external_data for t in all_tensors(model)):
        raise InputError(f"{path}: its weights lie in other files; expected them inside (external_data=False)")
    return model


def _built(content: bytes, path: Path, channels: int, size: int) -> tuple[OnnxNetwork, bool]:
    """The network, and whether it takes any size. Raises ModelError, naming what is not known."""
    why: list[str] = []
    for fold in (False, True):
        try:
            part = _folded(content, channels, size) if fold else content
            network = OnnxNetwork(_parsed(part, path)).eval()
            with torch.no_grad():
                network(_network.sample(channels, size))
            return network, not fold
        except (Unknown, ModelError) as err:
            why.append(str(err))
        except (RuntimeError, KeyError, ValueError, TypeError, IndexError) as err:
            why.append(f"{type(err).__name__}: {str(err)[:120]}")
    raise ModelError(f"{path}: not converted: {why[-1]}; known are {listed(sorted(STEPS), most=60)}")


def _folded(content: bytes, channels: int, size: int) -> bytes:
    """The file for one chip of a size, with all that follows from sizes worked out. Raises ModelError."""
    import onnx
    import onnxruntime

    model = onnx.load_model_from_string(content)
    named = {t.name for t in model.graph.initializer}
    (source,) = [i for i in model.graph.input if i.name not in named]
    for dim, n in zip(source.type.tensor_type.shape.dim, (1, channels, size, size), strict=True):
        dim.dim_value = n
    how = onnxruntime.SessionOptions()
    how.log_severity_level = 4
    how.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        how.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        _session(model.SerializeToString(), how)
        return Path(how.optimized_model_filepath).read_bytes()


def _session(content: bytes, how: Any) -> Any:
    """Raises ModelError for what ONNX Runtime does not take, such as a file of a later version."""
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(content, how, providers=["CPUExecutionProvider"])
    except Exception as err:  # its own classes are not RuntimeError
        raise ModelError(f"onnxruntime: {str(err)[-200:]}") from err


def _original(content: bytes, path: Path) -> _network.Call:
    """What ONNX Runtime makes of a chip. Raises ModelError, and so does what it gives."""
    import onnxruntime

    how = onnxruntime.SessionOptions()
    how.log_severity_level = 4
    try:
        session = _session(content, how)
    except ModelError as err:
        raise ModelError(f"{path}: {err}") from err

    def run(x: Tensor) -> Tensor:
        try:
            return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
        except Exception as err:  # its own classes are not RuntimeError
            raise ModelError(f"{path}: fails on {tuple(x.shape)}; onnxruntime: {str(err)[-200:]}") from err

    return run
