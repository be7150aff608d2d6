"""A halo that is less than a network sees: chips are of one lattice and one size, so no cut changes a byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoml import models, testing
from geoml.backends.torch import Backend, Device
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages.package import Package
from geoml.engine.pixels import Pixels
from geoml.errors import InputError, TransientError
from geoml.grid.chips import ChipGrid
from geoml.grid.plane import Window
from geoml.io.cards.short_radius import ShortRadius

RADIUS, CORE, STRIDE = 8, 32, 8
"""Far less than the network sees, some sixty pixels."""
WHOLE = Window(-40, 16, 120, 176)
RECORD = ShortRadius(
    radius_before=64, core=CORE, tolerance=0.05, changed=0.05, pixels=1, recipe="", precision="fp32", tried=()
)


@pytest.fixture(scope="module")
def package() -> Package:
    torch.manual_seed(0)
    config = {"bands": 2, "classes": 3, "encoder": "resnet18", "depth": 3}
    about = {"config": config, "radius": RADIUS, "stride": STRIDE, "short_radius": RECORD}
    card = testing.card("tiny", ("red", "nir"), ("a", "b", "c"), **about)
    return Package(models.build("unet", config).eval(), card, Path())


@pytest.fixture
def predictor(package: Package) -> Predictor:
    return Predictor(
        package, backend=Backend(package.module, package.card.signature, Device(torch.device("cpu"), False, 1))
    )


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    place = WHOLE.expand(2 * CORE)
    data = np.random.default_rng(0).normal(0, 1, (2, *place.shape)).astype(np.float32)
    return Pixels(data, np.ones(place.shape, np.uint16), (1.0,) * 2, (0.0,) * 2, place)


def answer(predictor: Predictor, pixels: Pixels, window: Window) -> np.ndarray:
    """(layer, y, x), of no more pixels than the predictor says that it needs."""
    rows = list(predictor.rows(pixels.crop(predictor.needed(window)), window))
    return np.concatenate([np.concatenate([r["class"], r["confidence"]]) for r in rows], 1)


@pytest.fixture
def whole(predictor: Predictor, pixels: Pixels) -> np.ndarray:
    return answer(predictor, pixels, WHOLE)


@given(
    y=st.tuples(st.integers(WHOLE.y0, WHOLE.y1 - 1), st.integers(1, 100)),
    x=st.tuples(st.integers(WHOLE.x0, WHOLE.x1 - 1), st.integers(1, 100)),
    most=st.sampled_from([1, 40 * 40, 10**9]),
    side=st.sampled_from([0, 16]),
)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_cut_changes_a_byte(
    package: Package,
    predictor: Predictor,
    pixels: Pixels,
    whole: np.ndarray,
    y: tuple[int, int],
    x: tuple[int, int],
    most: int,
    side: int,
) -> None:
    """Neither where a window lies, nor how small it is, nor what memory would say of larger or smaller chips."""
    predictor.backend.most, predictor.backend.side = most, side
    again = Predictor(package, backend=predictor.backend)
    window = Window(y[0], x[0], y[0] + y[1], x[0] + x[1]).intersect(WHOLE)
    assert answer(again, pixels, window).tobytes() == whole[:, *window.slices(WHOLE)].tobytes()


def test_chips_that_are_trimmed_would_change_it(predictor: Predictor, pixels: Pixels, whole: np.ndarray) -> None:
    window = Window(3, 40, 20, 70)
    predictor.grid = replace(predictor.grid, whole=False)
    assert (answer(predictor, pixels, window) != whole[:, *window.slices(WHOLE)]).any()


def test_chips_are_those_of_the_card_whatever_memory_there_is(predictor: Predictor) -> None:
    assert predictor.backend.most > (CORE + 2 * RADIUS) ** 2
    assert predictor.grid == ChipGrid(CORE + 2 * RADIUS, CORE, RADIUS, STRIDE, whole=True)
    assert predictor.needed(Window(1, 1, 2, 2)) == Window(-RADIUS, -RADIUS, CORE + RADIUS, CORE + RADIUS)


def test_without_memory_for_a_chip_it_fails_and_is_not_halved(
    package: Package, predictor: Predictor, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*_: object) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(predictor.backend, "forward", forward)
    monkeypatch.setattr("geoml.backends._batches.SMALLEST", 16)
    with pytest.raises(TransientError, match="not enough memory for a single chip"):
        answer(predictor, pixels, WHOLE)
    assert predictor.backend.side == 0


def test_exact_is_not_said_of_it(package: Package) -> None:
    with pytest.raises(InputError, match="join: tiny has a radius by tolerance, which is not exact"):
        package.card.chip_grid("exact")
    assert not package.card.chip_grid("blend").whole
