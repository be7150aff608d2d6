"""What every file in geoml/geolocation/heads promises; a new file gets these tests without another edit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from geoml.errors import InputError
from geoml.geolocation import heads
from geoml.geolocation.nn.head_parts import density
from geoml.grid import sphere

NAMES = heads.names()
WIDTH = 6
CENTRES = [(10.0, 50.0), (179.95, -17.0), (0.0, 89.9), (-70.0, -30.0)]
"""Of the problem that heads learn: one across the antimeridian, one at a pole."""

LEARNT = 0.3
"""The loss falls by more; in fact by 0.6 or more, whatever the seed, the processor and the number of threads."""

every_head = pytest.mark.parametrize("name", NAMES)


def problem(n: int = 160, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(n, WIDTH) features and (n, 3) places around four centres that the features tell apart."""
    g = torch.Generator().manual_seed(seed)
    which = torch.arange(n) % 4
    features = 0.3 * torch.randn(n, WIDTH, generator=g)
    features[torch.arange(n), which] += 3.0
    lon, lat = torch.tensor(CENTRES, dtype=torch.float64)[which].T
    turn, km = 360 * torch.rand(n, generator=g).numpy(), 100 * torch.rand(n, generator=g).numpy()
    places = sphere.to_xyz(*sphere.destination(lon.numpy(), lat.numpy(), turn, km))
    return features, torch.from_numpy(places).float()


def tiny(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return heads.build(name, {**heads.find(name).TINY, "features": WIDTH})


def started(name: str, seed: int = 0) -> nn.Module:
    module = tiny(name, seed)
    module.start(*problem())
    return module


def learn(module: nn.Module, features: Tensor, xyz: Tensor, steps: int) -> tuple[float, float]:
    """Loss before and after."""
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-2)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = module.loss(module(features), xyz)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1]


def kilometres(module: nn.Module, features: Tensor, xyz: Tensor) -> Tensor:
    """(B,) from the highest density to the true place."""
    with torch.no_grad():
        found = density(module.components(module.eval()(features)))
    return torch.from_numpy(sphere.distance(*found.mode(), *sphere.to_lonlat(xyz.double().numpy())))


@every_head
def test_says_where_it_comes_from_and_whether_it_can_say_here_or_there(name: str) -> None:
    file = heads.find(name)
    assert "https://" in (file.__doc__ or "")
    assert isinstance(file.UNIMODAL, bool)
    assert next(iter(file.Config.__dataclass_fields__)) == "features"


@every_head
def test_components_are_a_density(name: str) -> None:
    module, (features, _) = started(name).eval(), problem(seed=1)
    with torch.no_grad():
        raw = module(features[:7])
        weight, xyz, kappa = module.components(raw)
    assert raw.shape[0] == 7
    k = weight.shape[1]
    assert weight.shape == (7, k)
    assert xyz.shape in ((7, k, 3), (k, 3))
    assert kappa.shape in ((7, k), (k,))
    assert all(bool(torch.isfinite(v).all()) for v in (weight, xyz, kappa))
    torch.testing.assert_close(weight.exp().sum(1), torch.ones(7))
    torch.testing.assert_close(xyz.norm(dim=-1), torch.ones(xyz.shape[:-1]))
    assert bool((kappa > 0).all())
    assert len(density((weight, xyz, kappa))) == 7


@every_head
def test_every_weight_gets_a_finite_gradient(name: str) -> None:
    module, (features, xyz) = started(name).train(), problem(seed=1)
    module.loss(module(features), xyz).backward()
    for weight, value in module.named_parameters():
        assert value.grad is not None, f"{weight} does not take part"
        assert bool(torch.isfinite(value.grad).all()), weight


@every_head
def test_gradients_are_finite_where_answers_are_exactly_right_or_opposite(name: str) -> None:
    module, (features, _) = started(name).train(), problem(seed=1)
    lon, lat = density(module.components(module(features))).mode()
    at = torch.from_numpy(sphere.to_xyz(lon, lat)).float()
    for xyz in (at, -at, torch.tensor([[0.0, 0, 1]]).expand_as(at), torch.tensor([[-1.0, 0, 0]]).expand_as(at)):
        module.zero_grad()
        module.loss(module(features), xyz).backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in module.parameters() if p.grad is not None)


