"""Models that are calibrated: their packages, their pixels, and that none predicts before it is ready."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from geoml import models
from geoml.cli import app
from geoml.data.chips import Reader
from geoml.data.recipe import ChangeRecipe
from geoml.data.scene import LabelledScene, Piece, Sample
from geoml.data.targets.classes import ClassTarget
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages import package
from geoml.engine.packages.calibrate import CLASSES, calibrated, check_calibrated, is_calibrated, new, sample_pixels
from geoml.engine.train.evaluate import score
from geoml.engine.train.fit import build, fit
from geoml.errors import DataError, InputError, ModelError, NothingFound
from geoml.grid.plane import Window
from geoml.nn.metrics import IGNORE
from geoml.settings import shipped

KINDS = [n for n in models.names() if models.calibrated(n)]


RECIPE = ChangeRecipe.model_validate(
    {
        "name": "made",
        "task": "change",
        "model": {"architecture": "cva"},
        "bands": ["red", "nir"],
        "dates": 2,
        "gsd": 10,
        "classes": [{"value": v, "name": n, "color": c} for v, (n, c) in enumerate(CLASSES[2].items())],
        "source": {
            "kind": "change_pairs",
            "root": "made",
            "images": ["{id}/1.tif", "{id}/2.tif"],
            "labels": "{id}/3.tif",
            "file_bands": ["red", "nir"],
        },
        "split": {"kind": "files", "test": ["*"]},
    }
)


def pieces(count: int = 2, side: int = 64, seed: int = 0) -> tuple[list[Piece], list[Sample]]:
    """Scenes of two dates with two bands of Sentinel-2 like numbers; a square of each changed, a corner has no data."""
    out, samples = [], []
    for n in range(count):
        random = np.random.default_rng((seed, n))
        first = random.normal(2000, 300, (2, side, side))
        second = first * np.array([1.2, 0.9])[:, None, None] + 100 + random.normal(0, 20, first.shape)
        target = np.zeros((side, side), np.uint8)
        target[20:36, 20 + n : 40 + n] = 1
        second[:, target == 1] += np.array([[2500], [-2200]])
        valid = np.ones((side, side), bool)
        valid[:10, :8] = False
        image = np.where(valid, np.concatenate([first, second]), -9999).astype(np.int16)
        sample = Sample.of(image, valid, np.where(random.random(target.shape) < 0.5, target, IGNORE), ClassTarget(()))
        scene = LabelledScene(f"s{n}", (side, side), lambda s=sample: s)
        out.append(Piece(scene, Window(0, 0, side, side - n), "test"))
        samples.append(sample)
    return out, samples


def known(samples: list[Sample], parts: list[Piece]) -> NDArray[np.float32]:
    return np.concatenate(
        [s.image[:, :, : p.window.x1][:, s.valid[:, : p.window.x1]].T for s, p in zip(samples, parts, strict=True)]
    ).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_is_written_and_read_and_has_to_be_calibrated(kind: str, tmp_path: Path) -> None:
    made = new(kind, ["red", "nir"], 10)
    written = package.save(made.module, made.card, tmp_path / "p")
    assert (written.stride, written.radius, written.dates, written.task) == (1, 0, 2, "change")
    loaded = package.load(tmp_path / "p")
    assert loaded.card == written
    assert not is_calibrated(loaded)
    for refuse in (check_calibrated, Predictor):
        with pytest.raises(ModelError, match="not calibrated"):
            refuse(loaded)


@pytest.mark.parametrize("kind", KINDS)
def test_a_calibrated_package_keeps_its_state_when_it_is_written(kind: str, tmp_path: Path) -> None:
    parts, samples = pieces()
    made = calibrated(new(kind, ["red", "nir"], 10), sample_pixels(parts, Reader()))
    card = package.save(made.module, made.card, tmp_path / "p")
    assert (card.stride, card.radius) == (1, 0)
    loaded = package.load(tmp_path / "p")
    assert is_calibrated(loaded)
    x = torch.from_numpy(samples[0].image.astype(np.float32))[None]
    with torch.no_grad():
        assert torch.equal(loaded.module(x), made.module(x))
    assert Predictor(loaded).grid.exact


def test_calibration_leaves_the_package_it_was_given_alone() -> None:
    parts, _ = pieces()
    fresh = new("cva", ["red", "nir"], 10)
    made = calibrated(fresh, sample_pixels(parts, Reader()))
    assert is_calibrated(made)
    assert not is_calibrated(fresh)
    assert made.card == fresh.card
    assert not torch.equal(made.module.mean, fresh.module.mean)


def test_pixels_that_do_not_serve_are_refused() -> None:
    fresh = new("cva", ["red", "nir"], 10)
    with pytest.raises(InputError, match="shape"):
        calibrated(fresh, np.zeros((1000, 3), np.float32))
    with pytest.raises(DataError, match="valid pixels"):
        calibrated(fresh, np.zeros((5, 4), np.float32))


def test_draw_gives_all_valid_pixels_or_some_of_them_by_chance() -> None:
    parts, samples = pieces()
    every = known(samples, parts)
    assert np.array_equal(sample_pixels(parts, Reader()), every)
    some = sample_pixels(parts, Reader(0), most=700)
    assert some.shape == (700, 4)
    assert np.array_equal(some, sample_pixels(parts, Reader(), most=700))
    assert not np.array_equal(some, sample_pixels(parts, Reader(), most=700, seed=1))
    place = {tuple(row): n for n, row in enumerate(every)}
    at = [place[tuple(row)] for row in some]  # none that is not valid
    assert len(place) == len(every)
    assert len(set(at)) == 700  # none twice
    assert 0.4 < np.mean(np.array(at) < len(every) / 2) < 0.6  # of both scenes


def test_draw_of_nothing_is_named() -> None:
    parts, _ = pieces(1)
    with pytest.raises(NothingFound, match="no valid pixel"):
        sample_pixels([Piece(parts[0].scene, Window(0, 0, 5, 5), "test")], Reader())


@pytest.mark.parametrize("kind", ["cva", "image_difference", "ir_mad"])
def test_a_score_calibrates_on_the_pixels_of_the_split_and_on_no_label(kind: str) -> None:
    parts, samples = pieces()
    found = score(new(kind, ["red", "nir"], 10), parts, RECIPE)
    assert found["overall_accuracy"] > 0.98
    assert found["iou"]["changed"] > 0.9
    labelled = [s.target[:, : p.window.x1] != IGNORE for s, p in zip(samples, parts, strict=True)]
    assert found["pixels"] == sum(int(one.sum()) for one in labelled)
    # a package that a run has calibrated is scored as it is
    made = calibrated(new(kind, ["red", "nir"], 10), sample_pixels(parts, Reader()))
    made.module.threshold.fill_(1e6)
    assert score(made, parts, RECIPE)["iou"]["changed"] == 0


def test_a_split_does_not_move_with_its_labels() -> None:
    parts, samples = pieces()
    blind = [Sample(s.image, s.valid, np.full_like(s.target, IGNORE)) for s in samples]
    hidden = [
        Piece(LabelledScene(p.scene.id, p.scene.shape, lambda s=s: s), p.window, p.split)
        for p, s in zip(parts, blind, strict=True)
    ]
    assert np.array_equal(sample_pixels(parts, Reader()), sample_pixels(hidden, Reader()))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("unet", ["red", "nir"], 10), "has to be trained"),
        (("cva", ["red", "red"], 10), "red more than once"),
        (("cva", [], 10), "at least one"),
        (("cva", ["red"], 0), "gsd"),
        (("cva", ["red"], 10, {"bands": 3}), "leave it out"),
        (("cva", ["red"], 10, {"clases": 3}), "did you mean 'classes'"),
        (("index_difference", ["red", "nir"], 10, {"second": 2}), "second"),
    ],
)
def test_a_package_that_cannot_be_is_refused(words: tuple[object, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        new(*words)


def test_a_trained_model_is_not_calibrated_and_a_calibrated_one_not_trained(problem, tmp_path: Path) -> None:
    recipe = problem(epochs=1)
    fit(recipe, tmp_path / "m")
    with pytest.raises(InputError, match="nothing to calibrate"):
        calibrated(package.load(tmp_path / "m"), np.zeros((1000, 2), np.float32))
    with pytest.raises(InputError, match="is not trained"):
        build(problem(model={"architecture": "cva", "config": {}}))


def test_the_command_writes_a_package(tmp_path: Path) -> None:
    out = tmp_path / "greening"
    words = ["models", "new", "index_difference", "--bands", "red,nir", "--gsd", "30", "--out", str(out)]
    run = CliRunner().invoke(app, [*words, "--config", "first=1", "--config", "second=0", "--config", "classes=3"])
    assert run.exit_code == 0, run.output
    card = package.load(out).card
    assert (card.name, card.gsd, [b.name for b in card.bands]) == ("greening", 30.0, ["red", "nir"])
    assert [c.name for c in card.classes] == ["unchanged", "gain", "loss"]
    assert (card.config["first"], card.config["second"]) == (1, 0)
    for wrong in (["--config", "first"], ["--config", "first=no"]):
        run = CliRunner().invoke(app, [*words, *wrong])
        assert run.exit_code == InputError.exit_code


SHIPPED = {
    "cva": ("cva", ["blue", "green", "red", "nir"], None),
    "image-difference": ("image_difference", ["blue", "green", "red", "nir"], None),
    "ir-mad": ("ir_mad", ["blue", "green", "red", "nir"], None),
    "nbr-difference": ("index_difference", ["nir", "swir22"], (0.6, 0.2)),
    "ndvi-difference": ("index_difference", ["red", "nir"], (0.2, 0.6)),
    "ndvi-crossing": ("index_crossing", ["red", "nir"], (0.2, 0.6)),
    "ndwi-crossing": ("index_crossing", ["green", "nir"], (0.6, 0.2)),
    "ndwi-difference": ("index_difference", ["green", "nir"], (0.6, 0.2)),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_packages_of_the_catalogs_are_those(name: str) -> None:
    """The index of each is positive for the values that it is made for."""
    architecture, bands, positive = SHIPPED[name]
    loaded = package.load(shipped() / "models" / name)
    assert (loaded.card.architecture, [b.name for b in loaded.card.bands]) == (architecture, bands)
    assert not is_calibrated(loaded)
    if positive:
        assert float(loaded.module.index(torch.tensor(positive).reshape(1, 2, 1, 1))) == pytest.approx(0.5)
