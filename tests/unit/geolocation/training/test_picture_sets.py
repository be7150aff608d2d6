"""Lists of pictures with positions train a locator and score it, in the layouts of public benchmarks; nothing leaks."""

from __future__ import annotations

import colorsys
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from typer.testing import CliRunner

from geoml import pipeline
from geoml.backends.torch import choose
from geoml.cli import app
from geoml.data.recipe import resolve
from geoml.errors import InputError, NothingFound
from geoml.geolocation.locate import locator
from geoml.geolocation.nn import backbones
from geoml.geolocation.pictures.positions import positioned
from geoml.geolocation.training import backbone as fit_backbone
from geoml.geolocation.training import crop_augmentation, picture_sets
from geoml.geolocation.training.recipe import GeoRecipe
from geoml.grid import sphere
from geoml.testing import pictures as made

COUNT = 240
NETWORK = "timm:test_efficientnet"


def places(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, y = np.array(made.TOWNS)[np.arange(count) % len(made.TOWNS)].T
    return sphere.destination(x, y, rng.uniform(0, 360, count), rng.uniform(0, 60, count))


def listed(folder: Path, columns: str, count: int, seed: int, sequence: int = 0) -> Path:
    """Made pictures of the towns and a CSV with the three ``columns`` of a layout."""
    made.folder(folder, count, seed, (40, 48))
    lon, lat = places(count, seed)
    with (folder / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*columns.split(","), *(["sequence"] if sequence else [])])
        for k, path in enumerate(sorted(folder.glob("*.jpg"))):
            of = {"LON": lon[k], "LAT": lat[k]}
            told = [of.get(c, path.name) for c in columns.split(",")]
            rows.writerow([*told, *([f"drive {k // sequence}"] if sequence else [])])
    return folder / "list.csv"


@pytest.fixture(scope="module")
def geoclip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return listed(tmp_path_factory.mktemp("geoclip"), "IMG_FILE,LAT,LON", COUNT, 1)


def recipe(of: Path, **other: Any) -> GeoRecipe:
    given = {"kind": "pictures", "pictures": [str(of)], "queries": 30, "calibration": 30, **other.pop("source", {})}
    return GeoRecipe.model_validate({
        "task": "geolocation", "name": "made", "kind": "photo", "license": "MIT", "data_license": "CC0-1.0",
        "backbone": made.BACKBONE, "weights": None, "size": 32, "source": given,
        "split": {"degrees": 20, "test": 0.2, "val": 0.1, "gap_km": 50}, "views": {"clean": 2, "seasons": 0},
        "head": {"name": "cells", "config": {"hidden": 32, "most": 40, "least": 3}},
        "training": {"epochs": 25, "batch": 32, "lr": 0.01}, **other,
    })  # fmt: skip


