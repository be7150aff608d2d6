"""A recipe trains a locator on a made world whose colours are its places, and nothing of it leaks."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from geoml import pipeline
from geoml.cli import app
from geoml.cli.common import out_console
from geoml.engine.train.state import STATE
from geoml.errors import InputError
from geoml.geolocation.cards.locator import FittedCalibration
from geoml.geolocation.density import vmf
from geoml.geolocation.locate import locator
from geoml.geolocation.training import head as fit_locator
from geoml.geolocation.training import splits as geosplits
from geoml.geolocation.training import world, world_sets
from geoml.geolocation.training.place_scores import constant_baselines
from geoml.geolocation.training.sampling import FeatureBatches
from geoml.geolocation.training.world_sets import FeatureSet
from geoml.grid import sphere
from geoml.testing.pictures import world_recipe


def test_places_are_apart_as_the_split_says_and_repeat(made):
    given = world_recipe(made)
    places = world_sets.choose(given)
    assert geosplits.nearest_km(places.train, places.held_out)[0].min() > 50
    assert geosplits.nearest_km(places.train, places.val_blocks)[0].min() > 50
    assert len(places.in_region) == len(places.held_out) == len(places.val) == 20
    assert (places.train == world_sets.choose(given).train).all()
    assert (world_sets.choose(world_recipe(made, seed=1)).train[:5] != places.train[:5]).any()
    assert min(p[:, 1].min() for p in (places.train, places.held_out)) > -5


def test_a_recipe_gives_a_package_with_scores_of_every_set(made, tmp_path):
    losses: list[float] = []
    given = world_recipe(made)
    found = fit_locator.fit(given, tmp_path / "model", tmp_path / "cache", lambda e: losses.append(e["loss"]))
    assert set(found.card.scores) == {"in-region", "held-out", "other-month"}
    assert losses[-1] < losses[0] - 0.3
    assert found.card.calibration.pictures == 20
    again = locator.load(tmp_path / "model")
    assert again.card == found.card
    assert again.card.bbox == (-180.0, -60.0, 180.0, 90.0)
    view = world.View(30.0, 40.0, 800.0, 10.0)
    rgb = world.read(made / "june.png").crop(view, 32)
    density = again.locate(again.extractor(rgb[None]))
    assert np.isfinite(density.mode()).all()
    assert again.confidence(density).shape == (1,)


def test_a_head_that_was_killed_within_an_epoch_ends_with_the_same_weights(made, tmp_path, monkeypatch):
    """With dropout, whose random numbers go on from one epoch to the next; another recipe is refused meanwhile."""
    given = world_recipe(made, half=False, head={"name": "cells", "config": {"hidden": 16, "dropout": 0.3}})
    whole = fit_locator.fit(given, tmp_path / "whole", tmp_path / "cache")
    read = FeatureBatches.__call__

    def dying(self, epoch, part):
        for n, batch in enumerate(read(self, epoch, part)):
            if (epoch, n) == (1, 2):
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(FeatureBatches, "__call__", dying)
        with pytest.raises(KeyboardInterrupt):
            fit_locator.fit(given, tmp_path / "model", tmp_path / "cache")
    other = world_recipe(made, half=False, head=given.head, seed=9)
    with pytest.raises(InputError, match="unfinished run of a different recipe: seed is 0 there and 9 here"):
        fit_locator.fit(other, tmp_path / "model", tmp_path / "cache")
    epochs: list[float] = []
    found = fit_locator.fit(given, tmp_path / "model", tmp_path / "cache", lambda e: epochs.append(e["epoch"]))
    assert epochs == [1, 2]
    assert found.card.sha256 == whole.card.sha256
    assert not (tmp_path / "model" / STATE).exists()


def test_the_commands_train_and_score(made, tmp_path, monkeypatch):
    monkeypatch.setenv("GEOML_SCRATCH", str(tmp_path / "scratch"))
    file = tmp_path / "made.yaml"
    file.write_text(yaml.safe_dump(world_recipe(made, half=False).model_dump(mode="json")))
    pipeline.train(file, tmp_path / "model")
    said = CliRunner().invoke(app, ["evaluate", str(file), "--model", str(tmp_path / "model"), "--json"])
    assert said.exit_code == 0, said.output
    scores = json.loads(said.stdout)
    card = locator.load(tmp_path / "model").card
    assert set(scores["sets"]) == {"in-region", "held-out", "other-month"}
    for name, row in scores["sets"].items():  # of weights as they were: rounded ones may choose another cell
        assert row["median_km"] == pytest.approx(card.scores[name]["median_km"], rel=1e-3)
    words = ["evaluate", str(file), "--model", str(tmp_path / "model"), "--report", str(tmp_path / "r.html")]
    monkeypatch.setattr(out_console, "_width", 240)
    table = CliRunner().invoke(app, words)
    page = (tmp_path / "r.html").read_text()
    assert page.count("<polyline") == 6, "two curves of each of three sets"
    for name, row in scores["sets"].items():
        assert set(row["baseline"]) == {"commonest cell", "mean direction"}
        assert row["baseline"] == card.scores[name]["baseline"]
        assert row["geoscore"] > max(nothing["geoscore"] for nothing in row["baseline"].values())
        for label, nothing in row["baseline"].items():
            line = next(x for x in table.output.splitlines() if f"{name}, {label}" in x)
            assert f"{nothing['median_km']:.0f}" in line
            assert f"{name}, {label}" in page
    assert not re.search(r"<script|https?://", page)
    assert "GeoScore" in table.output
    wide = world_recipe(made, source={**world_recipe(made).source.model_dump(), "width_km": [10, 20]})
    with pytest.raises(InputError, match="km, the recipe for"):
        fit_locator.score(tmp_path / "model", wide)
    with pytest.raises(InputError, match="several test sets"):
        pipeline.evaluate(tmp_path / "model", file, "val")


def test_too_few_places_and_unknown_fields_are_named(made, tmp_path):
    with pytest.raises(InputError, match="draw more places"):
        world_sets.choose(world_recipe(made, split={"degrees": 90, "test": 0.5, "val": 0.49}))
    (tmp_path / "r.yaml").write_text("task: geolocation\nnane: x\n")
    with pytest.raises(InputError, match="nane"):
        pipeline.training(tmp_path / "r.yaml")


def test_files_of_basemap_are_found_by_name_only():
    assert world.find("basemap:bmng.jpg").is_file()
    with pytest.raises(InputError, match="name of a file"):
        world.find("basemap:../../secrets")


class Told(torch.nn.Module):
    """A head whose answer is a cap about (10, 0) as wide as the picture's feature says, in km."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def components(self, raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        xyz = torch.from_numpy(sphere.to_xyz(10.0, 0.0)).float().expand(len(raw), 1, 3)
        kappa = torch.from_numpy(vmf.concentration(raw[:, 0].double().numpy())).float()[:, None]
        return torch.zeros(len(raw), 1), xyz, kappa


