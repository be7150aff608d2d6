"""Scores of boxes against other programs: pycocotools, scipy's dense assignment, and all permutations."""

from __future__ import annotations

import contextlib
import io
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.optimize import linear_sum_assignment

from geoml.nn.objects.box_matching import distances, nearest
from geoml.nn.objects.box_scores import AT, OVERLAPS, BoxScores, average_precision, centres, counted, longer, points
from geoml.vector.boxes import COLUMNS, iou

SIZES = [(0.0, 14.0), (14.0, 22.0), (22.0, 1e5)]
"""Pixels of the longer side."""
Made = list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def candidates(index: NDArray[np.float64], score: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    top, left, bottom, right = box.T
    half = (bottom - top) / 2, (right - left) / 2
    columns = {"y": top + half[0], "x": left + half[1], "score": score, "class": index}
    columns |= {"north": half[0], "south": half[0], "west": half[1], "east": half[1]}
    return np.column_stack([columns[name] for name in COLUMNS])


def pictures(seed: int, count: int = 4, objects: int = 40) -> Made:
    """Objects of two classes that overlap, and what is found of them: moved, twice, elsewhere, missed."""
    random = np.random.default_rng(seed)
    made = []
    for n in random.poisson(objects, count):
        corner, size = random.uniform(0, 120, (n, 2)), random.uniform(6, 34, (n, 2))
        real = np.column_stack([random.integers(0, 2, n), np.zeros(n), corner, corner + size])
        some = real[random.random(n) < 0.8]
        some = np.concatenate([some, some[random.random(len(some)) < 0.3]])
        off = random.normal(0, 2.5, (len(some), 4))
        found = np.concatenate(
            [some[:, 2:] + off, np.tile(random.uniform(0, 120, (12, 2)), 2) + np.array([0, 0, 15, 15])]
        )
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 2)
        index = np.concatenate([some[:, 0], random.integers(0, 2, 12)])
        made.append((candidates(index, random.permutation(len(found)) / len(found), found), real))
    # no two scores are equal, which COCO counts in the order of pictures
    for k, (found, _) in enumerate(made):
        found[:, COLUMNS.index("score")] += k * 1e-6
    return made


def scored(made: Made, overlap: float = 1.0) -> BoxScores:
    total = BoxScores(2, 0.3, overlap)
    for found, real in made:
        total.update(found, real)
    return total


def of_coco(made: Made, sizes: list[tuple[float, float]]) -> NDArray[np.float64]:
    """(overlap, class, size) average precision."""
    truth = [(p, row) for p, (_, real) in enumerate(made) for row in real]
    found = [(p, row) for p, (mine, _) in enumerate(made) for row in mine]
    at = {name: COLUMNS.index(name) for name in COLUMNS}

    def corners(row: NDArray[np.float64]) -> list[float]:
        y0, x0 = row[at["y"]] - row[at["north"]], row[at["x"]] - row[at["west"]]
        return [x0, y0, row[at["west"]] + row[at["east"]], row[at["north"]] + row[at["south"]]]

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": p} for p in range(len(made))],
            "categories": [{"id": 0}, {"id": 1}],
            "annotations": [
                {"id": k + 1, "image_id": p, "category_id": int(row[0]), "iscrowd": 0,
                 "bbox": [row[3], row[2], row[5] - row[3], row[4] - row[2]],
                 "area": max(row[5] - row[3], row[4] - row[2])}
                for k, (p, row) in enumerate(truth)
            ],
        }  # fmt: skip
        coco.createIndex()
        answer = coco.loadRes([
            {"image_id": p, "category_id": int(row[at["class"]]), "score": row[at["score"]], "bbox": corners(row)}
            for p, row in found
        ])  # fmt: skip
        for one in answer.anns.values():
            one["area"] = max(one["bbox"][2:])  # sizes are the longer sides
        run = COCOeval(coco, answer, "bbox")
        run.params.maxDets = [len(found)]
        run.params.areaRng = [[0, 1e5], *([a, b - 1e-9] for a, b in sizes)]
        run.params.areaRngLbl = [str(k) for k in range(len(sizes) + 1)]
        run.evaluate()
        run.accumulate()
    precision: NDArray[np.float64] = run.eval["precision"][..., 0]  # overlap, recall, class, size
    return precision.mean(1)


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    made = pictures(seed)
    expected, total = of_coco(made, SIZES), scored(made)
    for k in range(2):
        mine = total.of_class(k)
        assert average_precision(mine, OVERLAPS.tolist()) == pytest.approx(expected[:, k, 0].mean(), abs=1e-6)
        for column, least in ((0, 0.5), (5, 0.75)):
            assert average_precision(mine, [least]) == pytest.approx(expected[column, k, 0], abs=1e-6)
        for size, bounds in enumerate(SIZES, 1):
            found = average_precision(mine, OVERLAPS.tolist(), bounds)
            assert found == pytest.approx(expected[:, k, size].mean(), abs=1e-6)
        assert 0.1 < expected[0, k, 0] < 0.95
    assert total.compute()["ap50"] == pytest.approx(expected[0, :, 0].mean(), abs=1e-6)


