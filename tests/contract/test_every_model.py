"""What every file in geoml/models promises; a new file gets these tests without another edit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from geoml import models
from geoml.engine import task as tasks
from geoml.engine.packages import package
from geoml.engine.train.fit import OwnLoss
from geoml.errors import InputError
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.nn.context import asked
from geoml.nn.weights.transfer import first_convolution
from tests.contract.lessons import ClassLesson, Lesson, Loss, lesson_of

NAMES = [n for n in models.names() if set(models.find(n).TASKS) - {"forecast", "point_classes"}]
"""Forecasts have other channels (`test_every_forecast_model`), points no pixels (`test_every_point_model`), and what is
of no task is never trained.
"""
LEARNED = [n for n in NAMES if not models.calibrated(n)]
CHANGE = [n for n in NAMES if "change" in models.find(n).TASKS]
COMPARING = [n for n in LEARNED if "inner" in models.find(n).Config.__dataclass_fields__]
"""Two maps of one date each: no features of one date meet those of the other."""
SIAMESE = [
    n for n in CHANGE if n in LEARNED and n not in COMPARING and "dates" in models.find(n).Config.__dataclass_fields__
]
ENCODERS = [n for n in NAMES if hasattr(models.find(n), "encoder")]

every_model = pytest.mark.parametrize("name", NAMES)
every_learned_model = pytest.mark.parametrize("name", LEARNED)
every_change_model = pytest.mark.parametrize("name", CHANGE)
every_learned_change_model = pytest.mark.parametrize("name", [n for n in CHANGE if n in LEARNED])
every_siamese_model = pytest.mark.parametrize("name", SIAMESE)

Config = dict[str, object]


def dates_of(name: str) -> int:
    """Two where the model knows of dates, else one."""
    return 2 if "dates" in models.find(name).Config.__dataclass_fields__ else 1


def config(name: str, bands: int = 3, classes: int = 3, dates: int | None = None) -> Config:
    given = models.fixed_by_data(name, bands, dates or dates_of(name), channels_of(name, classes))
    return {**models.find(name).TINY, **given}


def classes_of(name: str, wanted: int) -> int:
    """As many as are wanted, or the most that a calibrated model tells apart."""
    return min(wanted, max(models.find(name).Config.class_counts)) if models.calibrated(name) else wanted


def lesson(name: str) -> Lesson:
    return lesson_of(models.find(name).TASKS[0])


def channels_of(name: str, classes: int) -> int:
    """Of raw output, for so many classes or the most that the model tells apart."""
    return lesson(name).channels(classes_of(name, classes))


def tiny(name: str, bands: int = 3, classes: int = 3, seed: int = 0, dates: int | None = None) -> nn.Module:
    torch.manual_seed(seed)
    return models.build(name, config(name, bands, classes, dates))


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def image(name: str, batch: int, height: int, width: int, bands: int = 3, seed: int = 1) -> Tensor:
    """(batch, dates * bands, height, width) for `tiny`."""
    return noise(batch, bands * dates_of(name), height, width, seed=seed)


def context_of(module: nn.Module, x: Tensor, dates: int, seed: int = 1) -> dict[str, Tensor]:
    """What a network asks for beside pixels: every look, months and places by chance."""
    random = torch.Generator().manual_seed(seed)
    batch, _, height, width = x.shape
    known = {
        "looks": torch.ones(batch, dates, height, width, dtype=torch.bool),
        "months": torch.randint(0, 12, (batch, dates), generator=random),
        "place": torch.rand(batch, 2, height, width, generator=random) * 60,
    }
    return {name: known[name] for name in asked(module)}


def trained_a_little(name: str) -> nn.Module:
    """In eval mode, with statistics of real batches in its norms."""
    module = tiny(name).train()
    with torch.no_grad():
        for seed in range(5):
            module(image(name, 2, 64, 64, seed=seed))
    return module.eval()


def learn(name: str, module: nn.Module, x: Tensor, target: Tensor, steps: int, classes: int = 2) -> float:
    """How much is learnt after some steps on one batch."""
    rate = lesson(name).rate
    optimiser = torch.optim.Adam(module.parameters(), lr=rate)
    loss = loss_of(name, module, classes)
    own = isinstance(module, OwnLoss)
    for step in range(steps):
        if own:  # at a constant rate to the end the boxes jump about
            optimiser.param_groups[0]["lr"] = rate * min(1.0, 2.5 * (1 - step / steps))
        optimiser.zero_grad()
        loss(module(x), target).backward()
        optimiser.step()
    if own:  # what it says while it learns is for its loss alone, so its norms have to settle
        with torch.no_grad():
            for _ in range(40):
                module(x)
        module.eval()
    return lesson(name).learnt(module(x).detach(), target)


def loss_of(name: str, module: nn.Module, classes: int) -> Loss:
    """The network's own, or that of its task."""
    return module.loss if isinstance(module, OwnLoss) else lesson(name).loss(classes)


