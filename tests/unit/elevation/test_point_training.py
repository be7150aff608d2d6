"""A classifier of points learns from clouds with classes, goes on where it was stopped, and is scored on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geoml.cli.common import print_scores
from geoml.elevation.accuracy.point_scores import PointScores
from geoml.elevation.training.clouds import chip, clouds
from geoml.elevation.training.fit import fit, set_loss
from geoml.elevation.training.recipe import PointAugmentation, PointRecipe
from geoml.elevation.training.score import score
from geoml.errors import DataError, InputError, NothingFound
from geoml.recipe import parse
from tests.unit.elevation.made import BUILDING, GROUND, TREE, scanned, write

CODES = {GROUND: "ground", TREE: "tree", BUILDING: "building"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiles side by side."""
    root = tmp_path_factory.mktemp("clouds")
    for k in range(3):
        write(root / f"tile_{k}.laz", *scanned(k, x=1000.0 + 40 * k))
    return root


def recipe(folder: Path, **changes: Any) -> PointRecipe:
    tiny = {"widths": [8, 8, 12], "openings": [1, 2, 4], "head": 8, "dropout": 0.1}
    about = {"name": "made", "classes": [{"value": v, "name": n} for v, n in CODES.items()], "config": tiny}
    source = {"files": str(folder / "*.laz"), "codes": CODES, "crs": "EPSG:28992"}
    how = {"split": {"test": "tile_2*"}, "steps": 12, "epochs": 3, "chip": 30, "lr": 0.02}
    return parse(PointRecipe, {**about, "sources": [source], **how, **changes}, "made")


