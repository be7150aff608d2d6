"""Suppression of boxes: what the definition says, what torchvision does, and the same for any strips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
import shapely.affinity
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.ops import box_iou, nms

from geoml.errors import InputError
from geoml.vector.boxes import COLUMNS, Suppression, best_first, edges, iou, outlines, overlapping, suppress, take

REACH = 12.0
Table = dict[str, NDArray[Any]]


def table(rows: list[tuple[float, ...]]) -> Table:
    """Boxes of rows in the order of `COLUMNS`."""
    columns = np.array(rows, np.float64).reshape(-1, len(COLUMNS)).T
    return {name: c.astype(np.uint8) if name == "class" else c for name, c in zip(COLUMNS, columns, strict=True)}


def crowd(n: int, *, seed: int = 0, side: float = 120.0, steps: int = 20) -> Table:
    """Random boxes on half pixels that overlap much, with few scores, so that there are ties."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, int(side * 2), (n, 2)) / 2
    reach = rng.integers(1, int(REACH * 2) + 1, (n, 4)) / 2
    rest = rng.integers(1, steps + 1, n) / steps, rng.integers(0, 3, n)
    return table(np.column_stack([place, reach, *rest]).tolist())


def by_definition(boxes: Table, threshold: float) -> Table:
    """Greedy suppression as it is written down: every box against every kept one."""
    order = best_first(boxes)
    shape, kept = edges(boxes), []
    for k in order:
        if all(iou(shape[k : k + 1], shape[j : j + 1])[0] <= threshold for j in kept):
            kept.append(k)
    return take(boxes, np.array(kept, np.intp))


def in_strips(boxes: Table, threshold: float, cuts: list[float]) -> tuple[Table, int]:
    """By strips that end at ``cuts``, and the most boxes that were held between two of them."""
    suppression, found, held = Suppression(threshold, REACH), [], 0
    for above, below in zip([-np.inf, *cuts], [*cuts, np.inf], strict=True):
        strip = take(boxes, (boxes["y"] >= above) & (boxes["y"] < below))
        shuffled = np.random.default_rng(len(found)).permutation(len(strip["y"]))
        found.append(suppression.add(take(strip, shuffled), below))
        held = max(held, len(suppression.held["y"]) if suppression.held else 0)
    return {name: np.concatenate([f[name] for f in found]) for name in COLUMNS}, held


def rows(boxes: Table) -> list[tuple[Any, ...]]:
    ordered = take(boxes, best_first(boxes))
    return list(zip(*(ordered[name].tolist() for name in COLUMNS), strict=True))


half = st.integers(0, 60).map(lambda v: v / 2)
reach = st.integers(0, int(2 * REACH)).map(lambda v: v / 2)
box = st.tuples(half, half, reach, reach, reach, reach, st.sampled_from([0.25, 0.5, 0.75]), st.integers(0, 1))


