"""What the branch of masks is taught: cells of boxes, at the pixels where labels lie."""

from __future__ import annotations

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio import Affine
from torch import Tensor
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from geoml import models
from geoml.data.targets.boxes import BoxTarget
from geoml.grid.plane import Window
from geoml.io.cards.map_card import ClassInfo
from geoml.nn.metrics import IGNORE
from geoml.nn.objects.centre_heat import INDEX, NUMBER
from geoml.nn.objects.mask_head import mask_loss, taught, words_of
from geoml.nn.objects.true_boxes import true_boxes
from geoml.vector.masks import SIDE, WORDS, packed

CLASSES = tuple(ClassInfo(value=v, name=n, color="#102030") for v, n in ((1, "angle"), (2, "disc")))
KIND = BoxTarget(CLASSES, masks=True)
ANGLE = shapely.Polygon([(10, 12), (30, 12), (30, 20), (18, 20), (18, 40), (10, 40)])
DISC = shapely.Point(45, 40).buffer(12)


def scene(*shapes: shapely.Polygon, side: int = 64) -> NDArray[np.float32]:
    """(8, y, x) of polygons of classes 0, 1, 0 …"""
    plane = GeoBox((side, side), Affine.identity(), "EPSG:3857")
    found: NDArray[np.float32] = KIND.of_features([(s, k % 2) for k, s in enumerate(shapes)], plane, 0)
    return found


def lesson(target: NDArray[np.float32], *boxes: tuple[float, ...], number: float = 1.0) -> tuple[Tensor, Tensor]:
    edges = torch.tensor(boxes)
    return taught(edges, torch.full((len(boxes),), number), torch.from_numpy(target))


def covered(shape: shapely.Polygon, box: tuple[float, ...]) -> NDArray[np.float64]:
    """(28, 28) share of each cell of left, top, right, bottom that lies in a polygon."""
    left, top, right, bottom = box
    x, y = (np.linspace(a, b, SIDE + 1) for a, b in ((left, right), (top, bottom)))
    cells = shapely.box(x[None, :-1], y[:-1, None], x[None, 1:], y[1:, None])
    share: NDArray[np.float64] = shapely.area(shapely.intersection(cells, shape)) / shapely.area(cells)
    return share


