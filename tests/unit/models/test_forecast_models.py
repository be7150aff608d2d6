"""What single models of forecasts say, beside other programs and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from geoml import models
from geoml.errors import InputError
from geoml.models.graph import GraphForecast
from geoml.models.ridge import RidgeForecast
from geoml.models.tft import TemporalFusion
from geoml.nn.forecast.estimated import EstimatedForecast
from geoml.nn.forecast.layout import SAID


def estimated(name: str, x: torch.Tensor, target: torch.Tensor, **config: object) -> EstimatedForecast:
    module = models.build(name, config)
    assert isinstance(module, EstimatedForecast)
    module.estimate(x, None, target)
    return module


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_ridge_has_the_weights_of_scikit_learn() -> None:
    """With lags of the place itself and of all others, each place with weights of its own."""
    x, places, history = noise(300, 4, 1, 3), 3, 4
    target = noise(300, 1, 1, 3, seed=1) + x[:, 3:4].roll(1, 3)
    target[::9] = float("nan")
    module = estimated("ridge", x, target, history=history, leads=(1,), places=places, recent=2, penalty=0.02)
    assert isinstance(module, RidgeForecast)
    known = torch.isfinite(target[:, 0, 0, 0]).numpy()
    for place in range(places):
        lags = torch.cat([x[:, :, 0, place], x[:, -2:, 0].flatten(1)], 1).numpy().astype(np.float64)
        theirs = Ridge(alpha=0.02 * known.sum()).fit(lags[known], target[known, 0, 0, place].numpy())
        said = module.centre(module.config.layout.split(x))[:, 0, 0, place]
        np.testing.assert_allclose(said, theirs.predict(lags), atol=1e-4)
    with pytest.raises(InputError, match="places: 2; the regression has weights for 3"):
        module(x[..., :2])


def test_the_anomaly_is_damped_as_least_squares_say() -> None:
    """An autoregression of first order around a climatology of 5: phi of lead k is that of one step to the power k."""
    random = np.random.default_rng(0)
    series = np.zeros(4000)
    for t in range(1, len(series)):
        series[t] = 0.8 * series[t - 1] + random.normal()
    at = np.arange(2, len(series) - 4)
    steps = np.stack([series[at - 1] + 5, series[at] + 5, *[np.full(len(at), 5.0)] * 4], 1)
    target = torch.from_numpy(np.stack([series[at + 1] + 5, series[at + 3] + 5], 1))[:, :, None, None].float()
    x = torch.from_numpy(steps)[:, :, None, None].float()
    module = estimated("damped", x, target, history=2, leads=(1, 3), background=True)
    phi = [float(v) for v in module.phi]  # type: ignore[union-attr, arg-type]
    assert phi == pytest.approx([0.8, 0.8**3], abs=0.05)
    assert phi[0] == pytest.approx(float(np.dot(series[at], series[at + 1]) / np.dot(series[at], series[at])), abs=1e-5)
    for name in ("damped", "climatology"):
        with pytest.raises(InputError, match="background"):
            models.build(name, {"history": 2, "leads": (1,)})


def test_by_distance_phi_is_of_age_and_lead_and_nothing_is_said_of_what_is_not_known() -> None:
    """An autoregression around 3, seen once, 0 to 15 steps ago: of it 0.95 to the power of age and lead is left."""
    random = np.random.default_rng(0)
    count, leads = 40_000, (1, 8)
    age = random.integers(0, 16, count)
    seen = random.normal(size=count)
    distance = age[:, None] + np.array(leads)
    left = 0.95**distance
    later = left * seen[:, None] + np.sqrt(1 - left**2) * random.normal(size=(count, 2))
    channels = [seen + 3, age, np.full(count, 3.0), np.full(count, 3.0), np.full(count, 3.0)]
    x = torch.from_numpy(np.stack(channels, 1)).float()[:, :, None, None]
    target = torch.from_numpy(later + 3).float()[:, :, None, None]
    module = estimated("damped", x, target, history=1, aged=16, leads=leads, background=True, levels=(0.1, 0.5, 0.9))
    phi = module.phi
    assert isinstance(phi, torch.Tensor)
    for knot in (1, 2, 3, 4):
        assert float(phi[knot]) == pytest.approx(0.95 ** (2**knot), abs=0.05)
    asked = torch.tensor([5.0, 4.0, 3.0, 3.0, 3.0])[None, :, None, None].repeat(4, 1, 1, 1)
    asked[3, 1] = 90
    looks = torch.ones(4, 5, 1, 1, dtype=torch.bool)
    looks[1, :3], looks[2, 4] = False, False
    said = module(asked, looks)[:, :, 0, 0]
    assert said.shape == (4, 7), "two leads of three levels, and the age"
    assert said[0, 1].item() == pytest.approx(3 + 2 * 0.95**5, abs=0.06)
    wide = 2 * 1.2816 * (1 - 0.95**10) ** 0.5
    assert (said[0, 2] - said[0, 0]).item() == pytest.approx(wide, rel=0.15)
    assert bool((said[1] < SAID).all()), "never known"
    assert bool((said[2, 3:6] < SAID).all()), "no climatology at the second lead"
    assert said[2, 6].item() == 4
    assert bool((said[3, :6] < SAID).all()), "older than anything in training"
    with pytest.raises(InputError, match="aged: 4; expected 0"):
        models.build("damped", {"history": 4, "aged": 4, "leads": (1,), "background": True})


def test_persistence_is_the_last_known_value_or_that_of_a_period_before() -> None:
    x = torch.arange(48.0)[None, :, None, None].expand(2, -1, 1, 2).clone()
    looks = torch.ones(2, 48, 1, 2, dtype=torch.bool)
    looks[1, 46:] = False
    module = models.build("persistence", {"history": 48, "leads": (1, 24, 30), "levels": (0.5,)})
    assert module(x, looks)[:, :, 0, 0].tolist() == [[47.0] * 3, [45.0] * 3]
    module = models.build("persistence", {"history": 48, "leads": (1, 24, 30), "levels": (0.5,), "period": 24})
    assert module(x, looks)[0, :, 0, 0].tolist() == [24.0, 47.0, 29.0]
    assert module(x, looks)[1, :, 0, 0].tolist() == [24.0, 45.0, 29.0]
    with pytest.raises(InputError, match="period: 49"):
        models.build("persistence", {"history": 48, "leads": (1,), "period": 49})


def test_near_places_are_heard_more_and_a_station_elsewhere_changes_its_neighbours() -> None:
    torch.manual_seed(0)
    module = models.build("graph", {"history": 3, "leads": (1,), "hidden": 8, "places": 3, "dropout": 0.0}).eval()
    assert isinstance(module, GraphForecast)
    place = torch.tensor([[116.0, 116.1, 117.0], [40.0, 40.0, 40.0]])[None, :, None]
    x = noise(1, 3, 1, 3)
    near, learnt = (a.detach() for a in module.adjacency(x, place))
    torch.testing.assert_close(near.sum(2), torch.ones(1, 3))
    torch.testing.assert_close(learnt.sum(2), torch.ones(1, 3))
    assert float(near[0, 0, 0]) > float(near[0, 0, 1]) > float(near[0, 0, 2])
    with torch.no_grad():
        module.head[-1].weight.normal_()  # type: ignore[operator, union-attr]
        other = x.clone()
        other[..., 1] += 1
        assert float((module(x, place=place) - module(other, place=place))[..., 0].abs().max()) > 1e-4
    with pytest.raises(InputError, match="places: 2"):
        module(x[..., :2])


def test_a_new_network_says_the_guess_in_its_median() -> None:
    for name, heads in (("graph", {}), ("tft", {"heads": 2})):
        module = models.build(name, {"history": 3, "leads": (1, 2), "guess": True, "hidden": 8, **heads}).eval()
        x = noise(2, 5, 1, 4)
        said = torch.unflatten(module(x), 1, (2, 7))
        torch.testing.assert_close(said[:, :, 3], x[:, 3:5])


def test_the_transformer_looks_at_no_lead_after_its_own() -> None:
    torch.manual_seed(0)
    module = models.build(
        "tft", {"history": 5, "leads": (1, 2, 4), "variables": 2, "futures": 1, "hidden": 8, "heads": 2}
    )
    assert isinstance(module, TemporalFusion)
    module.eval()
    x = noise(6, module.config.layout.channels, 1, 3)
    weights, attention = module.explain(x)
    assert weights.shape == (2,)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(attention.sum(1), torch.ones(3))
    later = torch.arange(8) > torch.arange(5, 8)[:, None]
    assert not attention[later].any()
    with torch.no_grad():
        module.head.weight.normal_()
        other = x.clone()
        other[:, -1] += 1  # known in advance of the last lead alone
        change = torch.unflatten(module(x) - module(other), 1, (3, 7)).abs().amax((0, 2, 3, 4))
    assert float(change[:2].max()) < 1e-6
    assert float(change[2]) > 1e-4


def test_what_windows_share_is_selected_once_and_the_answer_is_that_of_each_alone() -> None:
    """Windows that slide along one series, by one step and by two; shuffled ones are answered as they are."""
    torch.manual_seed(0)
    module = models.build("tft", {"history": 6, "leads": (1, 2), "places": 3, "hidden": 8, "heads": 2}).eval()
    assert isinstance(module, TemporalFusion)
    seen: list[int] = []
    module.past.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[0] * given[0].shape[1]))
    series = noise(3, 20)
    for at, steps in ((range(10), 15), (range(0, 10, 2), 14), ((4, 0, 7), 18)):
        x = torch.stack([series[:, k : k + 6].T for k in at])[:, :, None]
        with torch.no_grad():
            module.head.weight.normal_()
            together = module(x)
            assert seen.pop() == 3 * steps
            alone = torch.cat([module(x[k : k + 1]) for k in range(len(at))])
        torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_maps_that_follow_each_other_are_joined_without_another_answer() -> None:
    """In training the network takes them one after the other, with what is dropped in between: here nothing."""
    torch.manual_seed(0)
    module = models.build(
        "tft", {"history": 6, "leads": (1, 2), "variables": 2, "hidden": 8, "heads": 2, "dropout": 0.0}
    )
    with torch.no_grad():
        module.head.weight.normal_()  # type: ignore[operator, union-attr]
        x = noise(5, 12, 1, 3)
        torch.testing.assert_close(module.train()(x), module.eval()(x), atol=1e-6, rtol=1e-5)


def test_a_blend_takes_the_forecast_that_is_right_and_is_no_worse_than_any_on_other_windows() -> None:
    """An oscillation that the lags tell, and nothing else; and a period that comes again in noise."""
    random = np.random.default_rng(0)

    def windows(series: np.ndarray, at: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        past = np.stack([series[at - k] for k in range(7, -1, -1)] + [np.zeros(len(at))] * 9, 1)
        return torch.from_numpy(past).float()[:, :, None, None], torch.from_numpy(series[at + 3]).float()[
            :, None, None, None
        ]

    def shares(series: np.ndarray) -> list[float]:
        x, target = windows(series, np.arange(8, 1500))
        module = estimated("blend", x, target, history=8, leads=(3,), background=True, period=8)
        other, truth = windows(series, np.arange(1500, 1900))
        split = module.config.layout.split(other)
        error = (module.centre(split)[:, 0] - truth[:, 0]).square().mean()
        each = (module.simple(split)[:, 0] - truth).square().mean((0, 2, 3))  # type: ignore[operator]
        assert error < 1.05 * each.min()
        return [float(v) for v in module.shares[0]]  # type: ignore[index, union-attr]

    told = np.zeros(2000)
    for t in range(2, 2000):
        told[t] = 1.6 * told[t - 1] - 0.95 * told[t - 2] + random.normal(0, 0.1)
    assert shares(told)[4] > 0.9
    again = np.tile(random.normal(0, 1, 8), 250) + random.normal(0, 0.1, 2000)
    found = shares(again)
    assert sum(found) == pytest.approx(1)
    assert found[1] + found[4] > 0.95
