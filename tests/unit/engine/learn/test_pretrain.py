"""An encoder learns from what a search finds, without labels; it goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import geoml
from geoml import testing
from geoml.cli.card_page import print_card
from geoml.cli.common import out_console, print_scores
from geoml.engine.learn import pretrain
from geoml.engine.learn.gather import PixelFeatures
from geoml.engine.learn.pretrain import SeriesSample, fit, scores_of
from geoml.engine.learn.pretrain_recipe import PretrainRecipe
from geoml.engine.packages import encoder
from geoml.errors import InputError, ModelError, NothingFound
from geoml.recipe import parse
from tests.e2e.made_landcover import DATES, SCENE, scenes, write_encoder


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return testing.write_catalog(tmp_path_factory.mktemp("pretrain") / "made", scenes())


def recipe(catalog: Path, **changes: Any) -> PretrainRecipe:
    query = {"catalog": str(catalog), "bbox": SCENE.bbox(inner=0.1), "datetime": DATES}
    small = {"config": {"width": 16, "depth": 1, "heads": 2}, "squares": 4, "pixels": 400, "batch": 128, "epochs": 3}
    about = {"name": "own", "bands": ["red", "nir"], "gsd": 10, "mask": "none", "projector": 16}
    return parse(PretrainRecipe, {**about, **small, "query": query, **changes}, "made")


def test_an_encoder_of_the_region_is_learnt_and_can_be_gone_on_from(
    catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_console, "_width", 240)
    epochs: list[dict[str, float]] = []
    card = fit(recipe(catalog), tmp_path / "a", epochs.append)
    assert [e["epoch"] for e in epochs] == [0, 1, 2]
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    loaded = encoder.load(tmp_path / "a")
    assert loaded.card == card
    assert (card.architecture, card.width, card.gsd) == ("presto", 16, 10)
    assert card.bands[1].mean == pytest.approx(0.35, abs=0.1), "nir, as the region has it"
    assert card.bands[1].std == pytest.approx(0.14, abs=0.07)
    assert not (tmp_path / "a" / ".fit").exists()
    assert fit(recipe(catalog), tmp_path / "a") == card, "a finished package is given as it is"
    with pytest.raises(InputError, match=r"out: .* of a different recipe"):
        fit(recipe(catalog, seed=1), tmp_path / "a")
    on = recipe(catalog, init=str(tmp_path / "a"), bands=[], gsd=None, config={}, epochs=1)
    further = fit(on, tmp_path / "b")
    assert further.bands == card.bands
    assert further.sha256 != card.sha256
    scores = scores_of(tmp_path / "a", recipe(catalog), "test")
    assert {k: scores[k] for k in ("rows", "retrieval", "bands", "chance", "split")} == card.scores
    print_scores("pretrain", scores)
    found = f"other view found {card.scores['retrieval']:.3f}"
    assert found in capsys.readouterr().out
    print_card(card, "a")
    shown = " ".join(capsys.readouterr().out.split())
    assert found in shown, "in the words of its task"
    west, south, east, north = SCENE.bbox(inner=0.1)
    assert f"west {west:.2f}, south {south:.2f}, east {east:.2f}, north {north:.2f}" in shown, "of its search"
    with pytest.raises(InputError, match="bands: "):
        scores_of(tmp_path / "a", recipe(catalog, bands=["nir", "red"]), "test")


def test_bands_in_another_order_are_refused_later(catalog: Path, tmp_path: Path) -> None:
    card = fit(recipe(catalog, epochs=1), tmp_path / "own")
    assert card.profile is not None
    np.testing.assert_allclose(10 ** np.array(card.profile.center), [0.05, 0.33], rtol=0.3)
    query = {"catalog": str(catalog), "bbox": SCENE.bbox(inner=0.1), "datetime": DATES}
    geoml.predict({"model": str(tmp_path / "own"), "query": query, "mask": "none"}, tmp_path / "out")
    query["catalog"] = str(testing.write_catalog(tmp_path / "shuffled", scenes(("nir", "red"))))
    with pytest.raises(ModelError, match="the values seem to be in another order: red holds nir, nir holds red"):
        geoml.predict({"model": str(tmp_path / "own"), "query": query, "mask": "none"}, tmp_path / "out2")


def test_numbers_that_are_no_reflectances_have_no_profile() -> None:
    values = np.random.default_rng(0).uniform(50, 3000, (100, 4)).astype(np.float32)
    parts = {"values": values, "looks": np.ones((100, 2), np.float32)}
    place = np.zeros(100, np.int64)
    found = PixelFeatures(parts, place, np.zeros((100, 3), np.int64), np.zeros((100, 2), np.float32))
    assert pretrain._profile(found, 2) is None
    small = PixelFeatures({**parts, "values": values / 10_000}, place, found.pixel, found.lonlat)
    assert pretrain._profile(small, 2) is not None


def test_bands_of_a_ratio_stay_as_they_are(catalog: Path, tmp_path: Path) -> None:
    asked = recipe(catalog, config={"width": 16, "depth": 1, "heads": 2, "ndvi": [0, 1]}, epochs=1)
    assert {(b.mean, b.std) for b in fit(asked, tmp_path).bands} == {(0.0, 1.0)}


def test_a_training_that_was_stopped_ends_with_the_same_weights(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(recipe(catalog), tmp_path / "whole")

    def stop(epoch: dict[str, float]) -> None:
        if epoch["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(recipe(catalog), tmp_path / "stopped", stop)
    assert (tmp_path / "stopped" / ".fit").is_dir()
    left: list[float] = []
    again = fit(recipe(catalog), tmp_path / "stopped", lambda e: left.append(e["epoch"]))
    assert left == [2]
    assert again.sha256 == whole.sha256


def test_views_share_no_date_and_hold_all_of_them() -> None:
    random = np.random.default_rng(0)
    looks = random.random((500, 6)) < 0.6
    looks[:, :2] = True
    sample = SeriesSample(
        torch.zeros(500, 12), torch.from_numpy(looks), torch.zeros(500, 2), np.zeros(500, bool), (0,) * 6
    )
    one, two = (v.numpy() for v in sample.views(np.arange(500), random))
    assert not (one & two).any()
    np.testing.assert_array_equal(one | two, looks)
    assert (one.sum(1) >= 1).all()
    assert (two.sum(1) >= 1).all()
    assert abs(int(one.sum()) - int(two.sum())) < 200


def test_what_stands_where_there_is_no_look_is_no_matter(tmp_path: Path) -> None:
    write_encoder(tmp_path / "tiny")
    net = pretrain.TwoViews(encoder.load(tmp_path / "tiny").module, 8, (3, 6, 8)).eval()
    values, place = torch.randn(20, 6), torch.zeros(20, 2)
    looks = torch.rand(20, 3) < 0.6
    looks[:, 0] = True
    other: Tensor = torch.where(torch.repeat_interleave(looks, 2, 1), values, 1e6)
    with torch.inference_mode():
        torch.testing.assert_close(net.embed(values, looks, place), net.embed(other, looks, place), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"query": {"catalog": "c", "bbox": [0, 0, 1, 1], "datetime": ["2024-04"]}}, "datetime: one step"),
        ({"bands": []}, "bands, gsd: needed"),
        ({"init": "x"}, "bands, config, gsd: are those"),
    ],
)
def test_a_recipe_that_does_not_fit_itself(catalog: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        recipe(catalog, **changes)


def test_too_little_ground_and_windows_are_refused(catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingFound, match=r"pixels: \d+ of the sample were seen twice"):
        fit(recipe(catalog, pixels=10), tmp_path / "a")
    with pytest.raises(InputError, match="architecture: galileo sees windows"):
        fit(recipe(catalog, architecture="galileo", config={}), tmp_path / "b")
