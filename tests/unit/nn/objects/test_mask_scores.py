"""Scores of outlines: against pycocotools' segmentation scores, and cases worked out by hand."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from geoml.nn.objects.box_scores import BoxScores
from geoml.nn.objects.mask_shares import TrueOutlines, mask_shares
from geoml.vector.masks import SIDE, columns_of, packed

SHAPE = (96, 110)
FULL = np.ones((SIDE, SIDE), np.bool_)


def candidate(index: int, score: float, box: NDArray[np.float64], cells: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(57,) of a mask in top, left, bottom, right."""
    top, left, bottom, right = box
    tall, wide = (bottom - top) / 2, (right - left) / 2
    upright = [top + tall, left + wide, tall, tall, wide, wide, score, index]
    return np.concatenate([upright, packed(cells[None])[0]])


def pasted(box: NDArray[np.float64], cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(y, x) of `SHAPE`: pixels whose middle lies in a cell of the mask."""
    top, left, bottom, right = box
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    row, col = ((y - top) / (bottom - top) * SIDE), ((x - left) / (right - left) * SIDE)
    inside = (row >= 0) & (row < SIDE) & (col >= 0) & (col < SIDE)
    found = np.zeros(SHAPE, np.bool_)
    found[inside] = cells[row[inside].astype(int), col[inside].astype(int)]
    return found


def ellipse(random: np.random.Generator) -> NDArray[np.bool_]:
    """(28, 28): one part, that does not fill its box."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    tilt, thin = random.uniform(-0.9, 0.9), random.uniform(0.5, 1)
    a, b = (y - SIDE / 2) / (SIDE / 2), (x - SIDE / 2) / (SIDE / 2)
    cells: NDArray[np.bool_] = (a - tilt * b * 0.3) ** 2 / thin + b**2 < random.uniform(0.7, 1.3)
    return cells


def pictures(seed: int, count: int = 3) -> list[dict[str, Any]]:
    """Outlines of two classes that hide each other, and what is found of them: moved, of another form, elsewhere."""
    random, made = np.random.default_rng(seed), []
    for p in range(count):
        inside, truth, found, masks = np.zeros(SHAPE, np.int64), [], [], []
        for number in range(1, 25):
            corner, size = random.uniform(0, 80, 2), random.uniform(8, 30, 2)
            box, cells, index = np.concatenate([corner, corner + size]), ellipse(random), int(random.integers(2))
            inside[pasted(box, cells)] = number
            truth.append([index, 0, *box])
            if random.random() < 0.8:
                moved = box + random.normal(0, 1.2, 4)
                other = cells if random.random() < 0.6 else ellipse(random)
                found.append((index if random.random() < 0.9 else 1 - index, moved, other))
        found += [
            (int(random.integers(2)), np.array([y, x, y + 9, x + 9]), FULL) for y, x in random.uniform(0, 80, (6, 2))
        ]
        scores = random.permutation(len(found)) / len(found) + p * 1e-6  # no two are equal
        masks = [pasted(box, cells) for _, box, cells in found]
        rows = [candidate(k, s, box, cells) for (k, box, cells), s in zip(found, scores, strict=True)]
        made.append({"inside": inside, "truth": np.array(truth), "found": np.array(rows), "masks": masks})
    return made


def of_coco(made: list[dict[str, Any]]) -> NDArray[np.float64]:
    """(overlap, class) average precision of masks."""

    def encoded(mask: NDArray[np.bool_]) -> Any:
        return rle.encode(np.asfortranarray(mask.astype(np.uint8)))

    real, found = [], []
    for p, picture in enumerate(made):
        for number, row in enumerate(picture["truth"], 1):
            shape = encoded(picture["inside"] == number)
            about = {"id": len(real) + 1, "image_id": p, "category_id": int(row[0]), "iscrowd": 0}
            real.append(
                {**about, "segmentation": shape, "area": float(rle.area(shape)), "bbox": list(rle.toBbox(shape))}
            )
        for row, mask in zip(picture["found"], picture["masks"], strict=True):
            found.append({"image_id": p, "category_id": int(row[7]), "score": row[6], "segmentation": encoded(mask)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        images = [{"id": p, "height": SHAPE[0], "width": SHAPE[1]} for p in range(len(made))]
        coco.dataset = {"images": images, "categories": [{"id": 0}, {"id": 1}], "annotations": real}
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(found), "segm")
        run.params.maxDets = [len(found)]
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e9]], ["all"]
        run.evaluate()
        run.accumulate()
    precision: NDArray[np.float64] = run.eval["precision"][..., 0, 0]
    return precision.mean(1)


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_of_masks_is_that_of_pycocotools(seed: int) -> None:
    made, total = pictures(seed), BoxScores(2, 0.3, 1.0)
    for picture in made:
        total.add(picture["found"], picture["truth"], TrueOutlines(picture["inside"], np.arange(1, 25)))
    expected, scores = of_coco(made), total.compute()
    assert 0.1 < expected[0].mean() < 0.95
    assert scores["mask_ap"] == pytest.approx(expected.mean(), abs=1e-6)
    assert scores["mask_ap50"] == pytest.approx(expected[0].mean(), abs=1e-6)
    for k, row in enumerate(scores["by_class"]):
        assert row["mask_ap"] == pytest.approx(expected[:, k].mean(), abs=1e-6)
    assert scores["mask_ap50"] != pytest.approx(scores["ap50"], abs=1e-3)


def test_pictures_together_are_those_one_by_one() -> None:
    made = pictures(7)
    parts = []
    for some in (made, made[:1], made[1:]):
        total = BoxScores(2, 0.3, 0.5)
        for picture in some:
            total.add(picture["found"], picture["truth"], TrueOutlines(picture["inside"], np.arange(1, 25)))
        parts.append(total)
    parts[1].merge(parts[2])
    assert parts[1].compute() == parts[0].compute()


def test_the_share_of_a_half_box_is_that_of_its_pixels() -> None:
    inside = np.zeros((20, 20), np.int64)
    inside[4:14, 4:14] = 3
    half = FULL.copy()
    half[:, SIDE // 2 :] = False
    rows = np.stack([candidate(0, 0.9, np.array([4.0, 4, 14, 14]), cells) for cells in (FULL, half)])
    pairs = mask_shares(columns_of(rows), TrueOutlines(inside, np.array([9, 3])))
    assert (pairs.found.tolist(), pairs.truth.tolist(), pairs.value.tolist()) == ([0, 1], [1, 1], [1.0, 0.5])


def test_what_lies_beyond_the_picture_does_not_count() -> None:
    inside = np.zeros((20, 20), np.int64)
    inside[:5, 3:9] = 1
    rows = candidate(0, 0.9, np.array([-5.0, 3, 5, 9]), FULL)[None]
    assert mask_shares(columns_of(rows), TrueOutlines(inside, np.array([1]))).value.tolist() == [1.0]
    away = candidate(0, 0.9, np.array([-9.0, 3, -1, 9]), FULL)[None]
    assert not len(mask_shares(columns_of(away), TrueOutlines(inside, np.array([1]))).value)


def test_without_outlines_there_is_no_score_of_them() -> None:
    total = BoxScores(1, 0.3, 0.5)
    total.update(candidate(0, 0.9, np.array([4.0, 4, 14, 14]), FULL)[None, :8], np.array([[0.0, 0, 4, 4, 14, 14]]))
    assert "mask_ap" not in total.compute()