def test_a_label_of_whole_pixels_is_taught_without_a_shift() -> None:
    """The share of each cell is that of shapely; where torchvision's own target lies half a pixel away."""
    box = (4.0, 6.0, 32.0, 48.0)  # cells of 1 x 1.5 pixels
    aim, known = lesson(scene(ANGLE), box)
    exact = covered(ANGLE, box)
    assert bool(known.all())
    np.testing.assert_allclose(aim[0].numpy()[exact == 1], 1)
    np.testing.assert_allclose(aim[0].numpy()[exact == 0], 0)
    assert abs(float(aim.mean()) - float(exact.mean())) < 0.01
    inside = (torch.from_numpy(scene(ANGLE))[7] == 1)[None].float()
    theirs = project_masks_on_boxes(inside, torch.tensor([box]), torch.tensor([0]), SIDE)[0].numpy()
    rows, cols = np.mgrid[:SIDE, :SIDE]

    def middle(share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Column and row in pixels."""
        return np.array([(cols * share).sum(), 1.5 * (rows * share).sum()]) / share.sum()

    np.testing.assert_allclose(middle(aim[0].numpy()), middle(exact), atol=0.15)
    np.testing.assert_allclose(middle(theirs) - middle(exact), -0.5, atol=0.15)


def test_a_disc_is_taught_as_round_as_its_pixels_are() -> None:
    box = tuple(DISC.bounds)
    aim, known = lesson(scene(DISC), box)
    assert bool(known.all())
    wrong = np.abs((aim[0].numpy() >= 0.5) ^ (covered(DISC, box) >= 0.5))
    assert wrong.mean() < 0.06, "a pixel is as large as a cell"


def test_the_outline_of_another_object_is_no_part_of_this_one() -> None:
    over = shapely.box(20, 10, 28, 18)  # smaller, so it lies on the angle
    target = scene(ANGLE, over)
    aim, _ = lesson(target, (8.0, 8.0, 36.0, 36.0))
    assert float(aim[0, 4:8, 14:18].sum()) == 0
    aim, _ = lesson(target, (8.0, 8.0, 36.0, 36.0), number=2.0)
    assert float(aim.sum()) == 64


def test_cells_beyond_the_picture_without_data_or_without_an_outline_teach_nothing() -> None:
    target = scene(ANGLE)
    target[INDEX, 30:] = IGNORE
    _, known = lesson(target, (-14.0, 12.0, 42.0, 40.0))
    assert not bool(known[0, :, :7].any()), "west of the picture"
    assert bool(known[0, :18, 7:].all())
    assert not bool(known[0, 18:].any()), "without a label"
    _, known = lesson(target, (0.0, 0.0, 28.0, 28.0), number=9.0)
    assert not bool(known.any()), "an outline that holds the middle of no pixel"
    aim, known = taught(torch.zeros(0, 4), torch.zeros(0), torch.from_numpy(target))
    assert aim.shape == known.shape == (0, SIDE, SIDE)


def test_masks_that_are_right_cost_nothing_and_only_the_class_of_the_object_learns() -> None:
    target = torch.from_numpy(scene(ANGLE, DISC)[None])
    truth = true_boxes(target[0])
    numbers = target[0, NUMBER, truth.pixels[:, 0], truth.pixels[:, 1]]
    assert sorted(numbers.tolist()) == [1, 2]
    boxes = truth.edges[:, [1, 0, 3, 2]]
    aim, _ = taught(boxes, numbers, target[0])
    logits = torch.zeros(2, 2, SIDE, SIDE)
    logits[range(2), truth.classes] = 40 * (aim - 0.5)
    logits.requires_grad_(True)
    loss = mask_loss(logits, [boxes], [torch.arange(2)], [truth], target)
    soft = float(((aim > 0) & (aim < 1)).float().mean())
    assert float(loss.detach()) < 2 * soft + 1e-3
    loss.backward()
    assert logits.grad is not None
    assert float(logits.grad[range(2), 1 - truth.classes].abs().sum()) == 0
    none = mask_loss(logits[:0], [boxes[:0]], [torch.arange(0)], [truth], target)
    assert float(none.detach()) == 0


def test_a_network_packs_masks_as_they_are_unpacked() -> None:
    cells = np.random.default_rng(0).random((5, SIDE, SIDE)) < 0.5
    words = words_of(torch.from_numpy(cells))
    assert words.dtype == torch.float32
    assert (words.numpy() == packed(cells)).all()


def tiny(classes: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    config = {**models.find("faster_rcnn").TINY, "bands": 2, "masks": True}
    return models.build("faster_rcnn", {**config, "classes": classes + 4 + WORDS})


def test_every_weight_of_a_network_with_masks_learns_also_where_there_is_no_object() -> None:
    module = tiny().train()
    pictures = torch.from_numpy(np.stack([scene(ANGLE, DISC), scene()]))
    loss = module.loss(module(torch.randn(2, 2, 64, 64)), pictures)  # type: ignore[operator]
    loss.backward()
    for name, weight in module.named_parameters():
        assert weight.grad is not None, name
        assert bool(torch.isfinite(weight.grad).all()), name
    assert float(module.outline.predict.mask_fcn_logits.weight.grad.abs().sum()) > 0  # type: ignore[union-attr]
    loss = module.loss(module(torch.randn(1, 2, 64, 64)), pictures[1:])  # type: ignore[operator]
    assert bool(torch.isfinite(loss))


def test_raw_output_holds_a_mask_where_it_holds_a_box() -> None:
    module = tiny().eval()
    with torch.no_grad():
        raw = module(torch.randn(1, 2, 64, 64))[0]
    assert raw.shape == (2 + 4 + WORDS, 64, 64)
    found = (raw[:2] > -11).any(0)
    words = raw[6:]
    assert bool((words == words.round()).all())
    assert 0 <= float(words.min()) <= float(words.max()) < 2**16
    assert float(words[:, ~found].abs().sum()) == 0


def test_a_crop_keeps_the_numbers_of_what_it_cuts() -> None:
    target = scene(ANGLE, DISC)
    crop = KIND.cut(target, Window(0, 0, 38, 64), Window(0, 0, 64, 64))
    truth = true_boxes(torch.from_numpy(crop))
    assert truth.classes.tolist() == [0], "the middle of the disc lies outside"
    assert crop[NUMBER, truth.pixels[0, 0], truth.pixels[0, 1]] == 1
