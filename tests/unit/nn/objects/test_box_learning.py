"""What detectors learn from: overlaps against torchvision and shapely, true boxes behind a target, which cell learns
which box."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import torch
from torchvision.ops import box_iou, complete_box_iou_loss

from geoml.data.targets.boxes import BoxTarget
from geoml.grid.plane import Window
from geoml.io.cards.map_card import ClassInfo
from geoml.nn.metrics import IGNORE
from geoml.nn.objects.anchors import NONE, decoded, encoded, matched, placed, shapes
from geoml.nn.objects.box_losses import complete_iou, distribution_focal, gaussian_iou, iou
from geoml.nn.objects.centre_heat import INDEX, render
from geoml.nn.objects.pyramid import centres
from geoml.nn.objects.task_aligned import MOST, assign
from geoml.nn.objects.true_boxes import edges_from, sides_from, true_boxes


def made_boxes(count: int, seed: int = 0) -> torch.Tensor:
    """Top, left, bottom, right."""
    random = np.random.default_rng(seed)
    corner, size = random.uniform(0, 60, (count, 2)), random.uniform(1, 40, (count, 2))
    return torch.from_numpy(np.hstack([corner, corner + size]).astype(np.float32))


def test_overlaps_are_those_of_torchvision_and_shapely() -> None:
    a, b = made_boxes(200), made_boxes(200, seed=1)
    torch.testing.assert_close(iou(a[:, None], b[None]), box_iou(a, b), atol=1e-5, rtol=1e-5)
    one, other = (shapely.box(*t.double().numpy().T) for t in (a, b))
    both = shapely.area(shapely.intersection(one, other))
    np.testing.assert_allclose(iou(a, b), both / (shapely.area(one) + shapely.area(other) - both), atol=1e-5)
    flipped = [t[:, [1, 0, 3, 2]] for t in (a, b)]
    torch.testing.assert_close(1 - complete_iou(a, b), complete_box_iou_loss(*flipped), atol=1e-4, rtol=1e-4)


def test_a_distribution_is_best_where_its_mean_is_the_distance() -> None:
    logits = torch.zeros(3, 16, requires_grad=True)
    distance = torch.tensor([0.0, 3.25, 14.9])
    optimiser = torch.optim.Adam([logits], lr=0.5)
    for _ in range(300):
        optimiser.zero_grad()
        distribution_focal(logits, distance).sum().backward()
        optimiser.step()
    mean = (logits.detach().softmax(1) * torch.arange(16)).sum(1)
    torch.testing.assert_close(mean, distance, atol=0.05, rtol=0)


def test_true_boxes_are_those_that_were_rendered() -> None:
    boxes = np.array([[0, 3, 4, 12, 17], [1, 20.5, 30, 28, 41], [0, 40, 8, 46, 14]], float)
    found = true_boxes(torch.from_numpy(render(boxes, (64, 64))))
    got = torch.cat([found.classes[:, None].float(), found.edges], 1)
    np.testing.assert_allclose(sorted(got.tolist()), sorted(boxes.tolist()), atol=1e-4)
    assert not bool(found.unknown.any())


def test_unknown_ground_and_objects_whose_centre_is_elsewhere_are_unknown() -> None:
    target = BoxTarget((ClassInfo(value=0, name="thing", color="#102030"),))
    scene = render(np.array([[0, 10, 20, 30, 60]], float), (64, 64))
    crop = target.cut(scene, Window(0, 42, 64, 106), Window(0, 0, 64, 64))  # its centre is at column 40
    found = true_boxes(torch.from_numpy(crop))
    assert not len(found.classes)
    places = torch.tensor([[20.5, 0.5], [50.5, 0.5], [20.5, 40.5], [70.5, 0.5]])
    assert found.known(places).tolist() == [False, True, False, False]
    crop[INDEX] = IGNORE
    assert bool(true_boxes(torch.from_numpy(crop)).unknown.all())


def test_cells_learn_the_box_that_they_look_from() -> None:
    places, _ = centres((64, 64), (8,), torch.device("cpu"))
    edges = torch.tensor([[0.0, 0, 24, 24], [30, 30, 62, 62], [41, 9, 43, 11]])  # the last one lies between cells
    guess = torch.cat([places - 12, places + 12], 1)
    reach = sides_from(edges[:, None], places[None])
    overlap = iou(edges[:, None], guess[None])
    found = assign(torch.full((64, 1), 0.3), torch.zeros(3, dtype=torch.int64), reach, overlap)
    for k, box in enumerate(edges):
        mine = places[found.mine & (found.box == k)]
        assert 1 <= len(mine) <= MOST
        if k < 2:
            assert bool(((mine >= box[:2]) & (mine <= box[2:])).all())
            assert float(found.aim[found.mine & (found.box == k)].max()) == pytest.approx(
                float(iou(box, guess[found.mine & (found.box == k)]).max()), abs=1e-5
            )
    assert float(found.aim[~found.mine].max()) == 0
    none = assign(torch.rand(64, 1), torch.zeros(0, dtype=torch.int64), reach[:0], overlap[:0])
    assert not bool(none.mine.any())


def test_anchors_go_there_and_back_and_every_box_has_one() -> None:
    places, steps = centres((64, 64), (8, 16), torch.device("cpu"))
    anchors = placed(places, steps, shapes((2.0,), (0.5, 1.0, 2.0))).flatten(0, 1)
    boxes = made_boxes(len(anchors), seed=3)
    torch.testing.assert_close(decoded(encoded(boxes, anchors), anchors), boxes, atol=1e-3, rtol=1e-4)
    corner = torch.cartesian_prod(torch.arange(1.0, 60, 21), torch.arange(2.0, 60, 16))
    few = torch.cat([corner, corner + torch.linspace(3, 12, 12)[:, None]], 1)  # apart, some smaller than any anchor
    found = matched(anchors, few)
    assert set(range(12)) <= set(found.tolist()) <= {NONE, *range(12)}
    overlap = box_iou(anchors, few)
    assert bool((overlap[found == NONE].amax(1) < 0.5).all())
    assert bool((matched(anchors, few[:0]) == NONE).all())


def oriented(count: int, seed: int) -> torch.Tensor:
    boxes = made_boxes(count, seed)
    angle = torch.from_numpy(np.random.default_rng(seed).uniform(-np.pi / 2, np.pi / 2, count).astype(np.float32))
    return torch.cat([boxes, angle[:, None]], 1)


def test_gaussians_overlap_as_their_formula_says_and_not_by_the_name_of_a_side() -> None:
    """The Hellinger distance by numerical integration is the oracle."""
    a, b = oriented(6, 1), oriented(6, 2)
    got = gaussian_iou(a, b)
    y, x = np.mgrid[-60:160:0.25, -60:160:0.25]

    def density(box: torch.Tensor) -> np.ndarray:
        top, left, bottom, right, angle = box.double().tolist()
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        over, under = turn @ np.stack([x - (left + right) / 2, y - (top + bottom) / 2]).reshape(2, -1)
        wide, tall = (right - left) / 12**0.5, (bottom - top) / 12**0.5
        return np.exp(-((over / wide) ** 2 + (under / tall) ** 2) / 2) / (2 * np.pi * wide * tall)

    for k in range(6):
        both = float(np.sqrt(density(a[k]) * density(b[k])).sum() * 0.25**2)
        assert float(got[k]) == pytest.approx(1 - np.sqrt(max(1 - both, 0)), abs=0.01)
    middle, half = (a[:, :2] + a[:, 2:4]) / 2, (a[:, 2:4] - a[:, :2]).flip(1) / 2
    other = torch.cat([middle - half, middle + half, a[:, 4:] + torch.pi / 2], 1)
    torch.testing.assert_close(gaussian_iou(other, b), got, atol=1e-3, rtol=1e-3)
    assert float(gaussian_iou(a, other).min()) > 0.99


def test_sides_of_oriented_boxes_lead_back_to_them() -> None:
    boxes, places = oriented(40, 5), torch.rand(40, 2) * 60
    sides = torch.cat([sides_from(boxes, places), boxes[:, 4:]], 1)
    torch.testing.assert_close(edges_from(sides, *places.unbind(1)), boxes, atol=1e-3, rtol=1e-4)


def test_true_oriented_boxes_are_those_that_were_rendered() -> None:
    boxes = np.array([[0, 20, 10, 28, 44, 0.4], [1, 30, 44, 60, 52, 0.3]], float)
    found = true_boxes(torch.from_numpy(render(boxes, (80, 80))))
    got = dict(zip(found.classes.tolist(), found.edges.tolist(), strict=True))
    np.testing.assert_allclose(got[0], boxes[0, 1:], atol=1e-3)
    np.testing.assert_allclose(got[1], [41, 33, 49, 63, 0.3 - np.pi / 2], atol=1e-3)  # its longer side leads
    assert not bool(found.unknown.any())


def test_a_square_of_any_angle_is_found_once() -> None:
    """Its centre lies on a corner of four pixels, and rounding may call either side the longer one."""
    for angle in np.linspace(-1.5, 1.5, 60):
        found = true_boxes(torch.from_numpy(render(np.array([[0, 12, 12, 28, 28, angle]]), (40, 40))))
        assert len(found.classes) == 1, angle


def test_a_line_is_a_thin_box() -> None:
    found = true_boxes(torch.from_numpy(render(np.array([[0, 12.3, 5, 12.3, 30]]), (40, 40))))
    (top, left, bottom, right) = found.edges[0].tolist()
    assert (bottom - top, right - left) == pytest.approx((0.1, 25), abs=1e-4)


def test_thin_boxes_have_gradients() -> None:
    angle = torch.linspace(-1.5, 1.5, 200)
    thin = torch.tensor([[50.0, -400, 50.1, 500]]).repeat(200, 1)
    guess = torch.cat([thin + 3, angle[:, None]], 1).requires_grad_()
    gaussian_iou(guess, torch.cat([thin, angle[:, None]], 1)).sum().backward()  # type: ignore[no-untyped-call]
    assert guess.grad is not None
    assert bool(torch.isfinite(guess.grad).all())
