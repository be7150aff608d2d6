"""What every file in geoml/models whose task is forecast promises; a new file gets these tests without another edit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geoml import models
from geoml.engine.packages import weights
from geoml.errors import InputError
from geoml.nn.context import asked
from geoml.nn.forecast.estimated import EstimatedForecast
from geoml.nn.forecast.quantiles import pinball_loss

NAMES = [n for n in models.names() if "forecast" in models.find(n).TASKS]
LEARNED = [n for n in NAMES if not isinstance(models.build(n, models.find(n).TINY), EstimatedForecast)]
SIMPLE = [n for n in NAMES if n not in LEARNED]

every_model = pytest.mark.parametrize("name", NAMES)
every_learned_model = pytest.mark.parametrize("name", LEARNED)
every_simple_model = pytest.mark.parametrize("name", SIMPLE)

PLACES = 5


def tiny(name: str, seed: int = 0, **changed: object) -> nn.Module:
    torch.manual_seed(seed)
    return models.build(name, {**models.find(name).TINY, **changed})


def config_of(name: str) -> Any:
    return models.configure(name, models.find(name).TINY)


def given(
    name: str, module: nn.Module, batch: int, height: int = 1, width: int = PLACES, seed: int = 1, share: float = 0.8
) -> list[Tensor]:
    """Arguments of ``forward``: what is not known is 0 in the channels of the history."""
    random = torch.Generator().manual_seed(seed)
    layout = config_of(name).layout
    x = torch.randn(batch, layout.channels, height, width, generator=random)
    looks = torch.rand(batch, layout.history * layout.variables, height, width, generator=random) < share
    x[:, : looks.shape[1]] = torch.where(looks, x[:, : looks.shape[1]], 0.0)
    place = 40 + torch.rand(batch, 2, height, width, generator=random)
    known = {"looks": looks, "place": place}
    return [x, *(known[n] for n in ("looks", "place") if n in asked(module))]


def target(name: str, batch: int, height: int = 1, width: int = PLACES) -> Tensor:
    return torch.randn(batch, len(config_of(name).leads), height, width, generator=torch.Generator().manual_seed(2))


def estimated(name: str, module: nn.Module) -> nn.Module:
    """With what a simple method takes from training windows."""
    if isinstance(module, EstimatedForecast):
        x = given(name, module, 60)
        module.estimate(x[0], x[1], target(name, 60))
    return module.eval()


@every_model
def test_says_where_it_comes_from_and_what_it_is_for(name: str) -> None:
    file = models.find(name)
    assert "https://" in (file.__doc__ or "")
    assert file.TASKS == ("forecast",)


@every_model
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 12)])
@torch.no_grad()
def test_answers_every_lead_and_level_at_any_size(name: str, size: tuple[int, int]) -> None:
    module = estimated(name, tiny(name))
    y = module(*given(name, module, 2, *size))
    assert y.shape == (2, config_of(name).outputs, *size)


@every_model
@torch.no_grad()
def test_quantiles_never_cross(name: str) -> None:
    config = config_of(name)
    module = estimated(name, tiny(name))
    if name in LEARNED:  # a fresh one says little: weights that say more
        for value in module.parameters():
            value.copy_(value + 0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(4)))
    y = module(*given(name, module, 3)).unflatten(1, (len(config.leads), len(config.levels)))
    known = torch.isfinite(y)
    assert bool((y.diff(dim=2)[known[:, :, 1:]] >= -1e-6).all())


@every_model
@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch_mates(name: str) -> None:
    module = estimated(name, tiny(name))
    x = given(name, module, 3)
    together = module(*x)
    alone = torch.cat([module(*(part[k : k + 1] for part in x)) for k in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4, equal_nan=True)


@every_model
@torch.no_grad()
def test_save_and_load_give_the_same(name: str, tmp_path: Path) -> None:
    module = estimated(name, tiny(name))
    x = given(name, module, 2)
    content = weights.packed(module.state_dict(), name)
    again = weights.fill(tiny(name, seed=9), weights.read_tensors(content, tmp_path / "w.safetensors"), tmp_path)
    torch.testing.assert_close(again(*x), module(*x), atol=0, rtol=0, equal_nan=True)


@every_model
def test_refuses_another_number_of_channels_and_unknown_fields(name: str) -> None:
    module = tiny(name)
    x = given(name, module, 1)
    with pytest.raises(InputError, match="channels"):
        module(torch.cat([x[0], x[0][:, :1]], 1), *x[1:])
    with pytest.raises(InputError, match="did you mean 'history'"):
        models.build(name, {**models.find(name).TINY, "histori": 3})
    for wrong in ({"leads": (3, 1)}, {"leads": ()}, {"history": 0}, {"levels": (0.1, 0.5)}):
        with pytest.raises(InputError):
            models.build(name, {**models.find(name).TINY, **wrong})
    assert replace(config_of(name), history=5).layout.history == 5


@every_learned_model
def test_every_weight_gets_a_finite_gradient(name: str) -> None:
    config = config_of(name)
    module = tiny(name).train()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    x, truth = given(name, module, 8), target(name, 8)
    truth[0, 0] = float("nan")
    for _ in range(3):  # a head that begins with zeros keeps the first gradient to itself
        optimiser.zero_grad()
        pinball_loss(module(*x), truth, config.levels).backward()
        optimiser.step()
    for weight, value in module.named_parameters():
        assert value.grad is not None, f"{weight} does not take part"
        assert bool(torch.isfinite(value.grad).all()), weight
        assert bool(value.grad.any()), f"{weight} does nothing"


@every_learned_model
def test_can_learn_one_batch_by_heart(name: str) -> None:
    config = config_of(name)
    module = tiny(name).train()
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-2)
    x = given(name, module, 4, share=1.0)
    window = config.layout.split(x[0], x[1] if "looks" in asked(module) else None)
    last = window.last()[0]
    base = last if window.guess is None else window.guess[:, 0]
    truth = torch.stack([base + 1 + 0.5 * torch.tanh(last) for _ in config.leads], 1)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = pinball_loss(module(*x), truth, config.levels)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.4 * losses[0]


@every_simple_model
@torch.no_grad()
def test_a_simple_method_is_estimated_and_its_quantiles_hold(name: str) -> None:
    """On what it was estimated on, as many are below each quantile as it says."""
    config = config_of(name)
    module = tiny(name)
    assert isinstance(module, EstimatedForecast)
    x = given(name, module, 400)
    truth = target(name, 400)
    module.estimate(x[0], x[1], truth)
    y = module(*x).unflatten(1, (len(config.leads), len(config.levels)))
    share = (truth[:, :, None] <= y).float().mean(dim=(0, 3, 4))
    outer = torch.tensor(config.levels)[[0, -1]].expand(len(config.leads), -1)
    torch.testing.assert_close(share[:, [0, -1]], outer, atol=0.02, rtol=0)
    assert not list(module.parameters())
