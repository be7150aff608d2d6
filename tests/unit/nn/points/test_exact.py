"""Layers whose answers depend neither on the rows beside a row nor on the order of a sum."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geoml.nn.points.exact import LARGEST, VALUE, ExactLayer, ExactOutput, held
from geoml.nn.points.sets import FeaturePropagation, SetAbstraction, group_maximum


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(module: nn.Module, *x: torch.Tensor) -> nn.Module:
    """In eval mode, with statistics of a batch in its norms."""
    with torch.no_grad():
        for _ in range(50):
            module.train()(*x)
    return module.eval()


@torch.no_grad()
def test_a_layer_says_what_it_says_in_floats_to_the_grid() -> None:
    torch.manual_seed(0)
    layer = trained(ExactLayer(40, 24), 3 * noise(500, 40) + 1)
    x = held(3 * noise(500, 40, seed=1).double() + 1)
    plain = nn.Sequential(layer.linear, layer.norm, nn.ReLU()).double()
    torch.testing.assert_close(layer(x) * VALUE, plain(x * VALUE), atol=5e-3, rtol=0)


@pytest.mark.parametrize("kind", [ExactLayer, ExactOutput])
@torch.no_grad()
def test_every_sum_is_exact_whatever_its_order(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    layer = trained(kind(200, 24), 20 * noise(300, 200))
    x = held(20 * noise(300, 200, seed=1).double())
    whole = layer(x)
    assert torch.equal(torch.cat([layer(row[None]) for row in x]), whole), "alone"
    order = torch.randperm(200, generator=torch.Generator().manual_seed(2))
    layer.linear.weight.copy_(layer.linear.weight[:, order])
    assert torch.equal(layer(x[:, order]), whole), "in another order of the sum"
    assert torch.equal(whole, whole.round()), "whole numbers"
    assert float(whole.abs().max()) <= LARGEST


@torch.no_grad()
def test_what_rows_have_in_common_is_multiplied_once_with_the_same_answer() -> None:
    torch.manual_seed(0)
    layer = trained(ExactLayer(9, 6), noise(200, 9))
    known, own = held(noise(20, 7).double()), held(noise(50, 2, seed=1).double())
    which = torch.randint(0, 20, (50,), generator=torch.Generator().manual_seed(2))
    assert torch.equal(layer.beside(layer.of_known(known), which, own), layer(torch.cat([known[which], own], 1)))


@torch.no_grad()
def test_the_largest_sum_is_exact() -> None:
    """All values and weights as large as they may be, and one of the least: float64 holds their sum."""
    layer = ExactOutput(256, 1).eval()
    layer.linear.weight.fill_(16.0)
    layer.linear.bias.fill_(0.0)
    x = torch.full((1, 256), LARGEST, dtype=torch.float64)
    x[0, 128:] = -LARGEST
    x[0, 0] -= 1
    assert float(layer(x)) == -16


@torch.no_grad()
def test_groups_are_taken_in_parts_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    count = torch.tensor([3, 1, 7, 2, 40, 1])
    source = torch.randint(0, 30, (54,), generator=torch.Generator().manual_seed(1))
    known, place = noise(30, 5), noise(54, 3, seed=2)
    layer = trained(SetAbstraction(5, 8), known, source, count, place)
    known, place = held(known.double()), held(place.double())
    whole = layer(known, source, count, place)
    for j, rows in enumerate(torch.cat([known[source], place], 1).split(count.tolist())):
        assert torch.equal(layer.layers(rows).amax(0), whole[j])
    for part in (1, 5, 50):
        monkeypatch.setattr("geoml.nn.points.sets.PART", part)
        assert torch.equal(layer(known, source, count, place), whole)


def test_the_maximum_of_a_group_and_its_gradient() -> None:
    rows = torch.tensor([[1.0, 5.0], [3.0, 2.0], [0.0, 0.0]], requires_grad=True)
    found = group_maximum(rows, torch.tensor([2, 1]))
    assert found.tolist() == [[3.0, 5.0], [0.0, 0.0]]
    found.sum().backward()
    assert rows.grad is not None
    assert rows.grad.tolist() == [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]


@torch.no_grad()
def test_propagation_interpolates_by_its_weights() -> None:
    torch.manual_seed(0)
    coarse, fine = noise(4, 6), noise(9, 2)
    near = torch.randint(0, 4, (9, 3), generator=torch.Generator().manual_seed(3))
    weight = torch.tensor([[0.5, 0.25, 0.25]]).expand(9, 3)
    layer = trained(FeaturePropagation(6, 2, 8), coarse, fine, near, weight)
    coarse, fine = held(coarse.double()), held(fine.double())
    told = torch.round(0.5 * coarse[near[:, 0]] + 0.25 * coarse[near[:, 1]] + 0.25 * coarse[near[:, 2]])
    assert torch.equal(layer(coarse, fine, near, weight.double()), layer.layers(torch.cat([told, fine], 1)))
