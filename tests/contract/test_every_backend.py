"""What every file in geoml/backends promises; a new file gets these tests without another edit."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geoml import models, testing
from geoml.backends._compiled import Compiled
from geoml.backends._proof import made_inputs
from geoml.engine.contract import BACKENDS, Backend
from geoml.engine.packages import package
from geoml.errors import InputError, MissingExtra, ModelError, TransientError
from geoml.grid.plane import Window
from geoml.io.cards.int8 import Int8, Int8Loss
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.io.cards.signature import Signature
from tests.contract.lessons import lesson_of

STRIDE = 8
CONFIG = {"encoder": "resnet18", "depth": 3, "decoder_channels": (16, 16, 8)}
CARD = testing.card("made", ["red", "nir"], ["low", "high"], stride=STRIDE, config=CONFIG)


@pytest.fixture(scope="module", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is converted once is found by the next test, and by no other run."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("scratch")
        patch.setenv("GEOML_SCRATCH", str(folder))
        yield folder


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return package.build(CARD).eval()


LACKS: dict[str, Callable[[], str]] = {
    "aotinductor": lambda: "" if shutil.which(os.environ.get("CXX", "g++")) else "no C++ compiler is installed",
    "tensorrt": lambda: "it computes on NVIDIA GPUs alone: tests/gpu",
}
"""Why one cannot run on this machine's processor, as seen here and not by its own file; every other one has to."""


def each(names: Iterable[str], *, slowly: bool = False) -> list[Any]:
    """Back ends as parameters. What runs on GPUs alone may be skipped without one; ``slowly`` puts those that compile
    for minutes into the second stage."""
    found = []
    for name in names:
        marks = [pytest.mark.gpu] if name == "tensorrt" else []
        if slowly and BACKENDS.find(name).Backend.auto == ("cuda",):
            marks.append(pytest.mark.slow)
        found.append(pytest.param(name, marks=marks))
    return found


def chosen(name: str, *precision: str) -> Any:
    """What the file of a back end chooses; where it cannot run it is refused, and the test skipped with the reason."""
    file = BACKENDS.find(name)
    if why := LACKS.get(name, str)():
        with pytest.raises((InputError, MissingExtra), match=name):
            file.choose(*precision)
        pytest.skip(f"{name}: {why}")
    return file.choose(*precision)


