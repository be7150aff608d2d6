"""Objects followed over made days with known truth."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.grid.ellipsoid import WGS84
from geoml.vector.sightings import LOOKED, ObjectsOfDay, Sightings, sighted

Floats = NDArray[np.float64]
LON, LAT = 12.4, 45.5
RECALL: dict[int, float | None] = {1: 0.8, 2: 0.5, 3: None}
"""Two misses of the first class are 4 %, five of the second 3.1 %."""


def day(n: int) -> np.datetime64:
    return np.datetime64("2024-05-30", "us") + np.timedelta64(n, "D")


def objects(
    metres: Sequence[tuple[float, float]] | Floats, value: int | Sequence[int] = 1, side: float = 2.0, lon: float = LON
) -> ObjectsOfDay:
    """Squares of a side in metres about places (east, north) in metres; pyproj says where these are."""
    places = np.asarray(metres, float).reshape(-1, 2)

    def degrees(offset: tuple[float, float]) -> Floats:
        east, north = (places + offset).T
        start = np.full(len(places), lon), np.full(len(places), LAT)
        return np.column_stack(WGS84.fwd(*start, np.degrees(np.arctan2(east, north)), np.hypot(east, north))[:2])

    half = side / 2
    corners = np.stack([degrees(c) for c in ((-half, -half), (half, -half), (half, half), (-half, half))], 1)
    x, y = degrees((0.0, 0.0)).T
    values = np.broadcast_to(np.asarray(value, np.uint8), len(places)).copy()
    return ObjectsOfDay(
        np.asarray(shapely.polygons(corners), object).reshape(-1), values, x, y, np.full(len(places), side)
    )


def everywhere(boxes: NDArray[np.object_]) -> Floats:
    return np.ones(len(boxes))


def nowhere(boxes: NDArray[np.object_]) -> Floats:
    return np.full(len(boxes), LOOKED - 0.01)


def one(tracks: Sightings, id: str) -> dict[str, object]:
    (k,) = np.flatnonzero(tracks.id == id)
    names = ("first_seen", "last_seen", "sightings", "looks", "misses", "closed")
    found = {name: getattr(tracks, name)[k] for name in names}
    return {**found, "closed": None if np.isnat(found["closed"]) else found["closed"]}


NOTHING = objects([])


def test_an_object_that_is_missed_for_a_day_keeps_its_id() -> None:
    tracks, (id,) = sighted(Sightings.empty(), objects([(0, 0)]), day(0), everywhere, RECALL)
    tracks, _ = sighted(tracks, NOTHING, day(1), everywhere, RECALL)
    assert one(tracks, id)["misses"] == 1
    assert tracks.missed_chance(RECALL) == pytest.approx([0.2])
    tracks, (again,) = sighted(tracks, objects([(0.5, -0.4)]), day(2), everywhere, RECALL)
    assert again == id
    tracks, _ = sighted(tracks, NOTHING, day(3), everywhere, RECALL)
    assert one(tracks, id) == {
        "first_seen": day(0), "last_seen": day(2), "sightings": 2, "looks": 4, "misses": 1, "closed": None,
    }, "the count of misses starts again"  # fmt: skip


@pytest.mark.parametrize(("value", "needed"), [(1, 2), (2, 5)])
def test_it_is_gone_after_looks_that_would_hardly_all_have_missed_it(value: int, needed: int) -> None:
    tracks, (id,) = sighted(Sightings.empty(), objects([(0, 0)], value), day(0), everywhere, RECALL)
    for n in range(1, needed):
        tracks, _ = sighted(tracks, NOTHING, day(n), everywhere, RECALL)
        assert one(tracks, id)["closed"] is None
    tracks, _ = sighted(tracks, NOTHING, day(needed), everywhere, RECALL)
    last = {"last_seen": day(0), "sightings": 1, "looks": 1 + needed, "misses": needed, "closed": day(needed)}
    assert one(tracks, id) == {"first_seen": day(0), **last}
    assert tracks.missed_chance(RECALL)[0] < 0.05
    tracks, (back,) = sighted(tracks, objects([(0, 0)], value), day(needed + 1), everywhere, RECALL)
    assert back != id, "a closed one never opens again"
    assert one(tracks, id)["closed"] == day(needed)


def test_where_nobody_looked_nothing_is_known() -> None:
    tracks, ids = sighted(Sightings.empty(), objects([(0, 0), (50, 0)]), day(0), everywhere, RECALL)
    before = tracks
    for n in range(1, 9):
        tracks, _ = sighted(tracks, NOTHING, day(n), nowhere, RECALL)
    for name in ("id", "geometry", "last_seen", "sightings", "looks", "misses"):
        np.testing.assert_array_equal(getattr(tracks, name), getattr(before, name))
    assert np.isnat(tracks.closed).all()
    (under,) = before.geometry[before.id == ids[0]]
    for n in (9, 10):  # a cloud stands over the first one
        tracks, _ = sighted(tracks, NOTHING, day(n), lambda boxes: 1.0 - (boxes == under), RECALL)
    assert [one(tracks, id)["closed"] for id in ids] == [None, day(10)]
    assert one(tracks, ids[0])["looks"] == 1


def test_of_a_class_without_recall_nothing_closes() -> None:
    tracks, (id,) = sighted(Sightings.empty(), objects([(0, 0)], 3), day(0), everywhere, RECALL)
    for n in range(1, 40):
        tracks, _ = sighted(tracks, NOTHING, day(n), everywhere, RECALL)
    assert one(tracks, id)["misses"] == 39
    assert one(tracks, id)["closed"] is None
    assert np.isnan(tracks.missed_chance(RECALL)[0])


def test_another_class_in_the_place_is_another_object() -> None:
    tracks, (id,) = sighted(Sightings.empty(), objects([(0, 0)], 1), day(0), everywhere, RECALL)
    tracks, (other,) = sighted(tracks, objects([(0, 0)], 2), day(1), everywhere, RECALL)
    assert other != id
    assert one(tracks, id)["misses"] == 1


@pytest.mark.parametrize(
    ("apart", "side", "same"), [(5.9, 2.0, True), (6.1, 2.0, False), (19.0, 40.0, True), (21.0, 40.0, False)]
)
def test_the_gate_is_in_metres_and_grows_with_the_object(apart: float, side: float, same: bool) -> None:
    tracks, (id,) = sighted(Sightings.empty(), objects([(0, 0)], side=side), day(0), everywhere, RECALL)
    for direction in ((apart, 0.0), (0.0, apart)):
        _, (after,) = sighted(tracks, objects([direction], side=side), day(1), everywhere, RECALL)
        assert (after == id) == same


def test_over_the_antimeridian_metres_are_metres() -> None:
    tracks, ids = sighted(Sightings.empty(), objects([(-2, 0), (30, 0)], lon=180.0), day(0), everywhere, RECALL)
    after = objects([(1, 0), (30, 0)], lon=180.0)
    assert np.sign(after.x[0]) != np.sign(tracks.x[tracks.id == ids[0]][0])
    _, again = sighted(tracks, after, day(1), everywhere, RECALL)
    assert again.tolist() == ids.tolist()


def test_neighbours_3_metres_apart_do_not_swap_though_each_moves_by_1_metre() -> None:
    """Trees as in NAIP: 3.2 m between neighbours, 1.2 m between years."""
    random = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(np.arange(14), np.arange(14)), -1).reshape(-1, 2) * 3.2
    tracks, ids = sighted(Sightings.empty(), objects(grid), day(0), everywhere, RECALL)
    for n in range(1, 12):
        angle = random.uniform(0, 2 * np.pi, len(grid))
        here = grid + 1.2 * np.column_stack([np.cos(angle), np.sin(angle)])
        tracks, again = sighted(tracks, objects(here), day(n), everywhere, RECALL)
        assert (again == ids).all(), n
    assert (tracks.sightings == 12).all()
    start = dict(zip(ids, objects(grid).x, strict=True))
    off = np.abs(tracks.x - [start[id] for id in tracks.id]) * 111_320 * np.cos(np.radians(LAT))
    assert off.mean() < 0.5, "the mean place is steadier than a look"


def test_a_row_does_not_move_up_where_its_first_is_gone_and_a_new_one_stands_at_its_end() -> None:
    row = np.column_stack([np.arange(9) * 3.2, np.zeros(9)])
    jitter = np.random.default_rng(1).normal(0, 0.4, (9, 2))
    tracks, ids = sighted(Sightings.empty(), objects(row[:-1]), day(0), everywhere, RECALL)
    tracks, again = sighted(tracks, objects(row[1:] + jitter[1:]), day(1), everywhere, RECALL)
    assert again[:-1].tolist() == ids[1:].tolist()
    assert again[-1] not in ids.tolist()
    assert one(tracks, ids[0])["misses"] == 1


def test_a_made_city_over_two_years() -> None:
    """Two hundred objects; some come, some go, a fifth of what is there is missed, a third of the days is clouded."""
    random = np.random.default_rng(7)
    count, days = 200, 24
    place = np.stack(np.meshgrid(np.arange(20), np.arange(10)), -1).reshape(-1, 2) * 12.0
    comes, goes = np.zeros(count, int), np.full(count, days + 1)
    comes[:30] = random.integers(1, 8, 30)
    goes[30:60] = random.integers(8, 16, 30)
    name: dict[int, set[str]] = {k: set() for k in range(count)}
    tracks = Sightings.empty()
    for n in range(days):
        cloud = random.random() < 0.3
        there = (comes <= n) & (n < goes) & (random.random(count) < 0.8)
        if cloud:
            there &= place[:, 0] < 120
        rows = np.flatnonzero(there)
        seen = objects(place[rows] + random.normal(0, 0.8, (len(rows), 2)), side=4.0)
        limit = objects([(114.0, 0)]).x[0]

        def clear(boxes: NDArray[np.object_], cloud: bool = cloud, limit: float = limit) -> Floats:
            return 1.0 - (cloud & (shapely.bounds(boxes)[:, 0] > limit))

        tracks, ids = sighted(tracks, seen, day(n), clear, {1: 0.8})
        for k, id in zip(rows.tolist(), ids.tolist(), strict=True):
            name[k].add(id)
    owner = {id: k for k, those in name.items() for id in those}
    assert len(owner) == sum(len(those) for those in name.values()), "no id is of two objects"
    closed = ~np.isnat(tracks.closed)
    gone = {k for k in range(30, 60) if name[k]}
    open_ = {owner[id] for id in tracks.id[~closed]}
    assert not open_ & gone, "all that are gone were closed"
    early = [id for id in tracks.id[closed] if owner[id] not in gone]
    looks = int(tracks.looks.sum())
    assert len(early) / looks < 0.05 * 1.5, "closed although there: as seldom as two misses in a row"


@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(random: random.Random) -> None:
    shuffled = random.sample
    places = np.random.default_rng(3).uniform(0, 40, (2, 30, 2)).round(1)
    places[1, 4] = places[1, 5]  # two in one place, of one class
    values = [1, 2, 1] * 10
    first, second = objects(places[0], values), objects(places[1], values)

    def followed(one_: Sequence[int], two: Sequence[int]) -> tuple[Sightings, dict[int, str], dict[int, str]]:
        tracks, a = sighted(Sightings.empty(), first.take(np.array(one_)), day(0), everywhere, RECALL)
        tracks = tracks.take(np.array(shuffled(range(len(tracks)), len(tracks))))
        tracks, b = sighted(tracks, second.take(np.array(two)), day(1), everywhere, RECALL)
        return tracks, dict(zip(one_, a, strict=True)), dict(zip(two, b, strict=True))

    whole = followed(range(30), range(30))
    tracks, a, b = followed(shuffled(range(30), 30), shuffled(range(30), 30))
    assert a == whole[1]
    assert {k: v for k, v in b.items() if k not in (4, 5)} == {k: v for k, v in whole[2].items() if k not in (4, 5)}
    assert {b[4], b[5]} == {whole[2][4], whole[2][5]}
    for name in ("id", "geometry", "sightings", "looks", "misses"):
        np.testing.assert_array_equal(getattr(tracks, name), getattr(whole[0], name))


def test_days_come_in_their_order() -> None:
    tracks, _ = sighted(Sightings.empty(), objects([(0, 0)]), day(3), everywhere, RECALL)
    with pytest.raises(InputError, match="before the last look"):
        sighted(tracks, NOTHING, day(2), everywhere, RECALL)