@every_head
def test_learns_a_problem_across_the_antimeridian_and_at_a_pole(name: str) -> None:
    module, (features, xyz) = started(name).train(), problem()
    before, after = learn(module, features, xyz, steps=150)
    assert after < before - LEARNT
    test_features, test_xyz = problem(n=80, seed=9)
    if name != "latlon":  # whose outputs cannot pass the seam
        km = kilometres(module, test_features, test_xyz)
        assert float(km.median()) < (400 if heads.find(name).UNIMODAL else 150)
        assert float(km.quantile(0.9)) < (1000 if heads.find(name).UNIMODAL else 400)
    else:
        easy = torch.arange(80) % 4 != 1
        assert float(kilometres(module, test_features, test_xyz)[easy].median()) < 1000


@every_head
def test_state_comes_back_through_safetensors(name: str, tmp_path: Path) -> None:
    module, (features, xyz) = started(name), problem(seed=1)
    learn(module, features, xyz, steps=2)
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, tmp_path / "head.safetensors")
    again = heads.build(name, asdict(module.config))
    again.load_state_dict(load_file(tmp_path / "head.safetensors"))
    module.eval(), again.eval()
    with torch.no_grad():
        for a, b in zip(module.components(module(features)), again.components(again(features)), strict=True):
            assert torch.equal(a, b)
        assert torch.equal(module.loss(module(features), xyz), again.loss(again(features), xyz))


@every_head
def test_a_picture_does_not_depend_on_its_batch_mates(name: str) -> None:
    module, (features, _) = started(name).eval(), problem(seed=1)
    with torch.no_grad():
        together, alone = module(features[:9]), torch.cat([module(part) for part in features[:9].split(2)])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
        whole = density(module.components(together)).mode()
        parts = [density(module.components(part)).mode() for part in alone.split(4)]
    joined = [torch.cat([torch.from_numpy(p[i]) for p in parts]).numpy() for i in range(2)]
    assert sphere.distance(*whole, *joined).max() < 1.0


@every_head
def test_two_antipodes_that_look_the_same_both_get_mass_or_the_head_says_that_it_cannot(name: str) -> None:
    g = torch.Generator().manual_seed(3)
    features = 0.1 * torch.randn(120, WIDTH, generator=g)
    lon = torch.where(torch.arange(120) % 2 == 0, 20.0, -160.0).double().numpy()
    lat = torch.where(torch.arange(120) % 2 == 0, -30.0, 30.0).double().numpy()
    lon, lat = sphere.destination(lon, lat, 7.0 * torch.arange(120).numpy(), 50.0)
    xyz = torch.from_numpy(sphere.to_xyz(lon, lat)).float()
    module = tiny(name)
    module.start(features, xyz)
    learn(module.train(), features, xyz, steps=60)
    with torch.no_grad():
        found = density(module.eval().components(module(0.1 * torch.randn(40, WIDTH, generator=g))))
    both = [found.within([x] * 40, [y] * 40, 1000).mean() for x, y in ((20.0, -30.0), (-160.0, 30.0))]
    if heads.find(name).UNIMODAL:
        assert found.weight.shape[1] == 1
        assert min(both) < 0.25
    else:
        assert min(both) > 0.25


@every_head
def test_refuses_an_unknown_field_and_values_that_make_no_sense(name: str) -> None:
    with pytest.raises(InputError, match="did you mean 'features'"):
        heads.build(name, {"features": 3, "feature": 3})
    with pytest.raises(InputError, match="features"):
        heads.build(name, {"features": "four"})
    with pytest.raises(InputError, match="at least one"):
        heads.build(name, {"features": 0})
    with pytest.raises(InputError, match="features"):
        tiny(name).start(torch.zeros(3, WIDTH + 1), torch.zeros(3, 3))
    with pytest.raises(InputError, match="not finite"):
        tiny(name).start(torch.full((3, WIDTH), torch.nan), torch.ones(3, 3))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("latlon", {"loss": "mse"}),
        ("latlon", {"hidden": 0, "dropout": 0.3}),
        ("cells", {"tau_km": 0.0, "most": 20, "least": 2}),
        ("cells", {"tau_km": 300.0, "levels": 3, "most": 10, "least": 1}),
        ("cells_retrieval", {"tau_km": 75.0, "levels": 2, "most": 10, "least": 1}),
    ],
)
def test_options_learn_too(name: str, config: dict[str, object]) -> None:
    torch.manual_seed(0)
    module = heads.build(name, {"hidden": 32, **config, "features": WIDTH})
    features, xyz = problem()
    module.start(features, xyz)
    before, after = learn(module.train(), features, xyz, steps=60)
    assert after < before - LEARNT
    if name != "latlon":
        assert float(kilometres(module, *problem(n=40, seed=4)).median()) < 200
