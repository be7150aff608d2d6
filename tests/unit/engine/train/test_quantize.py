"""The program in int8 of a package: what its card says, what is refused, and what a run does with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from geoml.data.recipe import TrainRecipe
from geoml.engine.contract import BACKENDS
from geoml.engine.inference.choice import asked_of_machine, choose_backend
from geoml.engine.packages import calibrate, package
from geoml.engine.packages.package import Package
from geoml.engine.run.planned import changed_fields
from geoml.engine.train import quantize as module
from geoml.engine.train.evaluate import evaluate
from geoml.engine.train.fit import fit
from geoml.engine.train.quantize import quantize
from geoml.errors import InputError, ModelError
from geoml.io.cards.int8 import MOST, Int8Loss
from geoml.io.software import MADE_BY
from tests.unit.engine.conftest import problem_in

INT8 = ("onnx", "openvino")

pytestmark = pytest.mark.slow  # each conversion takes seconds


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainRecipe]:
    folder = tmp_path_factory.mktemp("quantize")
    recipe = problem_in(folder / "data")(epochs=8)
    fit(recipe, folder / "m")
    return folder / "m", recipe


@pytest.fixture(autouse=True)
def _here(machine: Callable[..., None], trained: tuple[Path, TrainRecipe]) -> None:
    """Programs are converted once for all tests of this file."""
    machine(scratch=trained[0].parent / "scratch", device="cpu", precision="fp32")


@pytest.fixture
def ready(trained: tuple[Path, TrainRecipe], monkeypatch: pytest.MonkeyPatch) -> Package:
    """The package with its program in int8, whatever it loses: what is learnt hangs on the processor."""
    monkeypatch.setattr(module, "MOST", 1.0)
    folder, recipe = trained
    if not (folder.parent / "int8").exists():
        quantize(folder, recipe, folder.parent / "int8")
    return package.load(folder.parent / "int8")


def test_the_card_says_what_is_lost_and_the_weights_stay(ready: Package, trained: tuple[Path, TrainRecipe]) -> None:
    folder, recipe = trained
    before, record = package.load(folder), ready.card.int8
    assert record is not None
    assert ready.card.name == "int8"
    assert ready.card.sha256 == before.card.sha256
    assert all(torch.equal(v, before.module.state_dict()[k]) for k, v in ready.module.state_dict().items())
    assert changed_fields(before.card, ready.card) == ["name"]
    scores = evaluate(folder, recipe, "val")
    assert set(record.loss) == set(INT8)
    for loss in record.loss.values():
        assert loss.before == scores["iou"]
        assert set(loss.after) == set(scores["iou"])
        assert loss.lost == pytest.approx(scores["miou"] - np.mean([v or 0 for v in loss.after.values()]))
    assert (record.pixels, record.recipe, record.split) == (scores["pixels"], recipe.hash, "val")
    assert record.chips >= 1
    assert all(low <= high for low, high in record.ranges.values())


def test_the_ranges_are_those_of_the_values_in_the_network(ready: Package, trained: tuple[Path, TrainRecipe]) -> None:
    """The oracle is the network in torch, with its batch normalisations apart, looked at by hooks."""
    folder, recipe = trained
    seen: list[torch.Tensor] = []
    network = package.load(folder).module
    relu = next(m for m in network.modules() if isinstance(m, nn.ReLU))
    relu.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
    from geoml.data.chips import Reader
    from geoml.data.prepare import prepare

    splits = prepare(recipe)
    images = list(module._images(splits["train"], ready.card, Reader()))
    assert ready.card.int8 is not None
    assert len(images) == ready.card.int8.chips
    with torch.no_grad():
        first = []
        for image in images:
            seen.clear()
            network(torch.from_numpy(image[None]))
            first.append(seen[0])
    low, high = ready.card.int8.ranges["relu"]
    assert low == min(float(v.min()) for v in first)
    assert high == pytest.approx(max(float(v.max()) for v in first), rel=1e-4)
    low, high = ready.card.int8.ranges["x"]
    assert (low, high) == pytest.approx((min(i.min() for i in images), max(i.max() for i in images)), rel=1e-5)


def spoil(folder: Path, out: Path) -> None:
    """Each channel larger than the one before, and what reads it as much smaller: the same in fp32, and no range for
    all of them."""
    made = package.load(folder)
    blocks: Any = made.module.get_submodule("net.decoder.blocks")
    with torch.no_grad():
        for block in blocks:
            norm = block.conv1[1]
            factors = torch.logspace(0, 12, len(norm.weight))
            norm.weight *= factors
            norm.bias *= factors
            block.conv2[0].weight /= factors[:, None, None]
    package.save(made.module, made.card, out)


def test_too_large_a_loss_is_not_published(trained: tuple[Path, TrainRecipe]) -> None:
    folder, recipe = trained
    spoil(folder, spoilt := folder.parent / "spoilt")
    scores, usual = (evaluate(f, recipe, "val") for f in (spoilt, folder))
    assert scores["miou"] == pytest.approx(usual["miou"], abs=0.002), "in fp32 it is as good as it was"
    with pytest.raises(ModelError, match=r"int8 by onnx loses [\d.]+ points of mean IoU .*at most 0\.5 are published"):
        quantize(spoilt, recipe, folder.parent / "refused")
    assert not (folder.parent / "refused").exists()


def test_half_a_point_is_the_limit() -> None:
    loss = Int8Loss(before={"a": 0.8, "b": 0.6, "c": None}, after={"a": 0.795, "b": 0.596, "c": 0.0})
    assert loss.lost == pytest.approx(0.0045)
    assert loss.lost < MOST == 0.005
    assert Int8Loss(before={"a": 0.5}, after={"a": None}).lost == 0.5
    with pytest.raises(ValueError, match="one class"):
        Int8Loss(before={"a": None}, after={})


@pytest.mark.parametrize("name", INT8)
def test_a_run_takes_int8_only_when_it_is_asked_for_and_says_so(
    name: str, ready: Package, trained: tuple[Path, TrainRecipe], machine: Callable[..., None]
) -> None:
    usual = choose_backend(ready, 32, asked_of_machine())
    machine(backend=name)
    exact = choose_backend(ready, 32, asked_of_machine())
    machine(backend=name, precision="int8")
    chosen = choose_backend(ready, 32, asked_of_machine())
    x = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch_, fp32, int8 = (c.backend.forward(x) for c in (usual, exact, chosen))
    off = [float((v - torch_).abs().mean() / torch_.abs().mean()) for v in (fp32, int8)]
    assert off[0] < 1e-4 < off[1] < 0.3
    said: Any = chosen.properties[MADE_BY]
    assert (said["name"], said["precision"]) == (name, "int8")
    assert said["proof"]["fp32"]["equal"] >= 0.9999
    assert ready.card.int8 is not None
    before, after = ready.card.int8.loss[name].miou
    assert said["proof"]["loss"] == {"split": "val", "miou": before, "miou_int8": after}
    with pytest.raises(InputError, match="GEOML_PRECISION: 'int8', and tiny has no such program"):
        choose_backend(package.load(trained[0]), 32, asked_of_machine())


def test_what_was_not_measured_or_is_of_another_graph_is_not_run(ready: Package, machine: Callable[..., None]) -> None:
    record = ready.card.int8
    assert record is not None

    def choose(name: str, **changes: object) -> object:
        machine(backend=name, precision="int8")
        changed = ready.card.model_copy(update={"int8": record.model_copy(update=changes)})
        return choose_backend(Package(ready.module, changed, ready.path), 32, asked_of_machine())

    with pytest.raises(InputError, match="not measured in int8 by openvino; expected onnx"):
        choose("openvino", loss={"onnx": record.loss["onnx"]})
    with pytest.raises(ModelError, match="quantize the package again"):
        choose("onnx", graph="0" * 64)
    names = sorted(record.ranges)
    with pytest.raises(ModelError, match="cannot be converted"):
        choose("onnx", ranges={k: record.ranges[k] for k in names[1:]})


@pytest.mark.parametrize("name", ["torch", "auto"])
def test_int8_without_a_back_end_that_has_it_is_an_input_error(name: str, machine: Callable[..., None]) -> None:
    machine(backend=name, precision="int8", device="cpu")
    with pytest.raises(InputError, match="GEOML_PRECISION: 'int8' is for GEOML_BACKEND=openvino or onnx"):
        asked_of_machine()


def test_a_model_that_it_is_not_for_is_refused(
    problem: Callable[..., TrainRecipe], tmp_path: Path, trained: tuple[Path, TrainRecipe]
) -> None:
    folder, _ = trained
    with pytest.raises(InputError, match="bands"):
        quantize(folder, problem(bands=["more", "grey"]), tmp_path / "out")
    with pytest.raises(InputError, match="val is empty"):
        quantize(folder, problem(split={"kind": "files", "test": ["t*"]}), tmp_path / "out")
    difference = calibrate.new("image_difference", ["grey", "more"], 10)
    package.save(difference.module, difference.card, tmp_path / "difference")
    classes = [{"value": c.value, "name": c.name, "color": c.color} for c in difference.card.classes]
    recipe = problem(task="change", dates=2, classes=classes, model={"architecture": "siamese_unet", "config": {}},
                     source={"kind": "change_pairs", "root": ".", "images": ["a", "b"], "labels": "c",
                             "file_bands": ["grey", "more"]})  # fmt: skip
    with pytest.raises(InputError, match="calibrated on each run"):
        quantize(tmp_path / "difference", recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_those_that_compute_in_int8_say_so() -> None:
    assert [n for n in BACKENDS.names() if "int8" in BACKENDS.find(n).Backend.precisions] == list(INT8)
