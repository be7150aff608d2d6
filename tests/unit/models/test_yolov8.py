"""YOLOv8 is the network of its figure: as many parameters as are published."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import torch

from geoml import models, testing
from geoml.data.targets.boxes import boxes_of
from geoml.engine.contract import Rows, output_of
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.nn.objects.centre_heat import render
from geoml.vector.boxes import ORIENTED, edges, iou, outlines, suppress


@pytest.mark.parametrize(("size", "parameters"), [("n", 3_157_200), ("s", 11_166_560)])
def test_has_the_parameters_that_are_published_for_80_classes(size: str, parameters: int) -> None:
    """https://arxiv.org/abs/2304.00501 has 3.2 and 11.2 million; 16 of them are the fixed steps of a distribution."""
    module = models.build("yolov8", {"bands": 3, "classes": 84, "size": size})
    assert sum(p.numel() for p in module.parameters()) == parameters - 16


@pytest.mark.parametrize("strides", [[8, 32], [16, 8], [2, 4], []])
def test_refuses_strides_that_do_not_follow_each_other(strides: list[int]) -> None:
    with pytest.raises(InputError, match="strides"):
        models.build("yolov8", {"bands": 3, "classes": 5, "strides": strides})


def test_oriented_boxes_can_be_learnt_by_heart() -> None:
    torch.manual_seed(0)
    module = models.build("yolov8", {"bands": 3, "classes": 7, "size": "p", "strides": (4, 8), "oriented": True})
    boxes = [np.array([[0, 20, 12, 30, 46, 0.6]]), np.array([[0, 30, 14, 42, 54, -0.9]])]
    random = torch.Generator().manual_seed(1)
    x = 0.3 * torch.randn(2, 3, 64, 64, generator=random)
    y, col = np.mgrid[0.5:64, 0.5:64]
    for image, box in zip(x, boxes, strict=True):
        image[:, torch.from_numpy(shapely.contains_xy(outlines(box[:, 1:])[0], col, y))] += 3
    target = torch.from_numpy(np.stack([render(box, (64, 64)) for box in boxes]))
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    for _ in range(80):
        optimiser.zero_grad()
        module.loss(module(x), target).backward()  # type: ignore[operator]
        optimiser.step()
    card = testing.card("turned", ["red"], ["thing"], task="detection", chip_size=64)
    output = output_of(card.model_copy(update={"config": {"oriented": True}}))
    with torch.no_grad():
        answers = module.eval()(x)
    for raw, truth in zip(answers, target.numpy(), strict=True):
        chip, known = Window(0, 0, 64, 64), torch.ones(64, 64, dtype=torch.bool)
        rows = Rows(chip, {k: v.numpy() for k, v in output.candidates(raw, chip, known).items()})  # type: ignore[union-attr]
        found = suppress(dict(zip(ORIENTED, output.answer(rows)[0].T, strict=True)), 0.3)
        assert float(iou(edges(found)[:1], boxes_of(truth)[:, 2:])[0]) > 0.7
