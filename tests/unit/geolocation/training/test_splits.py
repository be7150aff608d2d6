"""Splits and sampling of pictures with a place: what leaks is found, what is rare is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoml.errors import InputError
from geoml.geolocation.training import balance
from geoml.geolocation.training import splits as geosplits
from geoml.grid import sphere


def around(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(-180, 180, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))], 1)


def test_a_block_is_in_one_split_and_shares_come_out():
    where = around(20_000, 0)
    names = geosplits.blocks(where, 0.2, 0.1, 5.0)
    of = {}
    for block, name in zip(balance.coarse(where[:, 0], where[:, 1], 5.0), names, strict=True):
        assert of.setdefault(block, name) == name
    assert np.mean(names == "test") == pytest.approx(0.2, abs=0.04)
    assert np.mean(names == "val") == pytest.approx(0.1, abs=0.03)
    assert (names == geosplits.blocks(where, 0.2, 0.1, 5.0)).all()
    assert (names != geosplits.blocks(where, 0.2, 0.1, 5.0, seed=1)).any()


def test_edges_of_the_world_belong_to_a_block():
    lon, lat = np.array([-180.0, 180.0, 179.999, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 90.0, -90.0])
    number = balance.coarse(lon, lat, 10.0)
    assert number[0] == number[1] != number[2]
    assert number.min() >= 0
    assert number.max() < 36 * 18


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(10, 2000))
def test_places_that_are_kept_apart_pass_the_check_and_the_others_fail_it(seed, gap):
    train, test = around(40, seed), around(20, seed + 5000)
    km = sphere.distance(train[:, None, 0], train[:, None, 1], test[None, :, 0], test[None, :, 1]).min(1)
    far = geosplits.apart(train, test, gap)
    assert (far == (km > gap)).all()
    geosplits.check({"train": train[far], "test": test}, gap)
    if not far.all():
        with pytest.raises(InputError, match=r"leak, picture \d+ of train"):
            geosplits.check({"train": train, "test": test}, gap)


def test_neighbours_across_the_antimeridian_are_neighbours():
    with pytest.raises(InputError, match="leak"):
        geosplits.check({"train": np.array([[179.99, 10.0]]), "test": np.array([[-179.99, 10.0]])}, 5.0)
    geosplits.check({"train": np.array([[179.99, 10.0]]), "test": np.array([[-179.99, 10.0]])}, 1.0)


def test_copies_and_sequences_in_two_splits_fail():
    where = {"train": around(2, 0), "val": around(2, 1), "test": around(2, 2)}
    geosplits.check(where, 0.0, {"train": ["a", "b"], "test": ["c", "d"]}, {"train": [None, "1"], "test": [None, "2"]})
    with pytest.raises(InputError, match="sha256 b is in train and in test"):
        geosplits.check(where, 0.0, {"train": ["a", "b"], "test": ["b", "d"]})
    with pytest.raises(InputError, match="sequence 7 is in val and in test"):
        geosplits.check(where, 0.0, sequence={"val": ["7", None], "test": ["7", None]})


def test_the_exponent_goes_from_as_it_is_to_every_cell_alike():
    cell = np.array([0] * 90 + [1] * 10)
    share = [balance.weights(cell, e)[90:].sum() for e in (0.0, 0.5, 1.0)]
    assert share == pytest.approx([0.1, 0.25, 0.5])
    with pytest.raises(InputError, match="exponent"):
        balance.weights(cell, 2.0)


def test_one_of_a_sequence_and_at_most_so_many_of_a_place():
    kept = balance.one_per_sequence(["a", "a", None, "b", None, "a"])
    assert len(kept) == 4
    assert {2, 3, 4} < set(kept.tolist())
    place = np.array([3, 3, 3, 1, 3, 1, 9])
    assert np.bincount(place[balance.cap(place, 2)]).tolist() == [0, 2, 0, 2, 0, 0, 0, 0, 0, 1]
    assert balance.cap(np.zeros(0, np.int64), 2).size == 0
    with pytest.raises(InputError, match="most"):
        balance.cap(place, 0)
