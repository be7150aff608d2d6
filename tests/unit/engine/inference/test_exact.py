"""Chips of any size and shape give what one forward over all gives, where the card says how far a network sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoml import models, testing
from geoml.backends.torch import Backend, Device
from geoml.engine.contract import Backend as AnyBackend
from geoml.engine.contract import output_of
from geoml.engine.inference import network as networks
from geoml.engine.inference.exact import exact
from geoml.engine.inference.network import Network
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages.package import Package
from geoml.engine.pixels import Pixels
from geoml.grid.chips import exact_grid
from geoml.grid.plane import Window
from geoml.nn.upsampling import JoinedBlock

RADIUS, STRIDE = 96, 8
"""More than this network sees, and its stride."""
WHOLE = Window(-40, 16, 320, 400)


@pytest.fixture(scope="module")
def package() -> Package:
    torch.manual_seed(0)
    config = {"bands": 2, "classes": 3, "encoder": "resnet18", "depth": 3}
    card = testing.card(
        "tiny",
        architecture="unet",
        config=config,
        bands=("red", "nir"),
        classes=("a", "b", "c"),
        radius=RADIUS,
        stride=STRIDE,
    )
    return Package(models.build("unet", config).eval(), card, Path())


@pytest.fixture(scope="module")
def backend(package: Package) -> Backend:
    return Backend(package.module, package.card.signature, Device(torch.device("cpu"), False, 1))


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    whole = WHOLE.expand(RADIUS)
    data = np.random.default_rng(0).normal(0, 1, (2, *whole.shape)).astype(np.float32)
    return Pixels(data, np.ones(whole.shape, np.uint16), (1.0,) * 2, (0.0,) * 2, whole)


def answer(backend: AnyBackend, package: Package, pixels: Pixels, window: Window, core: int) -> list[NDArray[np.uint8]]:
    grid = exact_grid(0, RADIUS, STRIDE, core=core)
    network = Network(backend, package.card, grid, output_of(package.card))
    with torch.inference_mode():
        rows = [[t.numpy() for t in encoded] for _, encoded in exact(network, pixels, window, pixels.valid)]
    return [np.concatenate(parts, -2) for parts in zip(*rows, strict=True)]


@given(
    core=st.sampled_from([32, 64, 128, 256, 512]),
    most=st.sampled_from([0, 1, 224 * 256, 320 * 320, 10**7]),
    cut=st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40)),
)
@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # to make a failing case smaller would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_chips_give_one_answer(
    backend: Backend,
    package: Package,
    pixels: Pixels,
    monkeypatch: pytest.MonkeyPatch,
    core: int,
    most: int,
    cut: tuple[int, int, int, int],
) -> None:
    assert any(isinstance(m, JoinedBlock) for m in backend.module.modules())  # type: ignore[attr-defined]
    monkeypatch.setattr(networks, "CORE", 32)
    window = Window(WHOLE.y0 + cut[0], WHOLE.x0 + cut[1], WHOLE.y1 - cut[2], WHOLE.x1 - cut[3])
    monkeypatch.setattr(backend, "most", 0)
    one = answer(backend, package, pixels, WHOLE, 1024)
    monkeypatch.setattr(backend, "most", most)
    classes, confidence = answer(backend, package, pixels, window, core)
    expected = [layer[(..., *window.slices(WHOLE))] for layer in one]
    assert np.mean(classes == expected[0]) >= 0.9999  # other shapes are added up in another order
    assert np.abs(confidence.astype(int) - expected[1]).max() <= 1


def test_cores_are_cut_until_their_chips_fit(
    backend: Backend, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(backend, package.card, exact_grid(0, 64, 32).doubled(), output_of(package.card))
    core = network.grid.output_window(0, 0)
    shapes = {0: [(2048, 2048)], 2176**2: [(2048, 2048)], 2176**2 - 1: [(1024, 2048)] * 2, 1: [(1024, 1024)] * 4}
    for most, expected in shapes.items():
        monkeypatch.setattr(backend, "most", most)
        parts = network.parts(core)
        assert [p.shape for p in parts] == expected
        assert sum(p.shape[0] * p.shape[1] for p in parts) == 2048**2


def test_a_predictor_has_larger_chips_where_memory_allows(package: Package) -> None:
    predictor = Predictor(
        package, backend=Backend(package.module, package.card.signature, Device(torch.device("cpu"), False, 1))
    )
    assert predictor.backend.most > 1024**2
    assert (predictor.grid.step, predictor.grid.halo) == (2048, RADIUS)


@pytest.mark.parametrize("join", ["exact", "blend"])
def test_chips_that_nobody_asked_for_are_not_computed(
    package: Package, pixels: Pixels, monkeypatch: pytest.MonkeyPatch, join: str
) -> None:
    """A small region costs its own chips and not those of the block around it, and its pixels are the same."""
    card = package.card.model_copy(update={"radius": 16, "chip_size": 64, "overlap": 16})
    made = Backend(package.module, card.signature, Device(torch.device("cpu"), False, 1))
    predictor = Predictor(Package(package.module, card, package.path), join=join, backend=made)
    predictor.grid = exact_grid(0, 16, STRIDE, core=64) if join == "exact" else predictor.grid
    window = Window(0, 64, 128, 256)
    asked = np.zeros(window.shape, np.bool_)
    asked[40:70, 100:120] = True
    seen: list[int] = []
    forward = made.forward

    def counted(x: torch.Tensor, *more: Any) -> torch.Tensor:
        seen.append(len(x) * x.shape[-1] * x.shape[-2])
        return forward(x, *more)

    monkeypatch.setattr(made, "forward", counted)
    found = []
    for region in (None, asked):
        seen.clear()
        rows = list(predictor.rows(pixels, window, region))
        found.append(([np.concatenate([r[key] for r in rows], -2) for key in rows[0].arrays], sum(seen)))
    (whole, dear), (part, cheap) = found
    assert cheap < 0.7 * dear
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[..., asked], b[..., asked])