def test_it_learns_and_is_scored_on_a_tile_that_it_has_not_seen(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs: list[dict[str, float]] = []
    asked = recipe(folder, split={"test": "tile_2*", "val": "tile_1*"})
    card = fit(asked, tmp_path / "a", epochs.append)
    assert [e["epoch"] for e in epochs] == [0, 1, 2]
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    assert list(card.training["clouds"]) == ["tile_0.laz"]
    assert card.scores["iou"]["ground"] > 0.8
    assert card.scores["miou"] > card.scores["methods"]["all ground"]["miou"] + 0.2
    assert not (tmp_path / "a" / ".fit").exists()
    assert fit(asked, tmp_path / "a") == card, "a finished package is given as it is"
    with pytest.raises(InputError, match=r"out: .* of a different recipe"):
        fit(recipe(folder, seed=1), tmp_path / "a")
    found = score(tmp_path / "a", asked, "test")
    assert {k: found[k] for k in card.scores} == card.scores
    print_scores("point_classes", found)
    said = capsys.readouterr().out
    assert "all ground" in said
    assert f"{found['iou']['building']:.3f}" in said
    with pytest.raises(InputError, match="split: 'train'"):
        score(tmp_path / "a", asked, "train")
    two = {"classes": [{"value": 2, "name": "ground"}, {"value": 1, "name": "tree"}]}
    other = recipe(folder, **two, sources=[{"files": "x", "codes": {2: "ground"}}])
    with pytest.raises(InputError, match="tells ground, tree, building apart"):
        score(tmp_path / "a", other, "test")


def test_a_training_that_was_killed_goes_on_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    asked = recipe(folder, steps=4)
    whole = fit(asked, tmp_path / "whole")

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(asked, tmp_path / "killed", stop)
    assert (tmp_path / "killed" / ".fit").exists()
    with pytest.raises(InputError, match="unfinished run of a different recipe"):
        fit(recipe(folder, steps=5), tmp_path / "killed")
    seen: list[float] = []
    assert fit(asked, tmp_path / "killed", lambda row: seen.append(row["epoch"])).sha256 == whole.sha256
    assert seen == [2], "what was done is not done again"


def test_splits_that_share_ground_are_refused(folder: Path, tmp_path: Path) -> None:
    for k in range(2):
        write(tmp_path / f"again_{k}.laz", *scanned(k, x=1000.0 + 30 * k))
    with pytest.raises(InputError, match=r"again_1.laz of test and again_0.laz of train share \d+ m2 of ground"):
        clouds(recipe(tmp_path, split={"test": "again_1*"}), "train")
    assert len(clouds(recipe(tmp_path, split={"test": "again_1*", "never": "again_0*"}), "test")) == 1


def test_what_cannot_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        clouds(recipe(tmp_path), "train")
    with pytest.raises(NothingFound, match="no file of val"):
        clouds(recipe(folder), "val")
    whole = (folder / "tile_0.laz").read_bytes()
    (tmp_path / "cut.laz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.laz"):
        clouds(recipe(tmp_path), "train")
    with pytest.raises(InputError, match="codes: 2 is"):
        recipe(folder, sources=[{"files": "x", "codes": {2: ["grund"]}}])


def test_withheld_points_and_noise_are_left_out_and_feet_become_metres(tmp_path: Path) -> None:
    columns, code = scanned(0, 12)
    code[:5], code[5:8], code[8:10] = 7, 18, 99
    withheld = np.zeros(len(code), np.uint8)
    withheld[20:24] = 1
    write(tmp_path / "odd.laz", columns, code, withheld=withheld)
    codes = {**CODES, 99: ["tree", "building"]}
    source = {"files": str(tmp_path / "*.laz"), "codes": codes, "crs": "EPSG:2257", "vertical": "EPSG:6360"}
    (cloud,) = clouds(recipe(tmp_path, sources=[source]), "train")
    assert len(cloud) == len(code) - 12
    assert (cloud.may == 0b110).sum() == 2
    kept = np.delete(np.arange(len(code)), [*range(8), *range(20, 24)])
    wanted = np.rint(columns.points[kept] * 1200 / 3937)
    assert sorted(map(tuple, cloud.columns.points.tolist())) == sorted(map(tuple, wanted.astype(np.int64).tolist()))


def test_a_chip_keeps_what_belongs_together(folder: Path) -> None:
    train = clouds(recipe(folder), "train")
    how = PointAugmentation(thin=0.5, scale=0.2)
    one, other = (chip(train, 20, how, np.random.default_rng(5)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one[0], other[0], strict=True)), "the same by the same chance"
    columns, may = one
    assert np.ptp(columns.points[:, :2], axis=0).max() <= 20_000
    high = columns.points[:, 2][may == 4].min(initial=10**9) - columns.points[:, 2][may == 1].min()
    assert high > 1_000, "roofs stay above the ground"
    assert (columns.returns[may != 2] == 1).all()


def test_the_loss_is_of_all_classes_that_a_point_may_be() -> None:
    raw = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    may = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]]) > 0
    found = set_loss(raw, may)
    p = torch.softmax(raw, 1)
    wanted = -(torch.log(p[0, 0]) + torch.log(p[1, 1] + p[1, 2])) / 2
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    found.backward()
    assert raw.grad is not None
    assert bool(torch.isfinite(raw.grad).all())
    assert not raw.grad[2:].any(), "of which nothing is known"
    assert float(set_loss(raw.detach(), may & False)) == 0


def test_scores_are_those_of_the_confusion_matrix() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    truth, answer = random.integers(0, 3, 500), random.integers(0, 3, 500)
    scores = PointScores(["ground", "tree", "building"])
    scores.update(answer, 1 << truth)
    found = scores.compute()
    assert list(found["iou"].values()) == pytest.approx(sklearn.jaccard_score(truth, answer, average=None).tolist())
    assert found["right"] == pytest.approx(sklearn.accuracy_score(truth, answer))
    kappa = sklearn.cohen_kappa_score(truth == 0, answer == 0)
    assert found["ground"]["kappa"] == pytest.approx(100 * kappa)
    assert found["ground"]["total"] == pytest.approx(100 * ((truth == 0) != (answer == 0)).mean())


def test_a_point_that_may_be_several_counts_against_those_that_it_is_not() -> None:
    scores = PointScores(["ground", "tree", "building"])
    scores.update(np.array([0, 1, 2, -1, 0]), np.array([0b110, 0b110, 0b110, 0b110, 0b001]))
    found = scores.compute()
    assert found["iou"] == {"ground": 0.5, "tree": None, "building": None}
    assert found["right"] == 3 / 5
    assert found["ground"] == {
        "type_1": 0.0,
        "type_2": 25.0,
        "total": 20.0,
        "kappa": pytest.approx(100 * (0.8 - 0.56) / 0.44),
    }
    assert PointScores(["a", "b"]).compute() == {
        "miou": None,
        "iou": {"a": None, "b": None},
        "right": None,
        "ground": None,
        "points": 0,
    }
