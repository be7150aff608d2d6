"""The JSON of a program: what it may hold, and what is refused before anything runs."""

from __future__ import annotations

import copy
import io
import json
import time
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from geoml.engine.packages import graph
from geoml.engine.packages.exported import read_program
from geoml.engine.packages.graph import Operand, read_graph
from geoml.engine.packages.plain_texts import check_texts
from geoml.errors import ModelError


class Net(nn.Module):
    """Sums and activations in place on what it makes, a dropout that is none, and sizes that it counts with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("gain", torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu_(self.norm(self.conv(x)))
        y += self.gain
        y = nn.functional.dropout(y, 0.5, self.training)
        half = nn.functional.max_pool2d(y, 2)
        again = nn.functional.interpolate(half, size=y.shape[-2:], mode="bilinear")
        return torch.cat([again, y * 0.5], 1)[:, :3]


def content_of(net: nn.Module, free: dict[int, Any] | None = None) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(net, (torch.zeros(2, 2, 16, 16),), dynamic_shapes=(free,)), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def content() -> bytes:
    auto = torch.export.Dim.AUTO
    return content_of(Net().eval(), {0: auto, 2: auto, 3: auto})


@pytest.fixture(scope="module")
def original(content: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found: dict[str, Any] = json.loads(archive.read(next(n for n in archive.namelist() if "/models/" in n)))
    return found


@pytest.fixture
def program(original: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(original)


def nodes(program: dict[str, Any], target: str = "") -> list[dict[str, Any]]:
    return [n for n in program["graph_module"]["graph"]["nodes"] if target in n["target"]]


def given(node: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(i for i in node["inputs"] if i["name"] == name)
    return found


def test_it_computes_what_the_module_does(content: bytes) -> None:
    module, net = read_program(content, "m"), Net().eval()
    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in net.parameters())
    for shape in ((1, 2, 16, 16), (3, 2, 20, 34)):
        x = torch.randn(*shape)
        with torch.no_grad():
            assert torch.equal(module.net(x), net(x))


def test_the_dropout_is_no_step_and_values_go_when_they_are_not_needed(program: dict[str, Any]) -> None:
    found = read_graph(program, "m")
    assert nodes(program, "dropout")
    assert not [s for s in found.steps if "dropout" in str(s.run)]
    freed = [n for step in found.steps for n in step.done]
    assert len(freed) == len(set(freed))
    assert found.output not in freed
    for k, step in enumerate(found.steps):
        later = {a.number for s in found.steps[k + 1 :] for a in s.args if isinstance(a, Operand)}
        assert not later & set(step.done)


def first(program: dict[str, Any], name: str) -> str:
    """The value that stands for an input whose signature names ``name``."""
    specs = program["graph_module"]["signature"]["input_specs"]
    for spec in specs:
        ((kind, what),) = spec.items()
        if kind == "user_input" and name == kind:
            return str(what["arg"]["as_tensor"]["name"])
        if name in what.values():
            return str(what["arg"]["name"])
    raise AssertionError(name)


def relu_of(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda p: given(nodes(p, "relu_")[0], "self").update(arg={"as_tensor": {"name": first(p, name)}})


def relu_of_view(p: dict[str, Any]) -> None:
    """The input, as it is seen through a view that an operator of ours gives."""
    spare = copy.deepcopy(nodes(p, "slice")[-1])
    given(spare, "self").update(arg={"as_tensor": {"name": first(p, "user_input")}})
    spare["outputs"] = [{"as_tensor": {"name": "seen"}}]
    nodes(p)  # keep the order: before the activation
    all_nodes = p["graph_module"]["graph"]["nodes"]
    at = all_nodes.index(nodes(p, "relu_")[0])
    all_nodes.insert(at, spare)
    given(all_nodes[at + 1], "self").update(arg={"as_tensor": {"name": "seen"}})


@pytest.mark.parametrize(
    "change",
    [relu_of("user_input"), relu_of("conv.weight"), relu_of("gain"), relu_of("norm.running_mean"), relu_of_view],
)
def test_nothing_is_changed_in_place_that_was_given(program: dict[str, Any], change: Callable[..., object]) -> None:
    read_graph(copy.deepcopy(program), "m")
    change(program)
    with pytest.raises(ModelError, match="would change the input or a weight"):
        read_graph(program, "m")


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.empty.memory_format",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.as_strided.default",
        "torch.ops.aten.rand.default",
        "torch.ops.aten.resize_.default",
        "torch.ops.aten.relu.out",
        "torch.ops.prims.empty_strided.default",
        "torch.ops.torchvision.nms.default",
        "torch.ops.mine.relu.default",
        "torch.ops.higher_order.wrap_with_set_grad_enabled",
        "torch.ops.aten.relu",
        "torch.ops.aten.relu.default.default",
        "torch.nn.functional.relu",
        "_operator.attrgetter",
        "_operator.lshift",
        "math.factorial",
        "#extension:op",
        "",
        ["torch.ops.aten.relu.default"],
        None,
    ],
)
def test_other_targets_are_refused(program: dict[str, Any], target: object) -> None:
    nodes(program, "relu_")[0]["target"] = target
    with pytest.raises(ModelError):
        read_graph(program, "m")


GRAPH = {"as_graph": {"name": "sub", "graph": {}}}


@pytest.mark.parametrize(
    "argument",
    [
        {"as_string": "text"},
        {"as_operator": "torch.hub.load"},
        {"as_custom_obj": {"name": "a", "class_fqn": "b"}},
        GRAPH,
        {"as_complex": {"real": 1.0, "imag": 1.0}},
        {"as_tensor": {"name": "not_made_yet"}},
        {"as_tensor": {"name": ["a"]}},
        {"as_int": True},
        {"as_int": 2**63},
        {"as_int": 1.5},
        {"as_float": "1e400"},
        {"as_device": {"type": "cuda"}},
        {"as_scalar_type": 7},
        {"as_int": 1, "as_float": 1.0},
        {},
        None,
        7,
    ],
)
def test_other_arguments_are_refused(program: dict[str, Any], argument: object) -> None:
    for name in ("other", "self"):
        changed = copy.deepcopy(program)
        given(nodes(changed, "mul.Tensor")[0], name)["arg"] = argument
        with pytest.raises(ModelError):
            read_graph(changed, "m")


@pytest.mark.parametrize(
    "change",
    [
        lambda p: given(nodes(p, "batch_norm")[0], "training").update(arg={"as_bool": True}),
        lambda p: given(nodes(p, "dropout")[0], "train").update(arg={"as_bool": True}),
        lambda p: nodes(p, "relu_")[0]["inputs"].append({"name": "out", "arg": {"as_none": True}}),
        lambda p: nodes(p, "relu_")[0]["inputs"].append(nodes(p, "relu_")[0]["inputs"][0]),
        lambda p: nodes(p, "relu_")[0]["inputs"].clear(),
        lambda p: nodes(p, "relu_")[0]["outputs"].clear(),
        lambda p: nodes(p, "relu_")[0].update(outputs=nodes(p)[0]["outputs"]),
        lambda p: p["graph_module"]["graph"]["nodes"].reverse(),
        lambda p: p["graph_module"]["graph"]["inputs"].reverse(),
        lambda p: p["graph_module"]["signature"]["input_specs"].pop(),
        lambda p: p["graph_module"]["signature"].update(
            output_specs=[{"buffer_mutation": {"arg": {"name": "a"}, "buffer_name": "gain"}}]
        ),
        lambda p: p["graph_module"]["graph"].update(outputs=[{"as_tensor": {"name": "nothing"}}]),
        lambda p: p["graph_module"]["graph"].update(outputs=p["graph_module"]["graph"]["outputs"] * 2),
        lambda p: p["graph_module"]["graph"].pop("nodes"),
        lambda p: p.update(graph_module=[]),
        lambda p: p.update(schema_version={"major": 9, "minor": 0}),
    ],
)
def test_other_graphs_are_refused(program: dict[str, Any], change: Callable[..., object]) -> None:
    change(program)
    with pytest.raises(ModelError):
        read_graph(program, "m")


@pytest.mark.parametrize("size", [{"as_ints": [2, 0, 8, 8]}, {"as_ints": [2, 1, 8, 8]}, {"as_ints": []}])
def test_empty_memory_is_made_where_it_has_no_byte_only(program: dict[str, Any], size: dict[str, Any]) -> None:
    node = {
        "target": "torch.ops.aten.empty.memory_format",
        "outputs": [{"as_tensor": {"name": "made"}}],
        "metadata": {},
    }
    node["inputs"] = [{"name": "size", "arg": size}, {"name": "memory_format", "arg": {"as_memory_format": 1}}]
    program["graph_module"]["graph"]["nodes"].insert(0, node)
    if 0 in size["as_ints"]:
        assert str(read_graph(program, "m").steps[0].run) == "aten.zeros.default"
    else:
        with pytest.raises(ModelError, match="empty"):
            read_graph(program, "m")


def test_a_large_graph_takes_time_as_its_nodes_do(program: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    one = nodes(program, "mul.Tensor")[0]
    every = program["graph_module"]["graph"]["nodes"]

    def seconds(count: int) -> float:
        more = [{**one, "outputs": [{"as_tensor": {"name": f"more_{k}"}}]} for k in range(count)]
        large = {**program, "graph_module": {**program["graph_module"]}}
        large["graph_module"]["graph"] = {**program["graph_module"]["graph"], "nodes": every + more}
        start = time.process_time()
        check_texts(large, "m")
        read_graph(large, "m")
        return time.process_time() - start

    with pytest.raises(ModelError, match="nodes; expected at most"):
        seconds(graph.MOST_NODES)
    monkeypatch.setattr(graph, "MOST_NODES", 10**6)
    seconds(100)
    assert seconds(20_000) < 30 * max(seconds(2_000), 0.02)


def test_texts_are_looked_at_at_any_depth() -> None:
    deep: Any = "open('a')"
    for _ in range(50_000):
        deep = [deep]
    with pytest.raises(ModelError, match="only plain tensors"):
        check_texts({"a": deep}, "m")
    check_texts({"guards_code": ["open('a')"], "metadata": {"stack_trace": "open('a')"}, "expr_str": "2*s0 + 1"}, "m")
