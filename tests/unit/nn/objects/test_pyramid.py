"""Cells of a pyramid as a dense map: each is told where it looks, and the map says the box that was put in."""

from __future__ import annotations

import numpy as np
import shapely
import shapely.affinity
import torch

from geoml import testing
from geoml.engine.contract import output_of
from geoml.grid.plane import Window
from geoml.nn.objects.pyramid import NOTHING, centres, dense, flat
from geoml.nn.objects.true_boxes import sides_from
from geoml.vector.boxes import edges, outlines

STEPS = (4, 8, 16, 32, 64, 128)


def test_no_two_cells_share_a_pixel_or_have_neighbouring_ones() -> None:
    levels = [torch.full((1, 1, 256 // s, 256 // s), 5.0) for s in STEPS]
    map_ = dense(levels, [torch.ones(1, 4, *level.shape[2:]) for level in levels], STEPS)
    y, x = torch.nonzero(map_[0, 0] > 0, as_tuple=True)
    assert len(y) == sum((256 // s) ** 2 for s in STEPS)
    apart = (torch.stack([y, x], 1)[:, None] - torch.stack([y, x], 1)[None]).abs().amax(-1)
    assert int((apart + 10 * torch.eye(len(y), dtype=torch.int64)).min()) >= 2
    assert bool((map_[0, 0][map_[0, 0] < 0] == NOTHING).all())


def test_cells_are_in_one_order() -> None:
    places, steps = centres((64, 32), (8, 16), torch.device("cpu"))
    rows = [
        (torch.arange(n // s) + 0.5).view(shape) * s for s in (8, 16) for n, shape in ((64, (-1, 1)), (32, (1, -1)))
    ]
    levels = [torch.stack(torch.broadcast_tensors(*rows[2 * k : 2 * k + 2]))[None] for k in range(2)]
    assert torch.equal(flat(levels)[0], places)
    assert steps.tolist() == [8.0] * 32 + [16.0] * 8


def test_a_box_comes_out_as_it_went_in() -> None:
    """Known truth: top, left, bottom, right (21, 10, 50, 44) from the cell of row 2 and column 1 at a step of 16."""
    logits, sides = torch.full((1, 1, 4, 4), NOTHING), torch.zeros(1, 4, 4, 4)
    logits[0, 0, 2, 1] = 2.0
    row, col = 2.5 * 16, 1.5 * 16
    sides[0, :, 2, 1] = torch.tensor([row - 21, 50 - row, col - 10, 44 - col])
    raw = dense([logits], [sides], (16,))[0]
    output = output_of(testing.card("one", ["red"], ["thing"], task="detection", chip_size=64))
    found = output.candidates(raw, Window(100, 200, 164, 264), torch.ones(64, 64, dtype=torch.bool))  # type: ignore[union-attr]
    columns = {k: v.numpy() for k, v in found.items()}
    columns["y"], columns["x"] = columns["y"] + 0.5, columns["x"] + 0.5
    np.testing.assert_allclose(edges(columns), [[121, 210, 150, 244]], atol=1 / 16)


def test_a_box_beside_the_middle_of_its_cell_reaches_to_the_pixel_that_tells_of_it() -> None:
    """No side can be negative: such a small object (3 x 3 pixels, 5 from the middle) is told larger than it is."""
    logits, sides = torch.full((1, 1, 4, 4), NOTHING), torch.zeros(1, 4, 4, 4)
    logits[0, 0, 2, 1] = 2.0
    sides[0, :, 2, 1] = torch.tensor([-5.0, 8, 5, -2])  # rows 45 to 48, columns 19 to 22 from (40, 24)
    raw = dense([logits], [sides], (16,))[0]
    output = output_of(testing.card("one", ["red"], ["thing"], task="detection", chip_size=64))
    found = output.candidates(raw, Window(0, 0, 64, 64), torch.ones(64, 64, dtype=torch.bool))  # type: ignore[union-attr]
    columns = {k: v.numpy() for k, v in found.items()}
    columns["y"], columns["x"] = columns["y"] + 0.5, columns["x"] + 0.5
    np.testing.assert_allclose(edges(columns), [[40, 19, 48, 25]], atol=1 / 16)


def test_an_oriented_box_comes_out_as_it_went_in() -> None:
    """Against the outline that shapely turns: 40 by 12 pixels about (30, 27), half a radian from east to south."""
    angle, box = 0.5, shapely.box(10, 21, 50, 33)
    wanted = shapely.affinity.rotate(box, angle, origin=(30, 27), use_radians=True)
    logits, sides = torch.full((1, 1, 4, 4), NOTHING), torch.zeros(1, 5, 4, 4)
    logits[0, 0, 1, 1] = 2.0
    place = torch.tensor([[1.5 * 16, 1.5 * 16]])
    shape = torch.tensor([[21.0, 10, 33, 50, angle]])
    sides[0, :, 1, 1] = torch.cat([sides_from(shape, place)[0], torch.tensor([angle])])
    raw = dense([logits], [sides], (16,))[0]
    card = testing.card("one", ["red"], ["thing"], task="detection", chip_size=64).model_copy(
        update={"config": {"oriented": True}}
    )
    output = output_of(card)
    assert output.raw == len(raw) == 7
    found = output.candidates(raw, Window(0, 0, 64, 64), torch.ones(64, 64, dtype=torch.bool))  # type: ignore[union-attr]
    columns = {k: v.numpy() for k, v in found.items()}
    columns["y"], columns["x"] = columns["y"] + 0.5, columns["x"] + 0.5
    (outline,) = outlines(edges(columns))
    assert shapely.area(shapely.symmetric_difference(outline, wanted)) < 0.02 * shapely.area(wanted)