def test_coarse_answers_are_scored_at_their_own_size():
    """Caps of 500 km are fine answers, of 1,500 km regions of which half are right, of 8,000 km silence."""
    width = np.repeat([500.0, 1500.0, 8000.0], [4, 6, 2])
    away = np.array([0, 0, 0, 0, *[1000.0, 5000.0] * 3, 0, 0])
    lon, lat = sphere.destination(np.full(12, 10.0), np.zeros(12), np.zeros(12), away)
    card = FittedCalibration(within_km=750.0, threshold=0.8, alpha=0.1, precision=0.9)
    found = fit_locator.evaluate(Told(), card, FeatureSet(width[:, None].astype(np.float32), lon, lat), draws=10)
    assert found["answered"] == pytest.approx(4 / 12)
    assert found["regions"] == {"2500": {"answered": pytest.approx(0.5), "right": pytest.approx(0.5)}}


def test_doing_nothing_is_the_best_place_that_training_knows():
    """Six places by two, of which four share a block of 10 degrees; half of the queries lie there."""
    train = np.array([[2.0, 2.0], [4.0, 2.0], [2.0, 4.0], [4.0, 4.0], [100.0, 3.0], [-100.0, 3.0]])
    lon, lat = np.array([3.0, 3.0, 90.0, -90.0]), np.array([3.0, 3.0, 0.0, 0.0])
    found = constant_baselines(train, lon, lat)
    assert found["commonest cell"]["within_25"] == 0.5
    far = sphere.distance(*sphere.mean(*train.T), lon, lat)
    assert found["mean direction"]["median_km"] == pytest.approx(np.median(far))
    assert found["mean direction"]["geoscore"] == pytest.approx(np.mean(5000 * np.exp(-far / 1492.7)))
