"""Scores of boxes: small cases worked out by hand, and what must hold for any."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geoml.nn.objects.box_scores import BoxScores
from geoml.vector.boxes import COLUMNS


def candidates(*rows: tuple[float, ...]) -> NDArray[np.float64]:
    """(n, 8) of index, score, top, left, bottom, right."""
    index, score, top, left, bottom, right = np.array(rows, np.float64).reshape(-1, 6).T
    half = (bottom - top) / 2, (right - left) / 2
    columns = {"y": top + half[0], "x": left + half[1], "score": score, "class": index}
    columns |= {"north": half[0], "south": half[0], "west": half[1], "east": half[1]}
    return np.column_stack([columns[name] for name in COLUMNS])


def truth(*rows: tuple[float, ...]) -> NDArray[np.float64]:
    """(m, 6) of index, aside, top, left, bottom, right."""
    return np.array(rows, np.float64).reshape(-1, 6)


def scored(found: NDArray[np.float64], real: NDArray[np.float64], classes: int = 1) -> dict[str, object]:
    total = BoxScores(classes, 0.3, 0.5)
    total.update(found, real)
    return total.compute()


A, B, C = (0.0, 0.0, 10.0, 10.0), (0.0, 20.0, 10.0, 30.0), (0.0, 40.0, 10.0, 50.0)
FAR = (50.0, 50.0, 60.0, 60.0)


def test_average_precision_of_a_case_worked_out_by_hand() -> None:
    """Hit, miss, hit of two true boxes: precision 1 up to recall 1/2 (51 of 101 points), then 2/3 (50 points)."""
    found = scored(candidates((0, 0.9, *A), (0, 0.8, *FAR), (0, 0.7, *B)), truth((0, 0, *A), (0, 0, *B)))
    assert found["ap50"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert (found["precision"], found["recall"], found["f1"]) == (2 / 3, 1.0, 0.8)
    assert found["count_error"] == 0.5


def test_the_overlap_that_counts_is_half_for_ap_and_two_fifths_else() -> None:
    """Boxes of 10 x 10 that are moved by 4: overlap 60 of 140."""
    moved = (0.0, 4.0, 10.0, 14.0)
    found = scored(candidates((0, 0.9, *moved)), truth((0, 0, *A)))
    assert (found["ap50"], found["f1"]) == (0.0, 1.0)
    exactly = (0.0, 0.0, 10.0, 20.0)
    assert scored(candidates((0, 0.9, *exactly)), truth((0, 0, *A)))["ap50"] == 1.0


def test_of_two_on_one_object_the_second_is_wrong_and_what_overlaps_is_suppressed_first() -> None:
    near = (0.0, 4.0, 10.0, 12.0)
    found = scored(candidates((0, 0.9, *A), (0, 0.8, *near)), truth((0, 0, *A)))
    assert (found["found"], found["precision"], found["ap50"]) == (2, 0.5, 1.0)
    same = (0.0, 1.0, 10.0, 11.0)
    assert scored(candidates((0, 0.9, *A), (0, 0.8, *same)), truth((0, 0, *A)))["found"] == 1


def test_a_score_below_the_fixed_one_is_not_found_but_counts_for_ap() -> None:
    found = scored(candidates((0, 0.2, *A)), truth((0, 0, *A)))
    assert (found["ap50"], found["recall"], found["precision"]) == (1.0, 0.0, None)


def test_what_is_left_aside_is_neither_right_nor_wrong() -> None:
    real = truth((0, 0, *A), (255, 1, *B))
    found = scored(candidates((0, 0.9, *A), (0, 0.95, *B)), real)
    assert (found["ap50"], found["precision"], found["recall"], found["found"], found["truth"]) == (1, 1, 1, 1, 1)


def test_classes_are_apart_and_one_without_truth_has_no_score() -> None:
    found = scored(candidates((0, 0.9, *A), (1, 0.9, *B)), truth((0, 0, *A), (0, 0, *B)), classes=3)
    by_class = found["by_class"]
    assert isinstance(by_class, list)
    assert [row["ap50"] for row in by_class] == [pytest.approx(51 / 101), None, None]
    assert found["ap50"] == pytest.approx(51 / 101)
    assert (found["precision"], found["recall"]) == (0.5, 0.5)


def test_nothing_found_and_nothing_there() -> None:
    nothing = scored(candidates(), truth((0, 0, *A)))
    assert (nothing["ap50"], nothing["f1"], nothing["recall"], nothing["count_error"]) == (0.0, 0.0, 0.0, -1.0)
    assert nothing["nothing"] == {"ap": 0.0, "ap50": 0.0, "f1": 0.0, "recall": 0.0, "count_error": -1.0}
    empty = scored(candidates((0, 0.9, *A)), truth())
    assert (empty["ap50"], empty["precision"], empty["f1"], empty["nothing"]) == (None, 0.0, None, None)
    assert BoxScores(2, 0.3, 0.5).compute()["ap50"] is None


def test_pictures_in_any_order_and_equal_scores_give_the_same() -> None:
    """Boxes of one score count together: no order among them is better than another."""
    pictures = [
        (candidates((0, 0.5, *FAR)), truth((0, 0, *B))),
        (candidates((0, 0.5, *A), (0, 0.9, *C)), truth((0, 0, *A))),
        (candidates((0, 0.5, *B)), truth((0, 0, *B), (0, 0, *A))),
    ]
    results = []
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        total = BoxScores(1, 0.3, 0.5)
        for k in order:
            part = BoxScores(1, 0.3, 0.5)
            part.update(*pictures[k])
            total.merge(part)
        results.append(total.compute())
    assert results[0] == results[1] == results[2]
    assert results[0]["ap50"] == pytest.approx(51 * 0.5 / 101)  # one wrong first, then 2 of 4 at once: recall 1/2
