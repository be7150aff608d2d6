"""What every file in geoml/backends promises; a new file gets these tests without another edit."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geoml import testing
from geoml.engine.contract import BACKENDS, Backend
from geoml.engine.packages import package
from geoml.errors import TransientError
from geoml.grid.plane import Window

STRIDE = 8
CONFIG = {"encoder": "resnet18", "depth": 3, "decoder_channels": (16, 16, 8)}
CARD = testing.card("made", ["red", "nir"], ["low", "high"], stride=STRIDE, config=CONFIG)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return package.build(CARD).eval()


@pytest.fixture(params=BACKENDS.names())
def backend(request: pytest.FixtureRequest, network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Backend:
    monkeypatch.setenv("GEOML_DEVICE", "cpu")
    monkeypatch.setenv("GEOML_PRECISION", "fp32")
    file = BACKENDS.find(request.param)
    made: Backend = file.Backend(copy.deepcopy(network), CARD, file.choose())
    return made


def test_is_found_by_its_file_and_says_what_the_machine_gives(backend: Backend) -> None:
    file = BACKENDS.find(backend.name)
    assert hash(file.choose()) == hash(file.choose())  # a model is loaded once for each
    assert backend.batch >= 1
    assert backend.side == 0


@torch.inference_mode()
def test_gives_what_the_network_gives(backend: Backend, network: nn.Module) -> None:
    for shape in ((1, 2, 64, 64), (3, 2, 64, 96)):
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


@pytest.mark.parametrize("name", BACKENDS.names())
@torch.inference_mode()
def test_what_the_network_asks_for_reaches_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOML_DEVICE", "cpu")
    file = BACKENDS.find(name)
    made: Backend = file.Backend(Masked(), CARD, file.choose())
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
