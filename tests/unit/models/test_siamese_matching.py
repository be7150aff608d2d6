"""A network that tells which pixels are alike: its costs, what it learns, and files of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from geoml.cube.stereo.census import census_costs
from geoml.cube.stereo.sgm import MAX_COST, aggregate
from geoml.cube.stereo.tile import TileViews
from geoml.elevation.training.matching import KnownTile, fit
from geoml.engine.packages import matching
from geoml.errors import InputError, MissingExtra, ModelError
from geoml.models.siamese_matching import Config, NetworkCosts, SiameseMatching, cosines, of_mccnn

DEPTH = 12


def shifted(noise: float, seed: int = 0, haze: float = 0.0) -> tuple[TileViews, NDArray[np.float32]]:
    """Views of two planes, at disparity index 3 on the left and 8 on the right half, and the truth;
    the right one has waves of ``haze`` over it."""
    rng, shape = np.random.default_rng(seed), (60, 90)
    texture = rng.normal(size=(shape[0], shape[1] + DEPTH - 1)).astype(np.float32)
    index = np.where(np.arange(shape[1]) < shape[1] // 2, 3, 8)
    left = texture[:, np.arange(shape[1]) + DEPTH - 1 - index]
    right = texture + noise * rng.normal(size=texture.shape).astype(np.float32)
    right += haze * np.sin(np.arange(texture.shape[1], dtype=np.float32) / 7)
    truth = np.broadcast_to(index, shape).astype(np.float32)
    return TileViews(left, right, np.ones(left.shape, bool), np.ones(right.shape, bool)), truth


def right_share(costs: NDArray[np.uint8], truth: NDArray[np.float32]) -> float:
    return float((np.abs(costs.argmin(1) - truth) < 0.5).mean())


def test_cosines_are_those_of_each_pair() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(3, n, 5, generator=generator) for n in (70, 70 + DEPTH - 1))
    found = cosines(left, right, DEPTH)
    for x in (0, 1, 63, 64, 69):
        for k in (0, 5, DEPTH - 1):
            expected = (left[:, x] * right[:, x + DEPTH - 1 - k]).sum(1)
            torch.testing.assert_close(found[:, x, k], expected, atol=1e-5, rtol=1e-5)


def test_costs_fit_the_paths_and_are_blind_where_nothing_is_known() -> None:
    views, truth = shifted(0.0)
    views.left_known[:10] = False
    views.right_known[-10:] = False
    torch.manual_seed(0)
    costs = NetworkCosts(SiameseMatching(Config(layers=2, width=8)).eval())(views, DEPTH)
    assert costs.dtype == np.uint8
    assert costs.shape == (60, DEPTH, 90)
    assert costs.max() <= MAX_COST
    assert (costs[:10] == MAX_COST // 2).all()
    assert (costs[-10:] == MAX_COST).all()
    middle = slice(15, 45)
    assert right_share(costs[middle], truth[middle]) > 0.8  # even untaught, the same pixels have the same features
    assert right_share(aggregate(costs).position[middle, None], truth[middle]) >= 0


def test_teaching_helps_in_haze_and_is_the_same_again() -> None:
    tiles = [KnownTile(*shifted(0.3, seed, 4.0), DEPTH) for seed in range(4)]
    before, taught, again = (NetworkCosts(fit(tiles, Config(2, 8), steps=n, rate=1e-2)) for n in (0, 40, 40))
    views, truth = shifted(0.3, 99, 4.0)
    costs = taught.alone(views, DEPTH)
    assert np.array_equal(costs, again.alone(views, DEPTH))
    assert right_share(costs, truth) > right_share(before.alone(views, DEPTH), truth) + 0.1
    both = taught(views, DEPTH).astype(int)
    assert np.array_equal(both, (costs.astype(int) + census_costs(views, DEPTH) + 1) // 2)


def test_weights_come_back(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = SiameseMatching(Config(layers=3, width=6)).eval()
    path = tmp_path / "net.safetensors"
    matching.save(network, path)
    assert matching.file_of(str(path)) == path
    back = matching.load(path, matching.sha256_of(path))
    assert back.config == network.config
    views, _ = shifted(0.1)
    assert np.array_equal(NetworkCosts(back)(views, DEPTH), NetworkCosts(network)(views, DEPTH))
    with pytest.raises(ModelError, match="planned with"):
        matching.load(path, "0" * 64)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError):
        matching.load(path, matching.sha256_of(path))


def test_weights_of_mccnn_fit_and_a_pickle_is_never_executed(tmp_path: Path) -> None:
    network = SiameseMatching(Config(layers=5, width=64)).eval()
    path = tmp_path / "mc_cnn.pt"
    torch.save({"model": network.state_dict()}, path)
    x = torch.randn(1, 1, 9, 9)
    torch.testing.assert_close(matching.load(path, matching.sha256_of(path))(x), network(x))
    with pytest.raises(ModelError, match="mccnn"):
        of_mccnn({"model": SiameseMatching(Config()).state_dict()})
    torch.save({"model": Path("x")}, path)
    with pytest.raises(ModelError, match="mccnn"):
        matching.load(path, matching.sha256_of(path))


def test_ways_to_match_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert matching.file_of("census") is None
    with pytest.raises(InputError, match=r"expected census, mccnn or a \.safetensors"):
        matching.file_of("sgm")
    monkeypatch.setattr(matching, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="mccnn"):
        matching.file_of("mccnn")
    with pytest.raises(InputError, match="layers"):
        Config(layers=0)
