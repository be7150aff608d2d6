"""The simple methods beside a model: drawn evenly and counted piece by piece, in little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from geoml.engine.train import simple
from geoml.nn.metrics import IGNORE, ClassScores

PART = 20_000


def parts(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Parts of which each pixel says its number, and as its class the number's remainder."""
    for k in range(count):
        number = np.arange(k * PART, (k + 1) * PART)
        yield np.repeat(number[:, None], 8, 1).astype(np.float32), number % 7


def test_pixels_are_drawn_evenly_and_one_part_is_held() -> None:
    tracemalloc.start()
    x, y = simple._drawn(parts(30), 3000, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert x.shape == (3000, 8)
    number = x[:, 0].astype(np.int64)
    assert len(set(number.tolist())) == 3000
    assert np.array_equal(number % 7, y)
    of_part = np.bincount(number // PART, minlength=30)
    assert of_part.sum() == 3000
    assert ((of_part - 100) ** 2 / 100).sum() < 60, "chi square of 29: beyond this once in a thousand"
    assert peak < 10 * PART * 8 * 4, "of 30 parts"
    whole, _ = simple._drawn(parts(2), 3 * PART, 1)
    assert np.array_equal(whole[:, 0], np.arange(2 * PART))


def piece(seed: int, wrong: float = 0.0) -> Any:
    """32 x 32 pixels of two classes by their value, some of them labelled wrongly, a row unlabelled."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (32, 32))
    image = np.where(truth, 5.0, -5.0)[None] + rng.normal(0, 0.1, (1, 32, 32))
    said = np.where(np.arange(1024).reshape(32, 32) < 1024 * wrong, 1 - truth, truth)
    said[31] = IGNORE
    sample = SimpleNamespace(image=image, target=said, valid=np.ones((32, 32), bool))
    window = SimpleNamespace(slices=lambda _: (slice(0, 32), slice(0, 32)))
    return SimpleNamespace(scene=SimpleNamespace(window=None, read=lambda: sample), window=window)


def test_each_piece_is_counted_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {"train": [piece(1), piece(2)], "val": [piece(3), piece(4)], "test": [piece(5), piece(6, wrong=0.25)]}
    sizes: list[int] = []

    class Counted(ClassScores):
        def update(self, index: Any, confidence: Any, target: Any) -> None:
            sizes.append(len(target))
            super().update(index, confidence, target)

    monkeypatch.setattr(simple, "prepare", lambda _: splits)
    monkeypatch.setattr(simple, "Reader", lambda: lambda scene: scene.read())
    monkeypatch.setattr(simple, "ClassScores", Counted)
    found = simple.best_simple(SimpleNamespace(seed=0, classes=("a", "b")))
    assert found["overall_accuracy"] == pytest.approx(1 - 256 / (2 * 31 * 32))
    assert max(sizes) == 31 * 32
    assert len(sizes) == 3 * 2 + 2
