"""Training on pairs that are made in code: squares appear and vanish between two dates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geoml.data.prepare import prepare
from geoml.data.recipe import ChangeRecipe
from geoml.data.scene import Sample
from geoml.engine.packages import package
from geoml.engine.train.evaluate import check_fit, evaluate
from geoml.engine.train.fit import build, fit
from geoml.errors import InputError
from geoml.nn.metrics import IGNORE
from geoml.nn.weights.transfer import first_convolution

CLASSES = [
    {"value": 0, "name": "unchanged", "color": "#d9d9d9"},
    {"value": 5, "name": "gain", "color": "#2e7d32", "before": "dark", "after": "bright"},
    {"value": 6, "name": "loss", "color": "#c62828", "before": "bright", "after": "dark"},
]


def scenes(folder: Path, write: Any, size: int = 64) -> None:
    """Four scenes to train, v0 and t0: bright squares of 8 pixels, of which few differ between the dates."""
    for column, name in enumerate(["a0", "a1", "a2", "a3", "v0", "t0"]):
        rng = np.random.default_rng(column)
        before = rng.random((size // 8, size // 8)) < 0.4
        after = before ^ (rng.random(before.shape) < 0.12)
        label = np.kron(np.where(before == after, 0, np.where(after, 5, 6)), np.ones((8, 8))).astype(np.uint8)
        for date, bright in (("1", before), ("2", after)):
            clean = np.kron(np.where(bright, 300, 100), np.ones((8, 8)))
            image = clean + rng.normal(0, 15, (2, size, size)) + (40 if date == "2" else 0)  # another season
            image[:, :2] = 0
            write(folder / f"{date}" / f"{name}.tif", image.astype(np.float32), column, nodata=0)
        write(folder / "lab" / f"{name}.tif", label[None], column)


@pytest.fixture
def problem(problem: Any, tmp_path: Path) -> Any:
    """As `problem`, of two dates."""
    folder = tmp_path / "pairs"
    scenes(folder, problem.write)

    def make(**changes: Any) -> ChangeRecipe:
        source = {
            "kind": "change_pairs",
            "root": str(folder),
            "images": ["1/{id}.tif", "2/{id}.tif"],
            "labels": "lab/{id}.tif",
            "file_bands": ["grey", "more"],
        }
        value = {
            "task": "change",
            "model": {"architecture": "siamese_unet", "config": {"depth": 3, "decoder_channels": [16, 8, 8]}},
            "dates": 2,
            "source": source,
            "classes": CLASSES,
            "augmentation": {"swap": 0.5, "same": 0.1, "brightness": 0.1},
            "sampling": {"kind": "balanced", "samples": 48},
            "loss": {"parts": {"cross_entropy": 1.0, "dice": 0.5}},
            "epochs": 10,
        }
        return problem(**{**value, **changes})

    return make


def test_gain_and_loss_are_learnt_and_scored(problem, tmp_path):
    folder, recipe = tmp_path / "m", problem()
    fit(recipe, folder)
    card = package.load(folder).card
    assert (card.dates, card.task, card.config["bands"], card.config["dates"]) == (2, "change", 2, 2)
    assert [b.name for b in card.bands] == ["grey", "more"]
    train = np.concatenate([p.scene.read().image[:, 2:].reshape(2, 2, -1) for p in prepare(recipe)["train"]], 2)
    assert [b.mean for b in card.bands] == pytest.approx(train.mean((0, 2)), rel=1e-4)  # over both dates
    found = evaluate(folder, recipe)
    assert found["change"]["f1"] > 0.9
    assert min(found["f1"].values()) > 0.85
    assert found["change"]["average_precision"] > 0.95
    assert found["change"]["kappa"] == pytest.approx(card.scores["change"]["kappa"])
    (piece,) = prepare(recipe)["test"]
    target = piece.scene.read().target
    assert found["pixels"] == (target != IGNORE).sum()
    sizes = found["change"]["by_size"]
    assert sum(row["objects"] for row in sizes) > 0
    assert found["change"]["curve"][-1]["recall"] == 1.0
    with pytest.raises(InputError, match="dates: the model takes 2, the recipe gives 1"):
        check_fit(card, recipe.model_copy(update={"dates": 1}))

    ahead, back, still = turned(package.load(folder), piece.scene.read())
    said = found["consistency"]
    assert said["swapped"] == pytest.approx((np.array([0, 2, 1])[ahead] == back).mean(), abs=2e-3)  # bf16 there
    assert said["swapped"] > 0.98
    assert said["equal_dates"] == np.mean([(v > 0).mean() for v in still]) < 0.001
    assert [r["below_m2"] for r in sizes[:-1]] == [r["below"] * recipe.gsd**2 for r in sizes[:-1]]


def turned(loaded: package.Package, sample: Sample) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """The map of a pair, of its dates turned round, and of each date with itself."""
    mean, std = (np.array([getattr(b, k) for b in loaded.card.bands] * 2)[:, None, None] for k in ("mean", "std"))
    pair = torch.from_numpy(((sample.image - mean) / std * sample.valid).astype(np.float32))
    with torch.inference_mode():
        ahead, back, *still = (
            loaded.module(x[None])[0].argmax(0).numpy()[sample.valid]
            for x in (pair, pair.roll(2, 0), torch.cat([pair[:2], pair[:2]]), torch.cat([pair[2:], pair[2:]]))
        )
    assert (ahead > 0).mean() > 0.05
    return ahead, back, still


UNET = {"architecture": "unet", "config": {"depth": 3, "decoder_channels": [16, 8, 8]}}


def test_an_architecture_gets_its_dates_or_more_bands(problem):
    early, config, _ = build(problem(model=UNET))
    assert config["bands"] == 4
    siamese, config, _ = build(problem())
    assert (config["bands"], config["dates"]) == (2, 2)
    x = torch.randn(1, 4, 32, 32)
    assert early(x).shape == siamese(x).shape == (1, 3, 32, 32)


def test_filters_of_one_date_start_every_date(problem, tmp_path):
    source = {
        "kind": "pairs",
        "root": str(tmp_path / "data"),
        "images": "img/{id}.tif",
        "labels": "lab/{id}.tif",
        "file_bands": ["grey", "more"],
        "ignore": [-1],
    }
    classes = [{"value": v, "name": f"c{v}", "color": "#000000"} for v in (4, 9)]
    fit(
        problem(task="segmentation", dates=1, epochs=1, model=UNET, augmentation={}, source=source, classes=classes),
        tmp_path / "one",
    )
    module, _, _ = build(problem(model=UNET, init=str(tmp_path / "one")))
    given = package.load(tmp_path / "one").module.state_dict()
    name = first_convolution(module)
    torch.testing.assert_close(module.state_dict()[name], torch.cat([given[name], given[name]], 1) / 2)
