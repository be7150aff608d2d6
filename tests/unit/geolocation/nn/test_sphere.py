"""Losses on the sphere: gradients where distances have kinks, values against the plain ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import vonmises_fisher
from torch import Tensor

from geoml.geolocation.nn import sphere
from geoml.grid import sphere as plain

DOUBLE = torch.float64
HARD = [
    ((10.0, 20.0), (10.0, 20.0)),  # no distance
    ((10.0, 20.0), (-170.0, -20.0)),  # antipodes
    ((179.9, 5.0), (-179.9, 6.0)),  # across the antimeridian
    ((180.0, 5.0), (-180.0, 5.0)),
    ((30.0, 90.0), (30.0, 80.0)),
    ((30.0, 90.0), (-150.0, -90.0)),
    ((0.0, -90.0), (120.0, -90.0)),
    ((0.0, 0.0), (90.0, 0.0)),
]


def tensors(*values: float) -> list[Tensor]:
    return [torch.tensor([v], dtype=DOUBLE, requires_grad=True) for v in values]


@pytest.mark.parametrize(("a", "b"), HARD)
def test_gradients_of_the_haversine_are_right_where_it_is_hard(a: tuple[float, float], b: tuple[float, float]) -> None:
    assert torch.autograd.gradcheck(sphere.haversine, tensors(*a, *b), eps=1e-7, atol=2e-2, rtol=1e-3)
    single = [torch.tensor([v], requires_grad=True) for v in (*a, *b)]
    sphere.haversine(*single).sum().backward()
    assert all(bool(torch.isfinite(v.grad).all()) for v in single if v.grad is not None)


@pytest.mark.parametrize(("a", "b"), HARD)
def test_gradients_between_unit_vectors_are_right_where_it_is_hard(
    a: tuple[float, float], b: tuple[float, float]
) -> None:
    def loss(*x: torch.Tensor) -> torch.Tensor:
        return sphere.chordal_loss(sphere.to_xyz(x[0], x[1]), sphere.to_xyz(x[2], x[3]))

    assert torch.autograd.gradcheck(loss, tensors(*a, *b), eps=1e-7, atol=2e-2, rtol=1e-3)


@pytest.mark.parametrize(("a", "b"), HARD)
def test_distances_are_those_of_the_plain_sphere(a: tuple[float, float], b: tuple[float, float]) -> None:
    expected = float(plain.distance(*a, *b))
    values = tensors(*a, *b)
    assert sphere.haversine(*values).item() == pytest.approx(expected, abs=0.014)
    xyz = [torch.from_numpy(plain.to_xyz(*p)) for p in (a, b)]
    assert sphere.chordal_loss(*xyz).item() == pytest.approx(1 - np.cos(expected / plain.EARTH_RADIUS_KM), abs=1e-9)


def test_a_gradient_step_crosses_the_antimeridian() -> None:
    lon, lat = tensors(179.0, 0.0)
    sphere.haversine(lon, lat, torch.tensor([-179.0], dtype=DOUBLE), torch.tensor([0.0], dtype=DOUBLE)).backward()
    assert lon.grad is not None
    assert lon.grad.item() == pytest.approx(-np.pi / 180 * plain.EARTH_RADIUS_KM, rel=1e-6)  # further east is nearer


@pytest.mark.parametrize("kappa", [1e-3, 1.0, 50.0, 5000.0])
def test_log_density_is_that_of_scipy(kappa: float) -> None:
    mu = plain.to_xyz(100.0, -30.0)
    points = np.random.default_rng(0).normal(size=(20, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = sphere.log_vmf(torch.from_numpy(points), torch.from_numpy(mu), torch.tensor(kappa, dtype=DOUBLE))
    np.testing.assert_allclose(found.numpy(), vonmises_fisher(mu, kappa).logpdf(points), rtol=1e-6, atol=1e-5)
    assert torch.autograd.gradcheck(
        sphere.log_vmf,
        [torch.tensor(v, dtype=DOUBLE, requires_grad=True) for v in (points[:2], mu, [kappa, kappa])],
        rtol=1e-3,
        atol=1e-4,
    )


def test_labels_sum_to_one_and_fall_with_distance() -> None:
    km = torch.tensor([[0.0, 75.0, 150.0], [1e4, 1e4 + 75, 2e4]])
    labels = sphere.smoothed_labels(km, 75.0)
    torch.testing.assert_close(labels.sum(1), torch.ones(2))
    torch.testing.assert_close(labels[0, 0] / labels[0, 1], torch.tensor(np.e, dtype=torch.float32))
    torch.testing.assert_close(labels[1, 0] / labels[1, 1], torch.tensor(np.e, dtype=torch.float32), rtol=1e-3, atol=0)
