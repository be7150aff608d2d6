"""A recipe whose backbone learns too: from pictures cut anew, the same for the same seed, also after a kill."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from geoml import pipeline
from geoml.backends.torch import choose
from geoml.engine.packages import cards
from geoml.engine.train.loop import LAST
from geoml.engine.train.state import STATE
from geoml.errors import InputError, ModelError
from geoml.geolocation.locate import locator
from geoml.geolocation.locate.features import weights_hash
from geoml.geolocation.nn import backbones
from geoml.geolocation.training import backbone as fit_backbone
from geoml.geolocation.training import head as fit_locator
from geoml.geolocation.training import world
from geoml.geolocation.training.recipe import BackboneTraining, GeoRecipe, Head, Views
from geoml.geolocation.training.world_crops import BatchCropper
from geoml.grid import sphere
from geoml.testing import pictures as photos

NETWORK = "timm:test_efficientnet"


def recipe(folder: Path, **training: object) -> GeoRecipe:
    head, how = {"name": "latlon", "config": {"hidden": 0}}, {"epochs": 2, "batch": 32, "lr": 0.001, "backbone": {}}
    return photos.world_recipe(folder, backbone=NETWORK, head=head, training={**how, **training})


def learn(given: GeoRecipe, folder: Path) -> tuple[backbones.Backbone, nn.Module, list[float]]:
    torch.manual_seed(given.seed)
    backbone = backbones.build(given.backbone)
    losses: list[float] = []
    head = fit_backbone.fit(given, backbone, folder, lambda e: losses.append(e["loss"]), choose("cpu", "fp32"))
    return backbone, head, losses


@pytest.fixture(scope="module")
def learnt(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[backbones.Backbone, nn.Module, list[float]]:
    return learn(recipe(made), tmp_path_factory.mktemp("run"))


def test_the_backbone_moves_and_is_ready_to_be_asked(learnt):
    backbone, head, losses = learnt
    torch.manual_seed(0)
    assert weights_hash(backbone) != weights_hash(backbones.build(NETWORK))
    assert len(losses) == 2
    assert not backbone.training
    assert not head.training


def test_what_is_learnt_places_views_that_it_never_saw(made, tmp_path):
    """Against the same network before it learns (a rate of nothing), and against one place for all."""
    rng = np.random.default_rng(3)
    lon, lat = rng.uniform(-180, 180, 60), rng.uniform(0, 80, 60)
    seen = [world.View(x, y, 800.0, turn) for x, y, turn in zip(lon, lat, rng.uniform(0, 360, 60), strict=True)]
    views = np.stack([world.read(made / "june.png").crop(view, 32) for view in seen])
    plain = {"views": Views(clean=1, seasons=0), "head": Head(name="unit_vector", config={"hidden": 0})}
    off = {}
    for name, how in (("untrained", {"epochs": 1, "lr": 1e-12}), ("learnt", {"epochs": 8, "lr": 0.005, "batch": 16})):
        backbone, head, _ = learn(recipe(made, **how).model_copy(update=plain), tmp_path / name)
        off[name] = photos.median_km(backbone, head, views, lon, lat)
    assert off["learnt"] < 0.7 * off["untrained"], off
    assert off["learnt"] < 0.8 * np.median(sphere.distance(lon, lat, *sphere.mean(lon, lat))), off


def test_a_run_that_was_stopped_ends_with_the_same_weights(made, learnt, tmp_path):
    given, seen = recipe(made), []

    class Stopped(Exception):
        pass

    def stop(epoch: dict[str, float]) -> None:
        raise Stopped

    torch.manual_seed(given.seed)
    with pytest.raises(Stopped):
        fit_backbone.fit(given, backbones.build(NETWORK), tmp_path, stop, choose("cpu", "fp32"))
    torch.manual_seed(99)  # what it is given does not matter any more
    backbone = backbones.build(NETWORK)
    head = fit_backbone.fit(given, backbone, tmp_path, seen.append, choose("cpu", "fp32"))
    assert [e["epoch"] for e in seen] == [1]
    assert seen[0]["loss"] == learnt[2][1]
    for a, b in ((backbone, learnt[0]), (head, learnt[1])):
        for name, value in b.state_dict().items():
            assert torch.equal(a.state_dict()[name], value), name
    (tmp_path / LAST).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="start the training over"):
        learn(given, tmp_path)


def test_the_package_holds_the_learnt_backbone_and_answers_the_same(made, learnt, tmp_path):
    given = recipe(made).model_copy(update={"half": False})
    found = fit_locator.fit(given, tmp_path / "model", tmp_path / "cache")
    assert not (tmp_path / "model" / STATE).exists()
    again = locator.load(tmp_path / "model")
    assert weights_hash(again.backbone) == weights_hash(found.backbone)
    rgb = world.read(made / "june.png").crop(world.View(30.0, 40.0, 800.0, 10.0), 32)[None]
    one, two = (m.locate(m.extractor(rgb)) for m in (found, again))
    np.testing.assert_array_equal(one.mode(), two.mode())
    torch.manual_seed(0)
    assert weights_hash(again.backbone) != weights_hash(backbones.build(NETWORK))


def test_every_epoch_has_other_pictures_and_all_repeat(made):
    sampler = dataclasses.replace(fit_backbone.sampler(recipe(made), 32), count=40)
    assert [len(b) for b in sampler.batches(0, 16)] == [16, 16, 8]
    first, again, second = (
        np.concatenate([np.stack(b) for b in sampler.batches(k, n)]) for k, n in ((0, 16), (0, 7), (1, 16))
    )
    assert (first == again).all()
    assert (first != second).any(axis=(1, 2, 3)).all()
    plain = dataclasses.replace(sampler, season_share=0.0)
    middle = np.stack(next(plain.batches(0, 40)))[:, 15:17, 15:17].mean((1, 2)) / 127.5 - 1
    true = sphere.to_xyz(*sampler.lonlat[sampler.rows(0)].T)
    assert np.abs(middle - true).max() < 0.1, "the picture is of the place that it is said to be of"


def test_pictures_are_cut_as_one_by_one():
    rng = np.random.default_rng(5)
    whole = world.World(rng.integers(0, 256, (256, 512, 3), dtype=np.uint8))
    edges = [
        world.View(180.0, -17.0, 900.0, 33.0),
        world.View(20.0, 90.0, 900.0, 33.0),
        world.View(20.0, -89.9, 3e3, 7.0),
    ]
    views = edges + [
        world.View(float(rng.uniform(-180, 180)), float(rng.uniform(-90, 90)), float(rng.uniform(50, 9e3)), float(turn))
        for turn in rng.uniform(0, 360, 20)
    ]
    for size in (32, 33):
        found = BatchCropper(whole)(views, size).astype(int)
        expected = np.stack([whole.crop(v, size) for v in views])
        assert np.abs(found - expected).max() <= 1
        assert (found == expected).mean() > 0.99


def test_only_the_last_stages_learn_if_asked_and_given_statistics_stay(made):
    backbone = backbones.build(NETWORK)
    trainable = fit_backbone._trainable(backbone, BackboneTraining(learn="last-stages"))
    names = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert 0 < len(trainable) == len(names) < len(list(backbone.parameters()))
    assert not any(n.startswith("net.conv_stem") for n in names)
    assert any(n.startswith("net.conv_head") for n in names)
    net = fit_backbone.LocatedNetwork(backbone, nn.Identity(), choose("cpu", "fp32"))
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    fit_backbone._train_mode(net, pretrained=False)
    assert {m.training for m in norms} == {True, False}
    fit_backbone._train_mode(net, pretrained=True)
    assert not any(m.training for m in norms)


def test_a_gallery_waits_until_the_backbone_is_ready(made, tmp_path):
    asked = Head(name="cells_retrieval", config={"hidden": 16, "most": 40, "least": 3, "neighbours": 5})
    assert fit_backbone.stand_in(asked) == Head(name="cells", config={"hidden": 16, "most": 40, "least": 3})
    given = recipe(made, epochs=1).model_copy(update={"head": asked})
    found = fit_locator.fit(given, tmp_path / "model", tmp_path / "cache")
    assert found.card.head == "cells_retrieval"
    assert found.card.head_config["gallery"] == found.card.training["pictures"]


def test_a_loss_that_is_not_finite_ends_the_training(made, tmp_path):
    with pytest.raises(ModelError, match=r"not finite.*lower training\.lr"):
        learn(recipe(made, lr=1e30, clip=1e30), tmp_path)
    with pytest.raises(InputError, match=r"training\.backbone: missing"):
        learn(recipe(made, backbone=None), tmp_path)


def test_recipes_without_it_keep_their_hash(made):
    shipped = cards.read_any("world-overhead").training["recipe_hash"]
    assert pipeline.training("world-overhead")[1].hash == shipped
    assert recipe(made, backbone=None).hash != recipe(made).hash
    assert recipe(made).hash != recipe(made, backbone={"learn": "last-stages"}).hash
