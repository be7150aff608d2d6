"""The encoder of ImageNet: windows as wholes, steps one by one, filters by band name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geoml import models
from geoml.engine.importers import IMPORTERS
from geoml.engine.packages import encoder
from geoml.errors import InputError
from geoml.models.lite0 import Lite0Encoder
from geoml.nn.weights.transfer import efficientnet_lite0, first_convolution

SIDE = 16


@pytest.fixture(scope="module")
def module() -> Lite0Encoder:
    torch.manual_seed(0)
    made = models.encoder("lite0", {"bands": 2, "window": SIDE})
    assert isinstance(made, Lite0Encoder)
    return made.eval()


@torch.no_grad()
def test_what_lies_in_a_window_is_the_same_alone_and_no_other_window_changes_it(module: Lite0Encoder) -> None:
    x = torch.randn(2, 4, 3 * SIDE - 5, 2 * SIDE)
    looks = torch.rand(2, 2, *x.shape[-2:]) < 0.7
    x = x * looks.repeat_interleave(2, 1)
    whole = module(x, looks)
    assert whole.shape == (2, module.width, *x.shape[-2:])
    part = (..., slice(SIDE, 2 * SIDE), slice(SIDE, 2 * SIDE))
    assert torch.equal(module(x[part], looks[part]), whole[part])
    changed = x.clone()
    changed[:, :, :SIDE] += 1
    again = module(changed, looks)
    assert torch.equal(again[:, :, SIDE:], whole[:, :, SIDE:])
    assert not torch.equal(again[:, :, :SIDE], whole[:, :, :SIDE])
    one, other = (module(x[n : n + 1], looks[n : n + 1]) for n in (0, 1))
    assert torch.equal(torch.cat([one, other]), whole)


@torch.no_grad()
def test_the_embedding_is_the_mean_of_the_looks_of_a_pixel(module: Lite0Encoder) -> None:
    x = torch.randn(1, 6, SIDE, SIDE)
    looks = torch.ones(1, 3, SIDE, SIDE, dtype=torch.bool)
    looks[0, 1, :4] = False
    looks[0, :, 5, 7] = False
    each = torch.stack([module(x[:, 2 * k : 2 * k + 2], looks[:, k : k + 1]) for k in range(3)])
    found = module(x, looks)
    torch.testing.assert_close(found[..., 6:, :], each.mean(0)[..., 6:, :])
    torch.testing.assert_close(found[..., :4, :], each[[0, 2]].mean(0)[..., :4, :])
    assert not found[..., 5, 7].any()


def test_a_window_that_the_stages_cannot_halve_is_refused() -> None:
    with pytest.raises(InputError, match="window: 20; expected a multiple of 8"):
        models.encoder("lite0", {"bands": 2, "window": 20, "depth": 4})


@torch.no_grad()
def test_a_package_of_imagenet_sees_colours_by_name_and_other_bands_by_their_mean(tmp_path: Path) -> None:
    card = IMPORTERS.find("lite0").convert("", tmp_path / "lite0")
    loaded = encoder.load(tmp_path / "lite0")
    assert (loaded.card, card.level, card.width, card.stride) == (card, "L1C", 80, 64)
    colours = models.encoder("lite0", {"bands": 3})
    assert isinstance(colours, Lite0Encoder)
    efficientnet_lite0(colours.net)
    published = colours.state_dict()[first_convolution(colours)]
    filters = loaded.module.state_dict()[first_convolution(loaded.module)] * (len(card.bands) / 3)
    for place, band in enumerate(card.bands):
        colour = {"red": 0, "green": 1, "blue": 2}.get(band.name)
        expected = published.mean(1) if colour is None else published[:, colour]
        torch.testing.assert_close(filters[:, place], expected)
    rest = [name for name in colours.state_dict() if name != first_convolution(colours)]
    assert all(torch.equal(colours.state_dict()[name], loaded.module.state_dict()[name]) for name in rest)