def test_a_perfect_answer_of_300_objects_is_perfect() -> None:
    """What keeps the best hundred of a picture, as pycocotools does unless told, gives 0.337."""
    y, x = np.divmod(np.arange(300), 20)
    box = np.column_stack([y, x, y, x]) * 10.0 + [0, 0, 8, 8]
    real = np.column_stack([np.zeros(300), np.zeros(300), box])
    total = BoxScores(1, 0.3, 0.5)
    total.update(candidates(np.zeros(300), np.linspace(0.5, 0.9, 300), box), real)
    assert average_precision(total.of_class(0), OVERLAPS.tolist()) == 1.0
    assert (total.compute()["precision"], total.compute()["recall"]) == (1.0, 1.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_precision_and_recall_are_those_of_the_dense_hungarian_method(seed: int, threshold: float) -> None:
    """DeepForest's rule: assign by the sum of overlaps, then ask each pair for at least 0.4."""
    made = pictures(seed)
    for k, totals in enumerate(counted(scored(made).of_class(k), threshold) for k in range(2)):
        hits = found = 0
        for mine, real in made:
            one = BoxScores(2, 0.0, 1.0)
            one.update(mine, real)
            (picture,) = one.of_class(k)
            boxes = picture.found[picture.score >= threshold]
            dense = np.array([iou(np.tile(b, (len(picture.truth), 1)), picture.truth) for b in boxes])
            i, j = linear_sum_assignment(dense.reshape(len(boxes), -1), maximize=True)
            hits, found = hits + int((dense[i, j] >= AT).sum()), found + len(boxes)
        assert (totals.hits, totals.found) == (hits, found)
        assert totals.truth == sum(int((real[:, 0] == k).sum()) for _, real in made)


def test_the_assignment_is_not_greedy() -> None:
    """The surer box overlaps both, the other one only the first: together they are right twice."""
    real = np.array([[0, 0, 0.0, 0, 10, 10], [0, 0, 0, 6, 10, 16]])
    box = np.array([[0.0, 2, 10, 12], [0, -4, 10, 6.5]])
    total = scored([(candidates(np.zeros(2), np.array([0.9, 0.8]), box), real)])
    (picture,) = total.of_class(0)
    assert picture.fates(AT).tolist() == [1, 0]
    assert counted([picture], 0.5).hits == 2


@pytest.mark.parametrize("seed", range(6))
def test_points_are_matched_as_the_best_of_all_permutations(seed: int) -> None:
    random = np.random.default_rng(seed)
    mine, real = random.uniform(0, 20, (5, 2)), random.uniform(0, 20, (7, 2))
    best = nearest(distances(mine, real, 6.0), 5, 7)
    apart = np.hypot(*(mine[:, None] - real[None]).transpose(2, 0, 1))
    ways = [apart[np.arange(5), list(way)] for way in permutations(range(7), 5)]
    most = max(int((way <= 6).sum()) for way in ways)
    least = min(way[way <= 6].sum() for way in ways if (way <= 6).sum() == most)
    assert len(best.found) == most == len(set(best.truth.tolist())) > 0
    assert best.value.sum() == pytest.approx(least, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_points_and_their_error_are_those_of_a_dense_assignment(seed: int) -> None:
    made, far = pictures(seed, objects=60), 8.0
    total = scored(made)
    for k in range(2):
        hits, squares = 0, 0.0
        for picture in total.of_class(k):
            mine, real = centres(picture.found[picture.score >= 0.3]), centres(picture.truth)
            apart = np.hypot(*(mine[:, None] - real[None]).transpose(2, 0, 1))
            i, j = linear_sum_assignment(np.where(apart <= far, apart, 1e6))
            matched = apart[i, j][apart[i, j] <= far]
            hits, squares = hits + len(matched), squares + (matched**2).sum()
        totals, summed = points(total.of_class(k), 0.3, far)
        assert totals.hits == hits > 10
        assert summed == pytest.approx(squares, abs=1e-6)


def test_what_is_left_aside_counts_in_no_score() -> None:
    real = np.array([[0, 0, 0.0, 0, 10, 10], [255, 1, 30, 30, 40, 40]])
    box = np.array([[0.0, 0, 10, 10], [30, 30, 40, 41], [31, 30, 41, 40]])
    total = BoxScores(1, 0.0, 1.0)
    total.update(candidates(np.zeros(3), np.array([0.5, 0.9, 0.8]), box), real)
    pictures = total.of_class(0)
    assert counted(pictures, 0.0) == (1, 1, 1)
    assert points(pictures, 0.0, 6.0) == ((1, 1, 1), 0.0)
    assert average_precision(pictures, [0.5, 0.75]) == 1.0
    assert longer(pictures[0].found).tolist() == [11, 10, 10]
