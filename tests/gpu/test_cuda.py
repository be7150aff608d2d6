"""On a CUDA device: the same answer as on the CPU, asynchronous copies, and only small integers come back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from geoml import testing
from geoml.backends import torch as backend
from geoml.backends.torch import choose
from geoml.engine.inference import predict as engine
from geoml.engine.packages import package
from geoml.engine.pixels import Pixels
from geoml.grid.plane import Window
from geoml.settings import settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

WINDOW = Window(-64, 32, 448, 672)


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("gpu") / "unet"
    testing.small_unet(folder, ("red", "nir"), ("low", "middle", "high"))
    return str(folder)


def answer(model: str, device: str, precision: str, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Class and confidence of a made window."""
    predictor = engine.Predictor(package.load(model), device=choose(device, precision), **options)
    origin = predictor.needed(WINDOW)
    data = testing.smooth((2, *origin.shape), seed=3)
    data[:, 200:260, 200:300] = 0
    count = (data != 0).all(0).astype(np.uint16)
    rows = list(predictor.rows(Pixels(data, count, (1e-4,) * 2, (0.0,) * 2, origin), WINDOW))
    return np.concatenate([r["class"][0] for r in rows]), np.concatenate([r["confidence"][0] for r in rows])


@pytest.mark.parametrize("options", [{}, {"join": "blend"}, {"tta": True}])
def test_gpu_and_cpu_agree_in_full_precision(unet: str, options: dict[str, Any]) -> None:
    torch.backends.cudnn.allow_tf32 = False
    classes, confidence = answer(unet, "cuda", "fp32", **options)
    expected, sure = answer(unet, "cpu", "fp32", **options)
    differs = classes != expected
    assert (np.abs(confidence.astype(int) - sure) <= 1).all()
    assert differs.mean() < 1e-3
    assert (sure[differs] <= 128).all()  # only where two classes are about as likely


def test_bf16_gives_nearly_the_same_classes(unet: str) -> None:
    classes, _ = answer(unet, "cuda", "bf16")
    expected, _ = answer(unet, "cpu", "fp32")
    assert (classes == expected).mean() > 0.98


@pytest.mark.parametrize("join", ["exact", "blend"])
def test_only_small_integers_come_back_through_pinned_memory(
    unet: str, join: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    landed: list[bool] = []
    behind, down = backend.Backend.download, backend._landed

    def spy(self: backend.Backend, strips: Iterator[tuple[Window, list[Tensor]]]) -> Iterator[Any]:
        def watched() -> Iterator[tuple[Window, list[Tensor]]]:
            for window, tensors in strips:
                seen.extend(tensors)
                yield window, tensors

        return behind(self, watched())

    def at_host(key: Any, tensors: list[Tensor], event: Any) -> Any:
        landed.extend(t.is_pinned() and event is not None for t in tensors)
        return down(key, tensors, event)

    monkeypatch.setattr(backend.Backend, "download", spy)
    monkeypatch.setattr(backend, "_landed", at_host)
    answer(unet, "cuda", "auto", join=join)
    assert seen
    assert {t.dtype for t in seen} == {torch.uint8}  # blended, decoded and quantised there
    assert all(t.is_cuda for t in seen)
    assert landed
    assert all(landed)


def test_the_batch_does_not_matter(unet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOML_CHIP_BATCH", "1")
    settings.cache_clear()
    one, _ = answer(unet, "cuda", "fp32")
    monkeypatch.setenv("GEOML_CHIP_BATCH", "16")
    settings.cache_clear()
    many, _ = answer(unet, "cuda", "fp32")
    assert (one == many).mean() > 0.999
