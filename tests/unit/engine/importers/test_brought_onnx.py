"""ONNX files that end in probabilities, keep tensors elsewhere, or are of a later version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from geoml.engine import importers
from geoml.engine.packages import cards, exported, package
from geoml.engine.packages.import_options import ImportOptions
from geoml.engine.packages.measure import ReceptiveField
from geoml.errors import InputError, ModelError

pytestmark = pytest.mark.usefixtures("unmeasured")
TOLD: dict[str, Any] = {"bands": ["red,nir"], "gsd": 10, "scale": 1, "chip_size": 64}
ENDS = {
    "a sigmoid": ("Sigmoid",),
    "a sigmoid that is passed on": ("Sigmoid", "Identity"),
    "a sigmoid that is cast": ("Sigmoid", "Cast"),
    "a sigmoid of which rows are columns": ("Sigmoid", "Transpose"),
}


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receptive fields take seconds and have tests of their own."""
    monkeypatch.setattr(exported, "measure", lambda module, bands, stride, sizes: ReceptiveField(None, stride))


def file(path: Path, *ends: str, outputs: int = 1, strong: float = 4.0) -> Path:
    """A convolution with strong weights, and the operators ``ends`` one after the other."""
    random = np.random.default_rng(0)
    tensors = {"w": random.normal(0, strong, (outputs, 2, 3, 3)), "b": random.normal(0, 1, outputs)}
    more: dict[str, dict[str, Any]] = {"Cast": {"to": 1}, "Transpose": {"perm": [0, 1, 3, 2]}, "Softmax": {"axis": 1}}
    names = [f"v{k}" for k in range(len(ends))] + ["y"]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], names[:1], kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
    nodes += [
        helper.make_node(e, [i], [o], **more.get(e, {})) for e, i, o in zip(ends, names[:-1], names[1:], strict=True)
    ]
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "s", "s"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs, "s", "s"])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in tensors.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def brought(path: Path, out: Path, classes: str, **told: Any) -> None:
    importers.convert(str(path), Path(), out, ImportOptions.model_validate({**TOLD, "classes": [classes], **told}))


def classes_of(out: Path, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = package.load(out).module(x).argmax(1)
    return found


def runtime(path: Path, x: torch.Tensor) -> torch.Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


@pytest.mark.parametrize("name", ENDS)
def test_of_a_sigmoid_a_pixel_is_the_second_class_where_its_chance_is_above_half(tmp_path: Path, name: str) -> None:
    path = file(tmp_path / "net.onnx", *ENDS[name])
    brought(path, tmp_path / "out", "land,water")
    assert cards.read_any(tmp_path / "out").parameters == 2 * 3 * 3 + 1, "which are buffers of the program"
    x = torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(5))
    truth = (runtime(path, x)[:, 0] > 0.5).long()
    assert 0.2 < truth.double().mean() < 0.8
    assert torch.equal(classes_of(tmp_path / "out", x), truth)


@pytest.mark.parametrize("ends", [("Softmax",), ("Softmax", "Identity"), ("Softmax", "Cast")])
def test_of_a_softmax_the_logits_give_its_chances(tmp_path: Path, ends: tuple[str, ...]) -> None:
    path = file(tmp_path / "net.onnx", *ends, outputs=3)
    brought(path, tmp_path / "out", "land,water,ice")
    x = torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        found = package.load(tmp_path / "out").module(x)
    torch.testing.assert_close(found.softmax(1), runtime(path, x), atol=1e-5, rtol=0)
    assert torch.equal(found.argmax(1), runtime(path, x).argmax(1))


def test_chances_that_are_made_otherwise_are_refused_unless_they_are_logits(tmp_path: Path) -> None:
    path = file(tmp_path / "net.onnx", "HardSigmoid")
    with pytest.raises(InputError, match="looks like probabilities; expected logits"):
        brought(path, tmp_path / "out", "land,water")
    assert not (tmp_path / "out").exists()
    brought(path, tmp_path / "out", "land,water", logits=True)


class Chances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv2d(2, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x).softmax(1)


def test_a_program_that_gives_chances_is_refused_unless_they_are_logits(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Chances().eval(), (torch.randn(1, 2, 64, 64),)), tmp_path / "net.pt2")
    with pytest.raises(InputError, match="looks like probabilities; expected logits"):
        brought(tmp_path / "net.pt2", tmp_path / "out", "land,water,ice")
    assert not (tmp_path / "out").exists()
    brought(tmp_path / "net.pt2", tmp_path / "out", "land,water,ice", logits=True)


def elsewhere(tensor: TensorProto) -> TensorProto:
    """A tensor that says that its values lie in a file that is not there."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


@pytest.mark.parametrize("place", ["constant", "sparse"])
def test_tensors_in_other_files_are_refused_wherever_they_are_named(tmp_path: Path, place: str) -> None:
    path = file(tmp_path / "net.onnx", "Identity")
    model = onnx.load_model_from_string(path.read_bytes())
    one = elsewhere(numpy_helper.from_array(np.ones(4, np.float32), "k"))
    if place == "constant":
        node = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones(4, np.float32)))
        node.attribute[0].t.CopyFrom(one)
        model.graph.node.insert(0, node)
    else:
        indices = numpy_helper.from_array(np.arange(4), "k_indices")
        model.graph.sparse_initializer.add().CopyFrom(helper.make_sparse_tensor(one, indices, [8]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="weights lie in other files"):
        brought(path, tmp_path / "out", "land,water")


def test_a_file_of_a_later_version_is_a_model_error_that_names_it(tmp_path: Path) -> None:
    path = file(tmp_path / "net.onnx", "Identity")
    model = onnx.load_model_from_string(path.read_bytes())
    model.ir_version = 99
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"net\.onnx: onnxruntime: .*IR version: 99"):
        brought(path, tmp_path / "out", "land,water")


def test_a_tensor_of_half_precision_that_is_cut_short_is_damaged(tmp_path: Path) -> None:
    path = file(tmp_path / "net.onnx")
    model = onnx.load_model(path)
    model.graph.initializer[0].data_type = TensorProto.FLOAT16
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:7]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"net\.onnx: damaged tensors"):
        brought(path, tmp_path / "out", "land,water")


def test_weights_of_half_precision_are_computed_in_single(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weight, bias = (random.normal(0, 4, shape).astype(np.float16) for shape in ((2, 2, 3, 3), (2,)))
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["half", "w", "b"], ["z"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float16(2.0))),
        helper.make_node("Mul", ["z", "two"], ["y"]),
    ]
    kinds = {"x": TensorProto.FLOAT, "y": TensorProto.FLOAT16}
    given, found = (helper.make_tensor_value_info(k, t, ["n", 2, "s", "s"]) for k, t in kinds.items())
    tensors = [numpy_helper.from_array(v, k) for k, v in (("w", weight), ("b", bias))]
    graph = helper.make_graph(nodes, "net", [given], [found], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "half.onnx").write_bytes(model.SerializeToString())
    brought(tmp_path / "half.onnx", tmp_path / "out", "land,water")
    x = torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(5))
    single = [torch.from_numpy(v.astype(np.float32)) for v in (weight, bias)]
    expected = 2 * nn.functional.conv2d(x, *single, padding=1)
    with torch.no_grad():
        torch.testing.assert_close(package.load(tmp_path / "out").module(x), expected, rtol=1e-5, atol=1e-4)
