"""What every file in geoml/models promises; a new file gets these tests without another edit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from geoml import models, tasks
from geoml.engine import package
from geoml.errors import InputError
from geoml.io.card import Band, ClassInfo, ModelCard

pytestmark = pytest.mark.parametrize("name", models.names())

Config = dict[str, object]


def config(name: str, bands: int = 3, classes: int = 3) -> Config:
    return {**models.find(name).TINY, "bands": bands, "classes": classes}


def tiny(name: str, bands: int = 3, classes: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.build(name, config(name, bands, classes))


def image(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained_a_little(name: str) -> nn.Module:
    """In eval mode, with statistics of real batches in its norms."""
    module = tiny(name).train()
    with torch.no_grad():
        for seed in range(5):
            module(image(2, 3, 64, 64, seed=seed))
    return module.eval()


def test_says_where_it_comes_from_and_what_it_is_for(name: str) -> None:
    file = models.find(name)
    assert "https://" in (file.__doc__ or "")
    assert set(file.TASKS) <= set(tasks.names())
    assert file.TASKS


@pytest.mark.parametrize(("bands", "classes"), [(1, 2), (13, 7)])
def test_takes_any_number_of_bands_and_classes(name: str, bands: int, classes: int) -> None:
    with torch.no_grad():
        assert tiny(name, bands, classes).eval()(image(2, bands, 64, 64)).shape == (2, classes, 64, 64)


@pytest.mark.parametrize("size", [(37, 101), (1, 5), (96, 64)])
def test_takes_any_size(name: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        y = tiny(name).eval()(image(1, 3, *size))
    assert y.shape == (1, 3, *size)
    assert bool(torch.isfinite(y).all())


def test_every_weight_gets_a_finite_gradient(name: str) -> None:
    module = tiny(name).train()
    target = torch.randint(0, 3, (2, 64, 64), generator=torch.Generator().manual_seed(2))
    tasks.find("segmentation").Task(3).loss(module(image(2, 3, 64, 64)), target).backward()
    for weight, value in module.named_parameters():
        assert value.grad is not None, f"{weight} does not take part"
        assert bool(torch.isfinite(value.grad).all()), weight


def test_same_seed_same_result(name: str) -> None:
    x = image(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(tiny(name, seed=3).eval()(x), tiny(name, seed=3).eval()(x))
        assert not torch.equal(tiny(name, seed=3).eval()(x), tiny(name, seed=4).eval()(x))


def test_a_sample_does_not_depend_on_its_batch_mates(name: str) -> None:
    module, x = trained_a_little(name), image(3, 3, 64, 64)
    with torch.no_grad():
        together, alone = module(x), torch.cat([module(part) for part in x.split(1)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_save_and_load_give_the_same_and_chips_give_the_scene(name: str, tmp_path: Path) -> None:
    module = trained_a_little(name)
    card = ModelCard(
        name="tiny",
        architecture=name,
        config=config(name),
        bands=tuple(Band(name=b) for b in ("red", "green", "blue")),
        gsd=10.0,
        chip_size=64,
        classes=tuple(ClassInfo(value=k, name=f"class {k}", color="#102030") for k in range(3)),
    )
    written = package.save(module, card, tmp_path / "tiny")
    loaded = package.load(tmp_path / "tiny")
    assert loaded.card == written
    scene = image(1, 3, 384, 256)
    with torch.no_grad():
        whole = module(scene)
        assert torch.equal(loaded.module(scene), whole)
        if written.radius is not None:  # else chips are blended
            halo = -(-written.radius // written.stride) * written.stride
            start = written.stride * (80 // written.stride + 1)
            chip = module(scene[..., start:, :])
            assert halo < whole.shape[-2] - start, "the halo is too large for this test to say anything"
            torch.testing.assert_close(chip[..., halo:, :], whole[..., start + halo :, :], atol=1e-4, rtol=0)


def test_can_learn_one_batch_by_heart(name: str) -> None:
    torch.manual_seed(0)
    module = tiny(name, classes=2).train()
    x = image(2, 3, 64, 64)
    target = torch.zeros(2, 64, 64, dtype=torch.int64)
    target[0, :, 32:] = 1
    target[1, :32] = 1
    x[:, 0] += 3 * (target * 2 - 1)
    task = tasks.find("segmentation").Task(2)
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        loss = task.loss(module(x), target)
        loss.backward()
        optimiser.step()
    assert float((module(x).argmax(1) == target).float().mean()) > 0.97


def test_runs_in_bf16_and_channels_last(name: str) -> None:
    module = trained_a_little(name).to(memory_format=torch.channels_last)
    x = image(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        exact = module(x)
        with torch.autocast("cpu", torch.bfloat16):
            coarse = module(x).float()
    assert float((coarse - exact).abs().mean()) < 0.1 * float(exact.std())


def test_refuses_an_unknown_field_and_a_value_of_the_wrong_kind(name: str) -> None:
    with pytest.raises(InputError, match="did you mean 'bands'"):
        models.build(name, {**config(name), "band": 3})
    with pytest.raises(InputError, match="bands"):
        models.build(name, {**config(name), "bands": "four"})
    with pytest.raises(InputError, match="at least one"):
        models.build(name, {**config(name), "bands": 0})
