"""torch.export programs: they load, they agree with the module, and hostile ones do nothing."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from geoml.engine.packages import exported, package
from geoml.errors import ModelError
from geoml.io.cards.map_card import Band, ClassInfo, MapCard

CARD = MapCard(
    name="exported-water",
    architecture="exported",
    bands=(Band(name="vv"), Band(name="vh")),
    gsd=10.0,
    chip_size=32,
    stride=2,
    classes=tuple(ClassInfo(value=k, name=f"class {k}", color="#000000") for k in range(3)),
)


class Net(nn.Module):
    """Down and up again, so that a program with free sizes has expressions in it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)
        return nn.functional.interpolate(y, scale_factor=2.0, mode="nearest")


def program(*, free: bool, batch: int = 2) -> torch.export.ExportedProgram:
    dim = torch.export.Dim
    sizes = {0: dim("b", min=1, max=64), 2: 2 * dim("h", min=4, max=2048), 3: 2 * dim("w", min=4, max=2048)}
    return torch.export.export(
        Net().eval(), (torch.randn(batch, 2, 32, 32),), dynamic_shapes={"x": sizes} if free else None
    )


def load(path: Path) -> exported.Exported:
    return exported.load_exported(path, CARD, path.read_bytes())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    exported.save_exported(program(free=True), CARD, folder)
    return folder


def test_a_program_with_free_sizes_is_measured_and_agrees(made: Path) -> None:
    loaded = package.load(made)
    assert (loaded.card.radius, loaded.card.stride) == (2, 2)
    x = torch.randn(3, 2, 64, 48)
    with torch.no_grad():
        assert torch.equal(loaded.module.eval()(x), Net().eval()(x))


def test_a_program_of_one_size_runs_chip_by_chip(tmp_path: Path) -> None:
    card = exported.save_exported(program(free=False, batch=1), CARD, tmp_path)
    assert (card.radius, card.stride) == (None, 1)
    x = torch.randn(3, 2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(package.load(tmp_path).module(x), Net().eval()(x))


def test_a_program_that_does_not_fit_its_card_is_refused(tmp_path: Path) -> None:
    fixed = program(free=False, batch=1)
    with pytest.raises(ModelError, match="32 x 32 pixels, not 64"):
        exported.save_exported(fixed, CARD.model_copy(update={"chip_size": 64}), tmp_path)
    with pytest.raises(ModelError, match="takes 2 bands, the card lists 1"):
        exported.save_exported(fixed, CARD.model_copy(update={"bands": CARD.bands[:1]}), tmp_path)
    with pytest.raises(ModelError, match="2 channels"):
        exported.save_exported(fixed, CARD.model_copy(update={"classes": CARD.classes[:2]}), tmp_path)
    assert not list(tmp_path.iterdir())


def rewrite(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target


def in_graph(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, bytes]], None]:
    def edit(parts: dict[str, bytes]) -> None:
        name = next(n for n in parts if "/models/" in n)
        graph = json.loads(parts[name])
        change(graph)
        parts[name] = json.dumps(graph).encode()

    return edit


def nodes(graph: dict[str, Any]) -> list[dict[str, Any]]:
    return graph["graph_module"]["graph"]["nodes"]  # type: ignore[no-any-return]


def first_expression(value: Any) -> dict[str, Any]:
    """The first mapping with an ``expr_str`` in a JSON value."""
    stack = [value]
    while stack:
        here = stack.pop()
        if isinstance(here, dict) and "expr_str" in here:
            return here
        stack.extend(here.values() if isinstance(here, dict) else here if isinstance(here, list) else [])
    raise AssertionError("no expression in the program")


CODE = "__import__('os').system('touch executed')"


@pytest.mark.parametrize(
    "change",
    [
        lambda g: nodes(g)[0].update(target="torch.os.system"),
        lambda g: nodes(g)[0].update(target="torch.hub.load"),
        lambda g: nodes(g)[0].update(target="torch.ops.higher_order.cond"),
        lambda g: first_expression(g).update(expr_str=CODE),
        lambda g: first_expression(g).update(expr_str="Symbol('s0', positive=True).__class__"),
        lambda g: g["range_constraints"].update({CODE: {"min_val": 1, "max_val": 2}}),
        lambda g: nodes(g)[0]["inputs"][0].update(name="x=print('hello')"),
        lambda g: g["graph_module"]["signature"]["input_specs"][0].update(note="a'b"),
        lambda g: g["graph_module"]["module_call_graph"][0]["signature"].update(
            in_spec='[1, {"type": "os.path", "context": null, "children_spec": []}]'
        ),
    ],
)
def test_a_graph_that_could_run_code_is_refused(made: Path, tmp_path: Path, change: Callable[..., object]) -> None:
    hostile = rewrite(made / "model.pt2", tmp_path / "h.pt2", in_graph(change))
    with pytest.raises(ModelError, match="only plain tensors and operators"):
        load(hostile)


def test_guards_and_traces_are_dropped_unseen(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def change(graph: dict[str, Any]) -> None:
        graph["guards_code"] = [CODE]
        nodes(graph)[0]["metadata"] = {"stack_trace": CODE}

    hostile = rewrite(made / "model.pt2", tmp_path / "h.pt2", in_graph(change))
    with torch.no_grad():
        load(hostile)(torch.zeros(1, 2, 32, 32))
    assert not (tmp_path / "executed").exists()


def test_pickled_parts_are_dropped_or_refused(made: Path, tmp_path: Path, trap: bytes) -> None:
    def sample_inputs(parts: dict[str, bytes]) -> None:
        parts[next(n for n in parts if "sample_inputs" in n)] = trap

    load(rewrite(made / "model.pt2", tmp_path / "s.pt2", sample_inputs))

    def pickled(parts: dict[str, bytes]) -> None:
        name = next(n for n in parts if n.endswith("weights_config.json"))
        config = json.loads(parts[name])
        next(iter(config["config"].values()))["use_pickle"] = True
        parts[name] = json.dumps(config).encode()

    def opaque(parts: dict[str, bytes]) -> None:
        name = next(n for n in parts if n.endswith("constants_config.json"))
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False, "tensor_meta": None}
        parts[name] = json.dumps({"config": {"x": entry}}).encode()
        parts["archive/data/constants/opaque_obj_0"] = trap

    def legacy(parts: dict[str, bytes]) -> None:
        parts["archive/data/weights/model.pt"] = trap

    def native(parts: dict[str, bytes]) -> None:
        parts["archive/data/aotinductor/model/model.so"] = b"\x7fELF"

    for k, change in enumerate((pickled, opaque, legacy, native)):
        with pytest.raises(ModelError, match=r"pickled|plain program"):
            load(rewrite(made / "model.pt2", tmp_path / f"{k}.pt2", change))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip", pickle.dumps([1])])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.pt2").write_bytes(content)
    with pytest.raises(ModelError, match=r"not a \.pt2 archive"):
        load(tmp_path / "m.pt2")


def test_an_archive_without_a_program_and_a_damaged_one_are_refused(made: Path, tmp_path: Path) -> None:
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("archive/archive_format", "pt2")
    (tmp_path / "m.pt2").write_bytes(empty.getvalue())
    with pytest.raises(ModelError, match="0 programs"):
        load(tmp_path / "m.pt2")

    def lose(parts: dict[str, bytes]) -> None:
        del parts["archive/data/weights/weight_0"]

    lost = rewrite(made / "model.pt2", tmp_path / "l.pt2", lose)
    with pytest.raises(ModelError, match=r"not a torch\.export program"):
        load(lost)
