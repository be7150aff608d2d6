"""Heads in their parts: buffers against the cells they hold, places in cells, neighbours counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from geoml.errors import InputError
from geoml.geolocation import heads
from geoml.geolocation.density import cells
from geoml.geolocation.nn.head_parts import CellBuffers, density
from geoml.geolocation.nn.sphere import log_vmf
from geoml.grid import sphere


def places(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Around four centres, one across the antimeridian and one at a pole."""
    rng = np.random.default_rng(seed)
    centre = np.array([(10.0, 50.0), (179.95, -17.0), (0.0, 90.0), (-70.0, -30.0)])[np.arange(n) % 4]
    return sphere.destination(*centre.T, rng.uniform(0, 360, n), rng.gamma(2, 150, n))


def xyz_of(lon: np.ndarray, lat: np.ndarray) -> Tensor:
    return torch.from_numpy(sphere.to_xyz(lon, lat)).float()


def started(name: str, **config: object) -> torch.nn.Module:
    torch.manual_seed(0)
    module = heads.build(name, {"features": 4, "most": 30, "least": 3, "depth": 6, **config})
    module.start(torch.randn(300, 4), xyz_of(*places()))
    return module.eval()


def distances(made: cells.Cells, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    return sphere.distance(lon[:, None], lat[:, None], made.lon, made.lat)


def test_buffers_are_the_cells() -> None:
    made = cells.build(*places(), 30, 5, 8)
    buffers = CellBuffers(0, 8)
    buffers.fill(made)
    again = buffers.cells()
    assert again.ids == made.ids
    np.testing.assert_array_equal(again.count, made.count)
    np.testing.assert_allclose(again.radius, made.radius, rtol=1e-5)
    lon, lat = places(200, seed=5)
    np.testing.assert_array_equal(buffers.assign(xyz_of(lon, lat)).numpy(), made.assign(lon, lat))
    np.testing.assert_allclose(buffers.distances(xyz_of(lon, lat)).numpy(), distances(made, lon, lat), atol=2.0)
    for level in range(1, 9):
        np.testing.assert_array_equal(buffers.parents[level - 1].numpy(), made.parents(level)[1])


def test_a_place_in_a_cell_is_found_again_also_at_the_pole() -> None:
    head = started("cells", offset=True)
    lon, lat = places(200, seed=3)
    xyz = xyz_of(lon, lat)
    own = head.cells.assign(xyz)
    assert bool((head.cells.centre[own][:, 2] > 0.99).any())
    moved = head._moved(head._offset_of(own, xyz)[:, None].expand(-1, len(head.kappa), -1))
    x, y = sphere.to_lonlat(moved[torch.arange(200), own].double().numpy())
    inside = cells.build(*places(), 30, 3, 6).find(lon, lat) >= 0  # others are moved to the edge of the nearest
    assert sphere.distance(x, y, lon, lat)[inside].max() < 2.0


def test_offsets_start_at_the_centres() -> None:
    head = started("cells", offset=True)
    with torch.no_grad():
        _, xyz, _ = head.components(head(torch.randn(3, 4)))
    torch.testing.assert_close(xyz, head.cells.centre.expand(3, -1, -1), atol=1e-5, rtol=0)


def test_the_loss_of_the_hierarchy_is_that_of_summed_probabilities() -> None:
    head = started("cells", levels=2, tau_km=100.0)
    xyz = xyz_of(*places(20, seed=4))
    with torch.no_grad():
        raw = head(torch.randn(20, 4))
        found = float(head.loss(raw, xyz))
        p = raw.softmax(1).double().numpy()
    made = head.cells.cells()
    km = distances(made, *places(20, seed=4))
    label = np.exp(-(km - km.min(1, keepdims=True)) / 100)
    label /= label.sum(1, keepdims=True)
    several = [k for k in range(1, 7) if 1 < len(made.parents(k)[0]) < len(made)]
    expected = [-(label * np.log(p)).sum(1).mean()]
    for level in several[-2:]:
        ids, parent = made.parents(level)
        whole, seen = ((np.eye(len(ids))[parent].T @ v.T).T for v in (label, p))  # of the parents
        expected.append(-(whole * np.log(seen)).sum(1).mean())
    assert len(expected) == 3
    assert found == pytest.approx(np.mean(expected), rel=1e-3)


def test_retrieval_is_a_kernel_density_over_neighbours_counted_by_hand() -> None:
    torch.manual_seed(0)
    features, xyz = torch.randn(50, 4), xyz_of(*places(50))
    head = heads.build("retrieval", {"features": 4, "neighbours": 5, "temperature": 0.1, "kernel_km": 300})
    with pytest.raises(InputError, match="start"):
        head(features)
    head.start(features, xyz)
    query = torch.randn(3, 4)
    with torch.no_grad():
        weight, found, kappa = head.components(head(query))
    scaled = (features - features.mean(0)) / features.std(0, correction=0)
    asked = (query - features.mean(0)) / features.std(0, correction=0)
    cosine = torch.nn.functional.cosine_similarity(asked[:, None], scaled[None], dim=2)
    order = cosine.argsort(1, descending=True)[:, :5]
    torch.testing.assert_close(found, xyz[order])
    share = (cosine.gather(1, order) / 0.1).softmax(1)
    torch.testing.assert_close(weight.exp(), share, atol=1e-5, rtol=1e-4)
    made = density((weight[:, :1] * 0, found[:, :1], kappa[:, :1]))
    lon, lat = sphere.to_lonlat(found[:, 0].double().numpy())
    np.testing.assert_allclose(made.within(lon, lat, 300), 0.9, atol=1e-3)


def test_retrieval_does_not_find_the_picture_that_it_learns_from() -> None:
    """Places are random: with itself in the gallery the likelihood of a narrow kernel would be huge."""
    torch.manual_seed(0)
    features, xyz = torch.randn(200, 4), torch.nn.functional.normalize(torch.randn(200, 3), dim=1)
    head = heads.build("retrieval", {"features": 4, "neighbours": 1, "kernel_km": 50})
    head.start(features, xyz)
    with torch.no_grad():
        raw = head(features)
        assert float(head.loss(raw, xyz)) > 100
        assert float(head.loss(head(features + 0.01), xyz)) > 100  # nor another view of its own place
        weight, mu, kappa = head.components(raw)
        assert float(-(weight + log_vmf(xyz[:, None], mu, kappa)).logsumexp(1).mean()) < 0  # which an answer may find


def test_only_the_best_cells_are_searched() -> None:
    head = started("cells_retrieval", best=2, neighbours=8)
    with torch.no_grad():
        raw = head(torch.randn(30, 4))
        weight, _, _ = head.components(raw)
        best = raw[:, : len(head.cells.kappa)].topk(2, dim=1).indices
        _, xyz, _ = head._mixture(*head._split(raw))
    own = head.cells.cells.assign(xyz[:, :8].reshape(-1, 3)).reshape(30, 8)
    inside = (own[..., None] == best[:, None]).any(-1)
    assert float((weight[:, :8].exp() * ~inside).sum(1).max()) < 1e-3
    torch.testing.assert_close(weight[:, :8].exp().sum(1), torch.full((30,), 0.7))


def test_the_warm_start_of_latlon_is_the_spherical_mean() -> None:
    torch.manual_seed(0)
    features, xyz = torch.randn(100, 4), xyz_of(*places(100))
    head = heads.build("latlon", {"features": 4, "hidden": 8})
    head.start(features, xyz)
    lon, lat = sphere.mean(*places(100))
    with torch.no_grad():
        head.net[-1].weight.zero_()
        found = head.place(head(features))
    assert float(sphere.distance(found[0].double().numpy(), found[1].double().numpy(), lon, lat).max()) < 1


@pytest.mark.parametrize(
    ("name", "config", "field"),
    [
        ("latlon", {"loss": "l1"}, "loss"),
        ("cells", {"tau_km": -1.0}, "tau_km"),
        ("cells", {"most": 0}, "most"),
        ("vmf_mixture", {"floor_km": 0.0}, "floor_km"),
        ("retrieval", {"temperature": 0.0}, "temperature"),
        ("cells_retrieval", {"share": 1.0}, "share"),
        ("unit_vector", {"dropout": 1.0}, "dropout"),
    ],
)
def test_refuses_options_that_make_no_sense(name: str, config: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=field):
        heads.build(name, {"features": 4, **config})
