"""What cells of a grid hear of each other: by hand, no farther than is said, and whatever the grid is cut into."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from geoml import models
from geoml.errors import InputError
from geoml.models.graph import GraphForecast
from geoml.nn.forecast.cells import CellMessages
from geoml.nn.forecast.quantiles import pinball_loss

SHAPE = {"history": 3, "leads": (2,), "hidden": 16, "reach": 2, "kernels": 2, "dropout": 0.0, "levels": (0.1, 0.5, 0.9)}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def graph(**changed: object) -> GraphForecast:
    torch.manual_seed(0)
    module = models.build("graph", {**SHAPE, **changed})
    assert isinstance(module, GraphForecast)
    return module


def test_a_cell_hears_the_mean_of_what_is_known_around_it() -> None:
    """Weighted by relative position, inside of the field alone; checked cell by cell."""
    torch.manual_seed(0)
    cells = CellMessages(2, 3)
    with torch.no_grad():
        x, known = noise(2, 3, 5, 7), noise(2, 5, 7, seed=1) > -0.3
        known[1, :4, :4] = False
        weights = cells.weights.numpy()
        found = torch.unflatten(cells(x, known), 1, (3, 4)).numpy()
    np.testing.assert_allclose(weights.sum((1, 2)), 1, rtol=1e-6)
    assert weights[0, 2, 2] > weights[0, 2, 3] > weights[0, 3, 3] > weights[0, 2, 4]
    for batch, row, column in np.ndindex(2, 5, 7):
        total, share = np.zeros((3, 4)), np.zeros(4)
        for i, j in np.ndindex(5, 5):
            y, x0 = row + i - 2, column + j - 2
            if 0 <= y < 5 and 0 <= x0 < 7 and known[batch, y, x0]:
                total += np.outer(x[batch, :, y, x0], weights[:, i, j])
                share += weights[:, i, j]
        expected = np.where(share > 1e-6, total / np.maximum(share, 1e-6), 0.0)
        np.testing.assert_allclose(found[batch, :, :, row, column], expected, atol=1e-5)
    assert not found[1, :, :, 0, 0].any(), "nothing around it is known"


@torch.no_grad()
def test_a_part_of_a_grid_with_its_radius_around_it_says_what_the_whole_says() -> None:
    module = graph().eval()
    for value in module.parameters():
        value += 0.2 * noise(*value.shape, seed=3)
    assert module.radius == 6
    x, looks = noise(1, 3, 40, 36), noise(1, 3, 40, 36, seed=1) > -1
    whole = module(x, looks)
    part = module(x[..., 4:26, 3:24], looks[..., 4:26, 3:24])
    torch.testing.assert_close(part[..., 6:-6, 6:-6], whole[..., 10:20, 9:18], atol=1e-6, rtol=1e-5)
    other = x.clone()
    other[..., 20, 20] += 5
    changed = ((module(other, looks) - whole).abs() > 1e-6).any(1)[0]
    rows, columns = torch.nonzero(changed, as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (14, 26)
    assert (int(columns.min()), int(columns.max())) == (14, 26)


def test_a_field_that_moves_is_foretold_from_the_neighbours() -> None:
    """By one cell a step, in either direction along x: what comes is beside a cell now, and history says where."""
    module = graph().train()
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-2)
    for step in range(70):
        x, truth = moving(8, seed=step)
        optimiser.zero_grad()
        pinball_loss(module(x), truth, (0.1, 0.5, 0.9)).backward()
        optimiser.step()
    x, truth = moving(32, seed=1000)
    with torch.no_grad():
        found = module.eval()(x)[:, 1:2]
    error, stays = (float((said - truth).abs()[..., 3:-3].mean()) for said in (found, x[:, 2:3]))
    assert error < 0.5 * stays, (error, stays)


def moving(batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """(B, 3, 12, 12) smooth waves that go one cell a step, half of them to the left, and where they are two later."""
    random = torch.Generator().manual_seed(seed)
    phase, rate = (torch.rand(batch, 3, 1, 1, generator=random) * k for k in (6.28, 1.0))
    speed = torch.where(torch.arange(batch) % 2 == 0, 1.0, -1.0)[:, None, None]
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")

    def at(step: int) -> Tensor:
        along = x - speed * step
        return torch.sin(0.5 * along + phase[:, 0]) + torch.sin(0.9 * along + rate[:, 0] * y + phase[:, 1])

    return torch.stack([at(step) for step in range(3)], 1), at(4)[:, None]


def test_a_grid_without_reach_is_refused_with_what_would_be_right() -> None:
    module = models.build("graph", {"history": 2, "leads": (1,)})
    with pytest.raises(InputError, match="3 x 4 cells of a grid; expected reach"):
        module(noise(1, 2, 3, 4))
    with pytest.raises(InputError, match="either reach, of a grid, or places"):
        models.build("graph", {**SHAPE, "places": 3})
