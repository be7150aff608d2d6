"""Ids stay, dates move on, what is gone is closed and what nobody looked at is left alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Geometry, box

from geoml.errors import InputError
from geoml.vector.tracks import Tracks, follow

EVERYWHERE = box(-100, -100, 100, 100)
Looked = list[tuple[Geometry, int]]
Row = tuple[str, str, int, str, str, str]


def day(n: int) -> np.datetime64:
    return np.datetime64("2024-01-01", "us") + np.timedelta64(n, "D")


def look(tracks: Tracks, seen: Looked, n: int, observed: Geometry = EVERYWHERE) -> tuple[Tracks, list[str]]:
    geometry = np.empty(len(seen), object)
    geometry[:] = [g for g, _ in seen]
    after, ids = follow(tracks, geometry, np.array([v for _, v in seen], np.uint8), day(n), observed)
    return after, ids.tolist()


def rows(tracks: Tracks) -> list[Row]:
    columns = (tracks.id, tracks.geometry, tracks.value, tracks.first_seen, tracks.last_seen, tracks.closed)
    found = zip(*columns, strict=True)
    return [(i, shapely.normalize(g).wkt, int(v), str(a), str(b), str(c)) for i, g, v, a, b, c in found]


def one(tracks: Tracks, id: str) -> dict[str, object]:
    (k,) = np.flatnonzero(tracks.id == id)
    names = ("geometry", "value", "first_seen", "last_seen", "closed")
    return {name: getattr(tracks, name)[k] for name in names}


def test_seen_again_keeps_its_id_and_first_date_and_takes_the_new_shape() -> None:
    tracks, (id,) = look(Tracks.empty(), [(box(0, 0, 4, 4), 1)], 0)
    assert len(id) == 16
    tracks, ids = look(tracks, [(box(1, 0, 5, 4), 1)], 5)
    assert ids == [id]
    row = one(tracks, id)
    assert (row["first_seen"], row["last_seen"]) == (day(0), day(5))
    assert np.isnat(row["closed"])
    assert row["geometry"] == box(1, 0, 5, 4)


def test_gone_is_closed_with_the_date_and_what_comes_back_is_new() -> None:
    tracks, (id,) = look(Tracks.empty(), [(box(0, 0, 4, 4), 1)], 0)
    tracks, _ = look(tracks, [], 3)
    assert (one(tracks, id)["last_seen"], one(tracks, id)["closed"]) == (day(0), day(3))
    tracks, (other,) = look(tracks, [(box(0, 0, 4, 4), 1)], 6)
    assert other != id
    assert one(tracks, id)["closed"] == day(3)
    assert one(tracks, other)["first_seen"] == day(6)


@pytest.mark.parametrize(("right", "closes"), [(-1.0, False), (3.0, False), (3.61, True), (4.0, True), (9.0, True)])
def test_only_where_it_was_observed(right: float, closes: bool) -> None:
    tracks, (id,) = look(Tracks.empty(), [(box(0, 0, 4, 4), 1)], 0)
    after, _ = look(tracks, [], 1, box(-9, -9, right, 9))
    assert np.isnat(one(after, id)["closed"]) != closes
    if not closes:
        assert rows(after) == rows(tracks)


def test_what_was_not_observed_of_a_change_stays() -> None:
    tracks, (id,) = look(Tracks.empty(), [(box(0, 0, 8, 4), 1)], 0)
    tracks, ids = look(tracks, [(box(0, 0, 4, 3), 1)], 1, box(-9, -9, 4, 9))
    assert ids == [id]
    assert one(tracks, id)["geometry"].equals(box(0, 0, 4, 3) | box(4, 0, 8, 4))  # type: ignore[attr-defined]


def test_of_a_change_that_fell_apart_the_largest_part_keeps_the_id() -> None:
    tracks, (id,) = look(Tracks.empty(), [(box(0, 0, 10, 4), 1)], 0)
    tracks, (small, large) = look(tracks, [(box(0, 0, 3, 4), 1), (box(4, 0, 10, 4), 1)], 1)
    assert large == id
    assert small != id
    assert one(tracks, small)["first_seen"] == day(1)


def test_where_changes_grew_together_the_largest_goes_on() -> None:
    tracks, (small, large) = look(Tracks.empty(), [(box(0, 0, 3, 4), 1), (box(4, 0, 10, 4), 1)], 0)
    tracks, ids = look(tracks, [(box(0, 0, 10, 4), 1)], 1)
    assert ids == [large]
    assert one(tracks, small)["closed"] == day(1)
    assert one(tracks, large)["first_seen"] == day(0)


def test_another_class_or_too_little_in_common_is_another_change() -> None:
    tracks, (id,) = look(Tracks.empty(), [(box(0, 0, 4, 4), 1)], 0)
    assert look(tracks, [(box(0, 0, 4, 4), 2)], 1)[1] != [id]
    assert look(tracks, [(box(2.1, 0, 6.1, 4), 1)], 1)[1] != [id]
    assert look(tracks, [(box(1.9, 0, 5.9, 4), 1)], 1)[1] == [id]


def test_two_at_one_place_have_two_ids() -> None:
    same = [(box(0, 0, 4, 4), 1)] * 3
    tracks, ids = look(Tracks.empty(), same, 0)
    assert len(set(ids)) == 3
    again, later = look(tracks, same, 1)
    assert sorted(later) == sorted(ids)
    assert len(again) == 3


def test_an_id_is_the_same_on_every_machine() -> None:
    _, ids = look(Tracks.empty(), [(box(0, 0, 4, 4), 1)], 0)
    _, moved = look(Tracks.empty(), [(box(1e-8, 0, 4 + 1e-8, 4), 1)], 0)
    assert ids == moved == ["71470fdd2ff165f3"]


def test_broken_polygons_are_mended() -> None:
    bow = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
    tracks, (id,) = look(Tracks.empty(), [(bow, 1)], 0)
    assert tracks.geometry[0].is_valid
    assert tracks.geometry[0].area == pytest.approx(8)
    assert look(tracks, [(bow, 1)], 1, box(-9, -9, 3, 9))[1] == [id]


def test_what_makes_no_sense() -> None:
    tracks, _ = look(Tracks.empty(), [(box(0, 0, 1, 1), 1)], 5)
    with pytest.raises(InputError, match="before the last look"):
        look(tracks, [], 4)
    closed, _ = look(tracks, [], 9)
    with pytest.raises(InputError, match="before the last look"):
        look(closed, [], 8)
    with pytest.raises(InputError, match="expected polygons"):
        look(tracks, [(shapely.Point(0, 0), 1)], 6)
    with pytest.raises(InputError, match="not empty"):
        look(tracks, [(shapely.Polygon(), 1)], 6)
    with pytest.raises(InputError, match=r"\(N,\) twice"):
        follow(tracks, np.array([box(0, 0, 1, 1)]), np.zeros(2, np.uint8), day(6), EVERYWHERE)


def unions(boxes: Sequence[tuple[int, int, int, int, int]]) -> Looked:
    """As polygonise gives them: whole polygons of each class that do not overlap; classes may."""
    seen = []
    for kind in (1, 2):
        mine = [box(x, y, x + w, y + h) for x, y, w, h, v in boxes if v == kind]
        seen += [(g, kind) for g in shapely.get_parts(shapely.union_all(mine)) if g.area > 0]
    return seen


small, wide = st.integers(1, 5), st.integers(0, 14)
looks = st.lists(st.tuples(wide, wide, small, small, st.integers(1, 2)), max_size=8).map(unions)
views = st.builds(lambda x, y, w, h: box(x, y, x + w, y + h), wide, wide, st.integers(1, 20), st.integers(1, 20))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(looks, views), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_look_after_look(history: list[tuple[Looked, Geometry]], random) -> None:
    tracks, other = Tracks.empty(), Tracks.empty()
    for n, (seen, view) in enumerate(history):
        seen = [(p, v) for g, v in seen for p in shapely.get_parts(g & view) if p.area > 0]
        before, (tracks, ids) = tracks, look(tracks, seen, n, view)
        mixed = list(range(len(seen)))
        random.shuffle(mixed)
        order = np.array(random.sample(range(len(other)), len(other)), np.intp)
        other, shuffled = look(other.take(order), [seen[k] for k in mixed], n, view)

        assert rows(other) == rows(tracks)  # the order of rows does not matter
        assert shuffled == [ids[k] for k in mixed]
        assert len(set(tracks.id)) == len(tracks)
        assert tracks.id.tolist() == sorted(tracks.id)
        assert len(set(ids)) == len(ids) <= len(tracks)
        assert set(before.id) <= set(tracks.id)
        assert (tracks.first_seen <= tracks.last_seen).all()
        now = tracks.last_seen == day(n)
        assert set(tracks.id[now]) == set(ids)
        for id in before.id:
            was, is_ = one(before, id), one(tracks, id)
            assert was["first_seen"] == is_["first_seen"]
            assert was["value"] == is_["value"]
            if not np.isnat(was["closed"]):
                assert was == is_
        assert shapely.is_valid(tracks.geometry).all()
        assert set(shapely.get_type_id(tracks.geometry)) <= {3, 6}


@settings(max_examples=60, deadline=None)
@given(looks, looks, views)
def test_the_same_look_twice_moves_only_last_seen(first: Looked, second: Looked, view: Geometry) -> None:
    second = [(p, v) for g, v in second for p in shapely.get_parts(g & view) if p.area > 0]
    start, _ = look(Tracks.empty(), first, 0)
    once, ids = look(start, second, 1, view)
    again, same = look(once, second, 1, view)
    assert same == ids
    assert [r[:1] + r[2:] for r in rows(again)] == [r[:1] + r[2:] for r in rows(once)]
    assert shapely.equals(again.geometry, once.geometry).all()
    later, kept = look(once, second, 2, view)
    assert kept == ids
    assert (later.first_seen == once.first_seen).all()
    assert (np.isnat(later.closed) == np.isnat(once.closed)).all()
    moved = np.isin(later.id, ids)
    assert (later.last_seen[moved] == day(2)).all()
    assert (later.last_seen[~moved] == once.last_seen[~moved]).all()


def test_many_changes_take_little_time() -> None:
    y, x = np.mgrid[:150, :150].reshape(2, -1) * 10.0
    many = shapely.box(x, y, x + 6, y + 6)
    value = np.ones(len(many), np.uint8)
    world = box(-10, -10, 2000, 2000)
    tracks, ids = follow(Tracks.empty(), many, value, day(0), world)
    tracks, again = follow(tracks, shapely.box(x + 1, y, x + 7, y + 6), value, day(1), world)
    assert len(tracks) == len(set(ids)) == 22_500
    assert (again == ids).all()