@every_model
def test_says_where_it_comes_from_and_what_it_is_for(name: str) -> None:
    file = models.find(name)
    assert "https://" in (file.__doc__ or "")
    assert set(file.TASKS) <= set(tasks.names())
    assert file.TASKS


@every_model
@pytest.mark.parametrize(("bands", "classes"), [(1, 2), (13, 7)])
def test_takes_any_number_of_bands_and_classes(name: str, bands: int, classes: int) -> None:
    with torch.no_grad():
        y = tiny(name, bands, classes).eval()(image(name, 2, 64, 64, bands))
    assert y.shape == (2, channels_of(name, classes), 64, 64)


@every_model
@pytest.mark.parametrize("size", [(37, 101), (1, 5), (96, 64)])
def test_takes_any_size(name: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        y = tiny(name).eval()(image(name, 1, *size))
    assert y.shape == (1, channels_of(name, 3), *size)
    assert bool(torch.isfinite(y).all())


@every_learned_model
def test_every_weight_gets_a_finite_gradient(name: str) -> None:
    module = tiny(name).train()
    target = lesson(name).target(2, 64, 64, 3)
    x = image(name, 2, 64, 64)
    loss_of(name, module, 3)(module(x, **context_of(module, x, dates_of(name))), target).backward()
    for weight, value in module.named_parameters():
        assert value.grad is not None, f"{weight} does not take part"
        assert bool(torch.isfinite(value.grad).all()), weight


@every_learned_model
def test_same_seed_same_result(name: str) -> None:
    x = image(name, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(tiny(name, seed=3).eval()(x), tiny(name, seed=3).eval()(x))
        assert not torch.equal(tiny(name, seed=3).eval()(x), tiny(name, seed=4).eval()(x))


@every_model
def test_a_sample_does_not_depend_on_its_batch_mates(name: str) -> None:
    module, x = trained_a_little(name), image(name, 3, 64, 64)
    with torch.no_grad():
        together, alone = module(x), torch.cat([module(part) for part in x.split(1)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@every_model
def test_save_and_load_give_the_same_and_chips_give_the_scene(name: str, tmp_path: Path) -> None:
    module = trained_a_little(name)
    card = MapCard(
        name="tiny",
        architecture=name,
        config=config(name),
        bands=tuple(Band(name=b) for b in ("red", "green", "blue")),
        gsd=10.0,
        dates=dates_of(name),
        task=models.find(name).TASKS[0],
        chip_size=64,
        classes=tuple(ClassInfo(value=k, name=f"class {k}", color="#102030") for k in range(classes_of(name, 3))),
    )
    written = package.save(module, card, tmp_path / "tiny")
    loaded = package.load(tmp_path / "tiny")
    assert loaded.card == written
    scene = image(name, 1, 384, 256)
    with torch.no_grad():
        whole = module(scene)
        assert torch.equal(loaded.module(scene), whole)
        if written.radius is not None:  # else chips are blended
            halo = -(-written.radius // written.stride) * written.stride
            start = written.stride * (80 // written.stride + 1)
            chip = module(scene[..., start:, :])
            assert halo < whole.shape[-2] - start, "the halo is too large for this test to say anything"
            torch.testing.assert_close(chip[..., halo:, :], whole[..., start + halo :, :], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [n for n in LEARNED if n not in COMPARING])
def test_can_learn_one_batch_by_heart(name: str) -> None:
    torch.manual_seed(0)
    module = tiny(name, classes=2).train()
    x = image(name, 2, 64, 64)
    target = lesson(name).by_heart(x)
    assert learn(name, module, x, target, steps=80 if isinstance(module, OwnLoss) else 30) > 0.97


@every_model
def test_runs_in_bf16_and_channels_last(name: str) -> None:
    module = trained_a_little(name).to(memory_format=torch.channels_last)
    x = image(name, 1, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        exact = module(x)
        with torch.autocast("cpu", torch.bfloat16):
            coarse = module(x).float()
    assert float((coarse - exact).abs().mean()) < 0.1 * float(exact.std())


@pytest.mark.parametrize("name", [n for n in LEARNED if isinstance(lesson(n), ClassLesson)])
def test_bf16_changes_few_classes(name: str) -> None:
    """With random weights, whose classes lie close together; where maxima were is not decided by a rounding."""
    module, x = trained_a_little(name), image(name, 2, 64, 64)
    with torch.no_grad():
        exact = module(x).argmax(1)
        with torch.autocast("cpu", torch.bfloat16):
            coarse = module(x).argmax(1)
    assert float((coarse != exact).float().mean()) < 0.025


@every_model
def test_refuses_an_unknown_field_and_a_value_of_the_wrong_kind(name: str) -> None:
    with pytest.raises(InputError, match="did you mean 'bands'"):
        models.build(name, {**config(name), "band": 3})
    with pytest.raises(InputError, match="bands"):
        models.build(name, {**config(name), "bands": "four"})
    with pytest.raises(InputError, match="at least one"):
        models.build(name, {**config(name), "bands": 0})


@every_change_model
@pytest.mark.parametrize("changed", [0, 1])
def test_looks_at_every_date(name: str, changed: int) -> None:
    module = tiny(name, dates=2).eval()
    x = noise(1, 6, 64, 64)
    other = x.clone()
    other[:, 3 * changed : 3 * changed + 3] = noise(1, 3, 64, 64, seed=7)
    with torch.no_grad():
        before, after = module(x), module(other)
    assert float((after - before).abs().mean()) > 1e-3 * float(before.std())


def two_patterns() -> tuple[Tensor, Tensor]:
    """A pair (2, 2, 32, 32) of one band each, and what is in it as (2, 2, 32, 32) of 0 and 1."""
    pattern = torch.zeros(2, 2, 32, 32, dtype=torch.int64)
    pattern[:, 0, :16], pattern[:, 1, :, :16] = 1, 1
    return 3.0 * (pattern * 2 - 1) + 0.1 * noise(2, 2, 32, 32), pattern


@every_learned_change_model
def test_can_learn_that_dates_differ_whichever_way(name: str) -> None:
    """The exclusive or of two dates: no sum of one term for each date is that."""
    module = tiny(name, bands=1, classes=2, dates=2).train()
    x, pattern = two_patterns()
    target = (pattern[:, 0] != pattern[:, 1]).long()
    assert learn(name, module, x, target, steps=40) > 0.9


@every_learned_change_model
def test_can_learn_to_tell_gain_from_loss(name: str) -> None:
    module = tiny(name, bands=1, classes=3, dates=2).train()
    x, pattern = two_patterns()
    target = (pattern[:, 1] - pattern[:, 0]) % 3
    assert learn(name, module, x, target, steps=40, classes=3) > 0.9


@every_siamese_model
def test_every_date_goes_through_the_same_encoder(name: str) -> None:
    pair, triple = (tiny(name, bands=4, dates=d).eval() for d in (2, 3))
    encoder = pair.get_submodule("net.encoder")
    assert encoder.state_dict()[first_convolution(encoder)].shape[1] == 4
    count = [sum(p.numel() for p in m.get_submodule("net.encoder").parameters()) for m in (pair, triple)]
    assert count[0] == count[1]
    found: list[Tensor] = []
    encoder.register_forward_hook(lambda _, inputs, out: found.append(out[-1]))
    a, b = noise(1, 4, 64, 64), noise(1, 4, 64, 64, seed=2)
    with torch.no_grad():
        for order in ([a, b], [b, a]):
            pair(torch.cat(order, 1))
    torch.testing.assert_close(found[0], found[1].flip(0))


@every_siamese_model
def test_takes_more_than_two_dates_and_not_one(name: str) -> None:
    with torch.no_grad():
        assert tiny(name, dates=4).eval()(noise(1, 12, 37, 40)).shape == (1, 3, 37, 40)
    with pytest.raises(InputError, match="dates"):
        models.build(name, {**config(name), "dates": 1})


every_encoder = pytest.mark.parametrize("name", ENCODERS)


def encoder_of(name: str, bands: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.encoder(name, {**models.find(name).TINY, "bands": bands}).eval()


@every_encoder
@torch.no_grad()
def test_an_encoder_never_looks_at_a_gap(name: str) -> None:
    """Gaps differ between the pixels of a batch; what stands in them changes nothing, and they change something."""
    module, steps = encoder_of(name), 5
    x = noise(2, 3 * steps, 8, 8)
    context = context_of(module, x, steps)
    looks = torch.rand(2, steps, 8, 8, generator=torch.Generator().manual_seed(3)) < 0.6
    looks[0, :, 0, 0] = False
    hidden = ~looks.repeat_interleave(3, 1)
    found = module(x, **context | {"looks": looks})
    assert found.shape == (2, module.width, 8, 8)
    assert torch.equal(module(x.masked_fill(hidden, 1e6), **context | {"looks": looks}), found)
    assert not found[0, :, 0, 0].any()
    whole = module(x, **context)
    assert float((whole - found).abs().max()) > 1e-3


@every_encoder
@torch.no_grad()
def test_an_encoder_gives_a_pixel_the_same_beside_any_others(name: str) -> None:
    """Byte for byte, in chips that start at multiples of its stride and end anywhere."""
    module, steps = encoder_of(name), 4
    x = noise(1, 3 * steps, 48, 40)
    context = context_of(module, x, steps)
    context["looks"] = torch.rand(1, steps, 48, 40, generator=torch.Generator().manual_seed(4)) < 0.7
    whole = module(x, **context)
    start, end = 4 * module.stride, 8 * module.stride
    part = {k: v[..., start:end, start:end] if v.ndim == 4 else v for k, v in context.items()}
    assert torch.equal(module(x[..., start:end, start:end], **part), whole[..., start:end, start:end])


@every_encoder
def test_an_encoder_takes_no_more_steps_than_it_has_places_for(name: str) -> None:
    module = encoder_of(name)
    with pytest.raises(InputError, match=f"1 to {module.steps} steps"):
        module(noise(1, 3 * (int(module.steps) + 1), 4, 4))
    with pytest.raises(InputError, match="dates: 25"):
        models.build(name, {**config(name), "dates": 25})
    with pytest.raises(InputError, match="did you mean"):
        models.encoder(f"{name}s", {"bands": 3})


@pytest.mark.parametrize("name", [n for n in ENCODERS if "months" in asked(encoder_of(n))])
@torch.no_grad()
def test_months_reach_the_answer_of_an_encoder(name: str) -> None:
    module = encoder_of(name)
    x = noise(1, 6, 8, 8)
    context = context_of(module, x, 2)
    other = context | {"months": (context["months"] + 6) % 12}
    assert float((module(x, **context) - module(x, **other)).abs().max()) > 1e-3