def test_a_list_trains_a_locator_and_another_one_scores_it(
    geoclip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GeoCLIP's layout trains, Im2GPS3k's asks; by command, as with any recipe."""
    monkeypatch.setenv("GEOML_SCRATCH", str(tmp_path / "scratch"))
    asked = listed(tmp_path / "asked", "IMG_ID,LAT,LON", 36, 2)
    given = recipe(geoclip, source={"tests": {"im2gps3k": str(asked)}}, half=False)  # so that no answer moves
    file = tmp_path / "made.yaml"
    file.write_text(yaml.safe_dump(given.model_dump(mode="json")))
    pipeline.train(file, tmp_path / "model")
    card = locator.load(tmp_path / "model").card
    assert (card.kind, card.width_km) == ("photo", None)
    assert set(card.scores) >= {"in-region", "im2gps3k"}
    assert card.scores["in-region"]["median_km"] < 150, "the town that its colour tells"
    said = CliRunner().invoke(app, ["evaluate", str(file), "--model", str(tmp_path / "model"), "--json"])
    assert said.exit_code == 0, said.output
    scores = json.loads(said.stdout)["sets"]
    assert scores["im2gps3k"]["median_km"] == pytest.approx(card.scores["im2gps3k"]["median_km"], rel=1e-3)
    assert scores["im2gps3k"]["n"] == 36


def test_sets_are_apart_and_hold_what_they_should(geoclip: Path) -> None:
    sets = picture_sets.choose(recipe(geoclip))
    held = picture_sets.lonlat(sets.tests["held-out"])
    train = picture_sets.lonlat(sets.train)
    assert len(held) == 30
    assert sphere.distance(train[:, None, 0], train[:, None, 1], held[:, 0], held[:, 1]).min() > 50
    assert len(sets.val) == len(sets.tests["in-region"]) == 30
    again = picture_sets.choose(recipe(geoclip))
    assert [p.sha256 for p in again.train] == [p.sha256 for p in sets.train]
    other = picture_sets.choose(recipe(geoclip, seed=1))
    assert [p.sha256 for p in other.train] != [p.sha256 for p in sets.train]


def test_one_of_a_sequence_and_so_many_of_a_place(tmp_path: Path) -> None:
    source = listed(tmp_path, "id,LAT,LON,file", 480, 3, sequence=2)
    every = recipe(source)
    sets = picture_sets.choose(every)
    known = [*sets.train, *sets.val, *sets.val_blocks, *(p for t in sets.tests.values() for p in t)]
    assert 120 < len(known) <= 240
    assert len({p.sequence for p in known}) == len(known)
    few = picture_sets.choose(recipe(source, source={"per_place": 18, "place_km": 400.0, "calibration": 20}))
    at = picture_sets.lonlat([*few.train, *few.val, *(p for t in few.tests.values() for p in t)])
    near = sphere.distance(at[:, None, 0], at[:, None, 1], at[:, 0], at[:, 1]) < 150
    assert near.sum(1).max() <= 4 * 18, "a town lies in four places at most"
    assert len(at) < len(known)


def test_what_leaks_or_is_too_little_is_refused(geoclip: Path, tmp_path: Path) -> None:
    copied = listed(tmp_path / "copied", "IMG_ID,LAT,LON", COUNT, 1)
    with pytest.raises(InputError, match="leak, sha256"):
        picture_sets.choose(recipe(geoclip, source={"tests": {"copies": str(copied)}}))
    few = listed(tmp_path / "few", "IMG_ID,LAT,LON", 20, 4)
    with pytest.raises(InputError, match="expected 16 and 20 or more"):
        picture_sets.choose(recipe(few))
    made.folder(tmp_path / "lost", 3)
    with pytest.raises(NothingFound, match="none of 3 pictures has a position"):
        picture_sets.choose(recipe(tmp_path / "lost"))


def learnt(given: GeoRecipe, folder: Path) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(given.seed)
    backbone = backbones.build(given.backbone)
    return backbone, fit_backbone.fit(given, backbone, folder, None, choose("cpu", "fp32"))


def test_a_backbone_learns_from_pictures(geoclip: Path, tmp_path: Path) -> None:
    """The towns of pictures that it never saw; before it learns (a rate of nothing) it is off by half the world."""
    asked = np.stack([made.picture(k % len(made.TOWNS), 777 + k, (32, 32)) for k in range(48)])
    lon, lat = places(48, 5)
    off = {}
    for name, how in (("untrained", {"epochs": 1, "lr": 1e-12}), ("learnt", {"epochs": 5, "lr": 0.01})):
        given = recipe(geoclip, training={"batch": 16, "backbone": {}, **how}, backbone=NETWORK)
        off[name] = made.median_km(*learnt(given, tmp_path / name), asked, lon, lat)
    assert off["learnt"] < 0.3 * off["untrained"], off


def test_training_from_pictures_goes_on_after_a_stop(geoclip: Path, tmp_path: Path) -> None:
    """Two neurons and the haversine distance on pictures with GPS tags; stopped after the first of two epochs."""
    head = {"name": "latlon", "config": {"hidden": 0}}
    training = {"epochs": 2, "batch": 32, "lr": 0.001, "backbone": {}}
    given = recipe(geoclip, head=head, training=training, backbone=NETWORK)

    def learn(folder: Path, stop: bool = False) -> list[float]:
        losses: list[float] = []

        def told(epoch: dict[str, float]) -> None:
            losses.append(epoch["loss"])
            if stop:
                raise KeyboardInterrupt

        torch.manual_seed(given.seed)
        backbone = backbones.build(given.backbone)
        fit_backbone.fit(given, backbone, folder, told, choose("cpu", "fp32"))
        return losses

    whole = learn(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "stopped", stop=True)
    assert learn(tmp_path / "stopped") == whole[1:]


def test_a_photo_keeps_its_sides_and_its_hues_and_a_view_from_above_has_no_up() -> None:
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, :32], rgb[:, 32:] = (150, 60, 40), (40, 90, 140)

    def left_is_red(kind: crop_augmentation.Kind) -> list[bool]:
        found = []
        for seed in range(40):
            seen = crop_augmentation.augment(rgb, 48, kind, np.random.default_rng(seed)).astype(int)
            assert seen.shape == (48, 48, 3)
            assert seen.any(-1).all(), "nothing beyond the picture's edge"
            red = seen[..., 0] > seen[..., 2]
            found.append(bool(red[:, :24].mean() > red[:, 24:].mean()))
        return found

    assert all(left_is_red("photo"))
    assert 5 < sum(left_is_red("overhead")) < 35
    plain = np.broadcast_to(np.array([150, 60, 40], np.uint8), (64, 64, 3))
    for seed in range(20):
        seen = crop_augmentation.augment(plain, 48, "photo", np.random.default_rng(seed))[20, 20] / 255
        assert colorsys.rgb_to_hsv(*seen)[0] == pytest.approx(
            colorsys.rgb_to_hsv(150 / 255, 60 / 255, 40 / 255)[0], abs=0.01
        )


@pytest.mark.data
def test_real_frames_have_their_places_in_the_exif() -> None:
    found, left_out = positioned([resolve("${GEOML_DATA}/geolocation/drone_caliterra")])
    assert left_out == []
    assert len(found) == 75
    at = picture_sets.lonlat(found)
    assert sphere.distance(*at.mean(0), at[:, 0], at[:, 1]).max() < 0.15
    assert len({p.sha256 for p in found}) == 75