@settings(max_examples=200, deadline=None)
@given(st.lists(box, max_size=40), st.lists(half, max_size=5).map(sorted), st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_strips_keep_what_all_at_once_keeps_which_is_what_the_definition_says(
    given_rows: list[tuple[float, ...]], cuts: list[float], threshold: float
) -> None:
    boxes = table(given_rows)
    expected = rows(by_definition(boxes, threshold))
    assert rows(suppress(boxes, threshold)) == expected
    assert rows(in_strips(boxes, threshold, cuts)[0]) == expected


@pytest.mark.parametrize("height", [1.0, 7.5, 40.0])
def test_a_crowd_with_ties_and_chains_over_many_strips(height: float) -> None:
    boxes = crowd(600)
    assert len(np.unique(boxes["score"])) == 20
    expected = rows(by_definition(boxes, 0.3))
    assert 50 < len(expected) < 400
    found, _ = in_strips(boxes, 0.3, np.arange(0, 120, height).tolist())
    assert rows(found) == expected


def test_torchvision_keeps_the_same() -> None:
    boxes = crowd(800, steps=1_000_000)  # without ties, for which it has no rule
    shape = torch.from_numpy(edges(boxes))[:, [1, 0, 3, 2]]
    expected = nms(shape, torch.from_numpy(boxes["score"]), 0.4).numpy()
    assert rows(suppress(boxes, 0.4)) == rows(take(boxes, expected))
    i, j, share = overlapping(edges(boxes), edges(boxes), 0.0)
    whole = box_iou(shape, shape).numpy()
    np.testing.assert_allclose(share, whole[i, j], rtol=1e-12)
    assert len(share) == (whole > 0).sum()


def test_memory_is_that_of_a_strip_and_not_of_the_run() -> None:
    boxes = crowd(4000, side=120.0)
    boxes["y"] = boxes["y"] * 100  # a long run: the same crowd, thinly spread
    _, held = in_strips(boxes, 0.5, np.arange(0, 12_000, 100.0).tolist())
    assert held < 100


def test_equal_scores_go_by_row_then_column_then_class() -> None:
    same = (5.0, 5.0, 5.0, 5.0, 0.5)
    boxes = table([(20.0, 11.0, *same, 0), (20.0, 10.0, *same, 1), (20.0, 10.0, *same, 0), (21.0, 9.0, *same, 0)])
    assert [r[:2] + r[-1:] for r in rows(suppress(boxes, 0.3))] == [(20.0, 10.0, 0)]


def test_touching_boxes_and_empty_ones_stay() -> None:
    boxes = table([(5, 5, 5, 5, 5, 5, 0.9, 0), (5, 15, 5, 5, 5, 5, 0.8, 0), (5, 5, 0, 0, 0, 0, 0.7, 0)])
    assert len(rows(suppress(boxes, 0.0))) == 3
    assert rows(suppress(table([]), 0.5)) == []


def test_a_box_that_breaks_the_promises_is_refused() -> None:
    strips = Suppression(0.5, REACH)
    strips.add(table([(5, 5, 5, 5, 5, 5, 0.9, 0)]), 20.0)
    with pytest.raises(InputError, match="after those rows were done"):
        strips.add(table([(19, 5, 5, 5, 5, 5, 0.9, 0)]), 40.0)
    with pytest.raises(InputError, match=r"more than 12.0 pixels"):
        strips.add(table([(25, 5, 5, 13, 5, 5, 0.9, 0)]), 40.0)


def on_levels(boxes: Table, seed: int = 0) -> Table:
    """The same, found in pixels of three sizes."""
    return {**boxes, "level": np.random.default_rng(seed).choice([1.0, 2.0, 4.0], len(boxes["y"]))}


def test_a_part_that_another_level_found_is_no_second_thing() -> None:
    """What is large and surer swallows its parts, and parts that are surer leave nothing of what spans them."""
    whole, part, far = (20, 20, 10, 10, 10, 10), (15, 15, 3, 3, 3, 3), (31, 20, 2, 2, 2, 2)

    def kept(level: tuple[float, float], classes: tuple[int, int] = (0, 0), sure: float = 0.5) -> list[float]:
        boxes = table([(*whole, 0.7, classes[0]), (*part, sure, classes[1]), (*far, 0.6, 0)])
        return sorted(suppress({**boxes, "level": np.array([*level, 1.0])}, 0.5)["y"].tolist())

    assert kept((4, 1)) == [20, 31]
    assert kept((4, 1), sure=0.9) == [15, 31]
    assert kept((4, 1), sure=0.7) == [20, 31], "of two as sure the coarser one"
    assert kept((1, 1)) == [15, 20, 31], "what one level tells apart are two things"
    assert kept((4, 1), classes=(0, 1)) == [15, 20, 31], "a thing may stand on another"


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("height", [1.0, 7.5, 40.0])
def test_levels_by_strips_are_those_of_all_at_once(height: float, turned: bool) -> None:
    """The oracle measures what lies in both by polygons."""
    boxes = on_levels(turned_boxes(400, sides=(1, REACH)) if turned else crowd(400))
    shape, kept = edges(boxes), []
    outline = outlines(shape)
    for k in best_first(boxes).tolist():
        both, area = shapely.area(shapely.intersection(outline[k], outline[kept])), shapely.area(outline)
        inside = both / np.minimum(area[k], area[kept])
        other = (boxes["level"][kept] != boxes["level"][k]) & (boxes["class"][kept] == boxes["class"][k])
        if not ((both / (area[k] + area[kept] - both) > 0.3) | ((inside > 0.3) & other)).any():
            kept.append(k)
    strips, found = Suppression(0.3, REACH), []
    for top in np.arange(0, 120, height):
        found.append(strips.add(take(boxes, (boxes["y"] >= top) & (boxes["y"] < top + height)), top + height))
    found.append(strips.end())
    together = {name: np.concatenate([part[name] for part in found]) for name in boxes}
    wanted = take(boxes, np.array(kept, np.intp))
    for name in boxes:
        np.testing.assert_array_equal(together[name][best_first(together)], wanted[name])
    without = suppress({k: v for k, v in boxes.items() if k != "level"}, 0.3)
    assert 30 < len(kept) < len(without["y"]), "the rule of levels takes some away"


def turned_boxes(count: int, seed: int = 0, sides: tuple[float, float] = (2, 30)) -> dict[str, NDArray[np.number]]:
    """Oriented boxes in a square of 120 pixels, seen from somewhere inside of each."""
    random = np.random.default_rng(seed)
    found: dict[str, NDArray[np.number]] = {"y": random.uniform(0, 120, count), "x": random.uniform(0, 120, count)}
    found |= {side: random.uniform(*sides, count) for side in ("north", "south", "west", "east")}
    found |= {"score": random.random(count).round(2), "class": np.zeros(count, np.uint8)}
    return found | {"angle": random.uniform(-np.pi, np.pi, count)}


def test_oriented_boxes_are_turned_about_where_they_are_seen_from() -> None:
    """Against the affine transform of shapely."""
    boxes = turned_boxes(50)
    flat = {k: v for k, v in boxes.items() if k != "angle"}
    for k, (shape, upright) in enumerate(zip(outlines(edges(boxes)), outlines(edges(flat)), strict=True)):
        place = float(boxes["x"][k]), float(boxes["y"][k])
        wanted = shapely.affinity.rotate(upright, float(boxes["angle"][k]), origin=place, use_radians=True)
        assert shapely.area(shapely.symmetric_difference(shape, wanted)) < 1e-6


def test_oriented_boxes_without_an_angle_are_upright_ones() -> None:
    a, b = (turned_boxes(80, seed=k) | {"angle": np.zeros(80)} for k in (0, 1))
    flat = [edges({k: v for k, v in boxes.items() if k != "angle"}) for boxes in (a, b)]
    np.testing.assert_allclose(iou(edges(a), edges(b)), iou(*flat), atol=1e-9)


@pytest.mark.parametrize("height", [7, 40])
def test_oriented_boxes_by_strips_are_those_of_all_at_once(height: int) -> None:
    """Greedy over all pairs is the oracle; chains run across strips."""
    boxes = turned_boxes(300, sides=(2, 9))
    order = best_first(boxes)
    shape = edges(boxes)[order]
    kept: list[int] = []
    for k in range(len(shape)):
        mine = np.repeat(shape[k : k + 1], len(kept), 0)
        if not kept or iou(mine, shape[kept]).max() <= 0.3:
            kept.append(k)
    wanted = {tuple(row) for row in shape[kept].tolist()}
    strips, found = Suppression(0.3, 9), set()
    for top in range(0, 120, height):
        part = take(boxes, (boxes["y"] >= top) & (boxes["y"] < top + height))
        found |= {tuple(row) for row in edges(strips.add(part, top + height)).tolist()}
    found |= {tuple(row) for row in edges(strips.end()).tolist()}
    assert found == wanted
    assert 50 < len(found) < 300
