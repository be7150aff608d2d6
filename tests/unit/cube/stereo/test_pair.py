"""What two pictures share, how far their RPC disagree, and pairs that tell no heights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from geoml.cube.stereo.pair import HeightBounds, between, overlap
from geoml.cube.stereo.parallax import Parallax, parallax
from geoml.errors import DataError, InputError
from geoml.testing.stereo import MadePair


def test_the_overlap_and_base_to_height(made: MadePair) -> None:
    shared = overlap(made.pair())
    assert shared.ratio == pytest.approx(made.ratio, rel=0.01)
    assert shared.gsd == pytest.approx(made.gsd, rel=0.01)
    assert shared.metres == pytest.approx(made.gsd / made.ratio, rel=0.02)
    assert shared.share > 0.8
    assert (shared.lowest, shared.highest) == (288.0, 322.0)


def test_the_parallax_that_was_made_is_found(made: MadePair, found: Parallax) -> None:
    assert found.across == pytest.approx(-3.0, abs=0.05)
    assert found.agreed > 0.9 * found.found
    assert found.spread < 0.15
    shift = np.array(found.shift)[:, 0]
    true = made.sensors[1].shift[:, 0]
    np.testing.assert_allclose(shift, true, atol=0.1)
    assert "-3.0" in found.text


def test_an_identical_pair_is_refused(made: MadePair) -> None:
    pair = made.pair()
    with pytest.raises(InputError, match="left and left have the same RPC"):
        overlap(replace(pair, right=pair.left))
    with pytest.raises(InputError, match="the same picture"):
        overlap(replace(pair, right=replace(pair.right, read=pair.left.read, first=pair.left.first)))


def test_views_from_one_place_are_refused(made: MadePair) -> None:
    pair = made.pair()
    moved = replace(pair.left.sensor.rpc, offsets=pair.left.sensor.rpc.offsets + np.eye(5)[0])
    with pytest.raises(InputError, match="from one place"):
        overlap(replace(pair, right=replace(pair.right, sensor=replace(pair.left.sensor, rpc=moved))))


def test_a_pair_without_overlap_is_refused(made: MadePair) -> None:
    pair = made.pair()
    rpc = pair.right.sensor.rpc
    away = replace(rpc, offsets=rpc.offsets + 0.05 * np.eye(5)[2])
    with pytest.raises(InputError, match="left and right show no common ground"):
        overlap(replace(pair, right=replace(pair.right, sensor=replace(pair.right.sensor, rpc=away))))


def test_an_rpc_of_another_crop_is_refused(made: MadePair) -> None:
    """It lies where it is valid, so only the tie points tell."""
    pair = made.pair()
    other = replace(pair, right=replace(pair.right, first=(made.firsts[1][0] + 90, made.firsts[1][1] - 80)))
    with pytest.raises(DataError, match=r"left and right.*another"):
        parallax(other, overlap(other))


def test_pictures_of_noise_have_no_tie_points(made: MadePair) -> None:
    pair = made.pair()
    noise = np.random.default_rng(0).normal(size=(200, 200)).astype(np.float32)
    other = replace(pair, right=replace(pair.right, read=lambda a, b, c, d: noise[a:b, c:d]))
    with pytest.raises(DataError, match="tie points"):
        parallax(other, overlap(other))


def test_heights_have_an_order_and_are_known_somewhere(made: MadePair) -> None:
    with pytest.raises(InputError, match="lower one first"):
        between(5.0, 5.0)
    with pytest.raises(InputError, match="metres"):
        HeightBounds(lambda lon, _: lon, -1.0, 5.0)
    with pytest.raises(InputError, match="unknown"):
        overlap(made.pair(HeightBounds(lambda lon, _: np.full(lon.shape, np.nan), 1.0, 1.0)))