@pytest.fixture(params=each(BACKENDS.names(), slowly=True))
def backend(request: pytest.FixtureRequest, network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Backend:
    monkeypatch.setenv("GEOML_DEVICE", "cpu")
    monkeypatch.setenv("GEOML_PRECISION", "fp32")
    file = BACKENDS.find(request.param)
    made: Backend = file.Backend(copy.deepcopy(network), CARD.signature, chosen(request.param))
    return made


def test_is_found_by_its_file_and_says_what_the_machine_gives(backend: Backend) -> None:
    file = BACKENDS.find(backend.name)
    assert hash(file.choose()) == hash(file.choose())  # a model is loaded once for each
    assert backend.batch >= 1
    assert backend.side == 0


@torch.inference_mode()
def test_gives_what_the_network_gives(backend: Backend, network: nn.Module) -> None:
    for shape in ((1, 2, 64, 64), (3, 2, 61, 58)):  # on the stride and off it
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        found = backend.forward(backend.upload(x.numpy()))
        expected = network(x)
        assert found.shape == expected.shape
        assert found.device == backend.device
        assert (found.cpu() - expected).abs().max() < 1e-4 * expected.abs().max()


class Masked(nn.Module):
    """What is not looked at is 0."""

    stride = 1

    def forward(self, x: Tensor, looks: Tensor | None = None) -> Tensor:
        return x if looks is None else x * looks


@pytest.mark.parametrize("name", each(BACKENDS.names(), slowly=True))
@torch.inference_mode()
def test_what_the_network_asks_for_reaches_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOML_DEVICE", "cpu")
    file = BACKENDS.find(name)
    made: Backend = file.Backend(Masked(), CARD.signature, chosen(name))
    assert made.asks == {"looks"}
    x = made.upload(np.ones((2, 2, 64, 64), np.float32))
    looks = np.arange(2 * 2 * 64 * 64).reshape(2, 2, 64, 64) % 3 == 0
    assert bool((made.forward(x) == 1).all())
    np.testing.assert_array_equal(made.forward(x, {"looks": made.upload(looks)}).cpu(), looks)


def test_arrays_come_back_as_they_went_and_in_order(backend: Backend) -> None:
    arrays = [np.random.default_rng(k).integers(0, 250, (2, 5, 7), np.uint8) for k in range(3)]
    transposed = [a.transpose(0, 2, 1) for a in arrays]  # not contiguous

    def strips() -> Iterator[tuple[int, list[Tensor]]]:
        for k, array in enumerate(transposed):
            yield k, [backend.upload(array), backend.upload(array[0] > 100)]

    found = list(backend.download(strips()))
    assert [k for k, _ in found] == [0, 1, 2]
    for (_, (one, two)), array in zip(found, transposed, strict=True):
        np.testing.assert_array_equal(one, array)
        np.testing.assert_array_equal(two, array[0] > 100)


def windows(count: int, side: int = 256) -> list[Window]:
    return [Window(0, k * side, side, (k + 1) * side) for k in range(count)]


def test_every_window_is_done_once_and_in_order_in_batches_of_one_shape(backend: Backend) -> None:
    todo = [*windows(3), Window(0, 768, 256, 800)]
    found = list(backend.each(todo, lambda batch: [w.shape for w in batch], STRIDE, free=True))
    assert [w for batch, _ in found for w in batch] == todo
    assert all(len(set(shapes)) == 1 for _, shapes in found)


@pytest.mark.parametrize("free", [True, False])
def test_what_does_not_fit_is_halved_and_stays_so(backend: Backend, free: bool) -> None:
    backend.batch, tried = 4, []
    free = free and not backend.fixed
    most = 128 * 128 if free else 256 * 256

    def work(batch: list[Window]) -> int:
        tried.append(len(batch) * int(np.prod(batch[0].shape)))
        if tried[-1] > most:
            raise MemoryError
        return tried[-1]

    done = [w for batch, _ in backend.each(windows(4), work, STRIDE, free=free) for w in batch]
    assert sum(int(np.prod(w.shape)) for w in done) == 4 * 256 * 256  # nothing twice, nothing left out
    assert sum(w.intersect(v).empty for w in done for v in done if w != v) == len(done) * (len(done) - 1)
    assert all(v % STRIDE == 0 for w in done for v in (w.y0, w.x0, w.y1, w.x1))
    assert (backend.batch, backend.side) == ((1, 128) if free else (1, 0))
    failed = [n for n in tried if n > most]
    assert len(failed) <= 4
    tried.clear()
    assert list(backend.each(windows(2), work, STRIDE, free=free))
    assert max(tried) <= most, "what was halved stays so"


def test_without_memory_for_a_single_window_it_says_so(backend: Backend) -> None:
    def work(batch: list[Window]) -> None:
        torch.empty(2**46, dtype=torch.uint8)

    with pytest.raises(TransientError, match="not enough memory for a single chip"), backend.failures():
        list(backend.each(windows(2), work, STRIDE, free=True))
    with pytest.raises(ValueError, match="another"), backend.failures():
        raise ValueError("another")  # what is no business of the device's stays as it is


class Colours(nn.Module):
    """(B, 2, y, x) to (B, 12): means of what a layer gives over the quarters of an image; no pixel of it comes back."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(2, 3, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(self.layer(x).relu(), 2).flatten(1)


FEATURES = Signature("colours", 2, 36, vector=True)


@pytest.mark.parametrize("name", each(BACKENDS.names(), slowly=True))
@torch.inference_mode()
def test_features_are_those_of_the_network_and_of_images_as_large_as_they_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No padding to a stride: it would enter the means."""
    monkeypatch.setenv("GEOML_DEVICE", "cpu")
    monkeypatch.setenv("GEOML_PRECISION", "fp32")
    file, network = BACKENDS.find(name), Colours().eval()
    made: Backend = file.Backend(copy.deepcopy(network), FEATURES, chosen(name))
    proof = made.prove(36)
    assert proof is None or (proof["sizes"] == [[36, 36], [36, 36]] and proof["distance"] < 1e-4)
    x = made.upload(np.random.default_rng(0).normal(size=(3, 2, 36, 36)).astype(np.float32))
    found = made.forward(x)
    assert found.shape == (3, 12)
    torch.testing.assert_close(found.cpu(), network(x.cpu()), rtol=1e-4, atol=1e-5)


CONVERTED = [name for name in BACKENDS.names() if issubclass(BACKENDS.find(name).Backend, Compiled)]
"""Those that run what a library has made of a network."""


def tiny(name: str) -> tuple[nn.Module, MapCard]:
    """A small network of an architecture with statistics of real batches in its norms, and its card."""
    file = models.find(name)
    dates = 2 if "dates" in file.Config.__dataclass_fields__ else 1
    count = min(3, max(file.Config.class_counts)) if models.calibrated(name) else 3
    fixed = models.fixed_by_data(name, 3, dates, lesson_of(file.TASKS[0]).channels(count))
    torch.manual_seed(0)
    module = models.build(name, {**file.TINY, **fixed}).train()
    with torch.no_grad():
        for _ in range(3):
            module(torch.randn(2, 3 * dates, 64, 64))
    card = MapCard(
        name=name,
        architecture=name,
        config={**file.TINY, **fixed},
        task=file.TASKS[0],
        bands=tuple(Band(name=b) for b in ("red", "green", "blue")),
        gsd=10.0,
        dates=dates,
        chip_size=64,
        stride=module.stride,
        classes=tuple(ClassInfo(value=k, name=f"class {k}", color="#102030") for k in range(count)),
    )
    return module.eval(), card


FEW = ("unet", "siamese_unet", "yolov8")
"""Models for back ends of GPUs: on a processor a compiler works for each of them for a minute."""


def pairs() -> list[Any]:
    """Every model with every back end, as far as time allows."""
    return [
        pytest.param(model, name.values[0], marks=name.marks)
        for name in each(CONVERTED)
        for model in models.names()
        if set(models.find(model).TASKS) - {"forecast", "point_classes"}  # these, and what is of no task, torch runs
        if model in FEW or BACKENDS.find(str(name.values[0])).Backend.auto != ("cuda",)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backend_name"), pairs())
@torch.inference_mode()
def test_every_model_says_what_it_says_in_torch(name: str, backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the stride and off it, by one process: classes as those of fp32, after its own proof has passed."""
    monkeypatch.setenv("GEOML_PRECISION", "fp32")
    module, card = tiny(name)
    file = BACKENDS.find(backend_name)
    made: Backend = file.Backend(module, card.signature, chosen(backend_name))
    packs = hasattr(models.find(name), "encoder")
    if getattr(module, "whole_chip", False) or packs:  # it chooses by values or by the size, which no fixed steps do
        with pytest.raises(ModelError, match=r"cannot be converted|% of the classes are those of torch"):
            made.prove(64)
        return
    proof = made.prove(64)
    assert proof is not None
    assert proof["equal"] >= 0.9999
    for height, width in ((64, 64), (61, 58)):
        x = torch.randn(1, 3 * card.dates, height, width, generator=torch.Generator().manual_seed(5))
        found, expected = made.forward(x), module(x)
        assert float((found.argmax(1) == expected.argmax(1)).float().mean()) >= 0.9999
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("name", each(n for n in CONVERTED if "bf16" in BACKENDS.find(n).Backend.precisions))
@torch.inference_mode()
def test_in_bf16_it_is_about_as_near_to_fp32_as_torch(name: str, network: nn.Module) -> None:
    """Its own proof passes, and what it gives is rounded: by torch the same network is."""
    made: Backend = BACKENDS.find(name).Backend(copy.deepcopy(network), CARD.signature, chosen(name, "bf16"))
    assert made.precision == "bf16"
    proof = made.prove(64)
    assert proof is not None
    assert proof["equal"] > 0.97
    x = torch.randn(2, 2, 61, 58, generator=torch.Generator().manual_seed(1))
    found, expected = made.forward(made.upload(x.numpy())), network(x)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("backend_name", [n for n in BACKENDS.names() if "int8" in BACKENDS.find(n).Backend.precisions])
@pytest.mark.parametrize("name", ["unet", "deeplabv3plus", "segnet", "siamese_unet"])
@torch.inference_mode()
def test_in_int8_a_model_says_nearly_what_it_says(
    name: str, backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the size that the ranges were seen on and on another. How nearly is said by data, see `geoml models quantize`;
    SegNet is the worst, since values that are equal in eight bits are taken from another place of a pool."""
    monkeypatch.setenv("GEOML_PRECISION", "fp32")
    module, card = tiny(name)
    images = [made_inputs({"x": (1, 3 * card.dates, 64, 64)}, k)["x"][0].numpy() for k in range(4)]
    onnx = BACKENDS.find("onnx")
    ranges, graph = onnx.Backend(module, card.signature, onnx.choose()).calibrate(images)
    loss = {backend_name: Int8Loss(before={"class 0": 0.9}, after={"class 0": 0.9})}
    record = Int8(ranges=ranges, graph=graph, chips=4, recipe="", pixels=1, loss=loss)
    file = BACKENDS.find(backend_name)
    made: Backend = file.Backend(module, card.model_copy(update={"int8": record}).signature, file.choose("int8"))
    assert made.precision == "int8"
    for size in (64, 96):
        proof = made.prove(size)
        assert proof is not None
        assert proof["fp32"]["equal"] >= 0.9999
        assert proof["loss"] == {"split": "val", "miou": 0.9, "miou_int8": 0.9}
        x = made_inputs({"x": (1, 3 * card.dates, size, size - 3)}, 9)["x"]
        found, expected = made.forward(x), module(x)
        assert found.shape == expected.shape
        assert float(torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1]) > 0.75
        assert not torch.allclose(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


SECOND = """
import logging, sys
logging.basicConfig(level="WARNING", stream=sys.stdout, format="%(message)s")
import torch
from geoml.engine.contract import BACKENDS
from tests.contract.test_every_backend import tiny

module, card = tiny(sys.argv[1])
file = BACKENDS.find(sys.argv[2])
export, calls = torch.export.export, []
torch.export.export = lambda *a, **k: calls.append(1) or export(*a, **k)
made = file.Backend(module, card.signature, file.choose())
x = torch.randn(4, 3 * card.dates, 61, 64, generator=torch.Generator().manual_seed(5))
with torch.inference_mode():
    assert (made.forward(x).argmax(1) == module(x).argmax(1)).float().mean() >= 0.9999
print("exports", len(calls))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend_name", each(CONVERTED))
def test_batches_and_a_second_process_use_what_is_kept_unless_it_was_tampered_with(
    backend_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOML_PRECISION", "fp32")  # or a processor that is good at bf16 rounds as it does
    chosen(backend_name)
    monkeypatch.setenv("GEOML_SCRATCH", str(tmp_path))  # other tests have converted the same network

    def run() -> str:
        command = [sys.executable, "-c", SECOND, "deeplabv3plus", backend_name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "exports 1" in run()
    assert "exports 0" in run()
    (folder,) = (tmp_path / "backends" / backend_name).iterdir()
    largest = max((p for p in folder.iterdir() if p.suffix != ".json"), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    again = run()
    assert "exports 1" in again
    assert "not as it was written" in again
