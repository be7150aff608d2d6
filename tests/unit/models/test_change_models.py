"""Models that know of dates: how they fuse them, and that cutting and folding do not change what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from geoml import models
from geoml.engine.packages.measure import measure
from geoml.errors import InputError
from geoml.nn.fusion import fuse_batch_norms
from geoml.nn.siamese import apart, concatenated, differences, stacked

CONVOLUTIONAL: dict[str, tuple[str, dict[str, Any]]] = {
    "difference": ("siamese_unet", {}),
    "concatenation": ("siamese_unet", {"fusion": "concatenation"}),
    "three dates": ("siamese_unet", {"dates": 3}),
    "changenet": ("changenet", {}),
}


def made(name: str, **options: Any) -> nn.Module:
    """In eval mode, with norms that do something."""
    torch.manual_seed(0)
    config = {**models.find(name).TINY, "bands": 2, "dates": 2, "classes": 2, **options}
    module = models.build(name, config)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.6, 1.5)
            nn.init.uniform_(layer.weight, 0.6, 1.4)
            nn.init.normal_(layer.bias, std=0.2)
    return module.eval()


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_dates_come_apart_as_they_were_put_together() -> None:
    dates = [noise(2, 5, 3, 4, seed=s) for s in range(3)]
    x = torch.cat(dates, 1)
    through = stacked(x, 3)
    assert through.shape == (6, 5, 3, 4)
    assert all(torch.equal(a, b) for a, b in zip(apart(through, 3), dates, strict=True))
    assert torch.equal(concatenated(through, 3), x)


def test_each_date_is_compared_with_the_next() -> None:
    parts = [torch.full((1, 2, 1, 1), v) for v in (1.0, 4.0, 2.0)]
    assert differences(parts, signed=True).flatten().tolist() == [3, 3, -2, -2]
    assert differences(parts, signed=False).flatten().tolist() == [3, 3, 2, 2]


def test_nothing_of_equal_dates_is_left_in_their_difference() -> None:
    module = made("siamese_unet")
    one, other = noise(1, 2, 64, 64), noise(1, 2, 64, 64, seed=2)
    with torch.no_grad():
        a, b, changed = (module(torch.cat(pair, 1)) for pair in ((one, one), (other, other), (one, other)))
    torch.testing.assert_close(a, b)
    assert not torch.allclose(a, changed, atol=1e-2)


@pytest.mark.parametrize(("classes", "signed", "symmetric"), [(2, None, True), (3, None, False), (2, True, False)])
def test_absolute_differences_do_not_know_which_date_is_first(
    classes: int, signed: bool | None, symmetric: bool
) -> None:
    module = made("siamese_unet", classes=classes, signed=signed)
    a, b = noise(1, 2, 64, 64), noise(1, 2, 64, 64, seed=2)
    with torch.no_grad():
        there, back = module(torch.cat([a, b], 1)), module(torch.cat([b, a], 1))
    assert torch.allclose(there, back, atol=1e-5) is symmetric


@pytest.mark.parametrize(("hidden", "is_sum"), [(0, True), (16, False)])
def test_only_the_changenet_of_the_paper_is_a_sum_over_dates(hidden: int, is_sum: bool) -> None:
    module = made("changenet", hidden=hidden)
    a, b, c, d = (noise(1, 2, 64, 64, seed=s) for s in range(4))
    with torch.no_grad():
        ab, cd, ad, cb = (module(torch.cat(pair, 1)) for pair in ((a, b), (c, d), (a, d), (c, b)))
    assert torch.allclose(ab + cd, ad + cb, atol=1e-4) is is_sum


def test_changenet_may_narrow_before_it_enlarges() -> None:
    """As in the paper: every date enlarged first, then joined and classified."""
    module: Any = made("changenet", depths=(2, 3))
    x = noise(2, 4, 64, 48)
    with torch.no_grad():
        logits: Tensor | float = 0.0
        found = [module.net(date) for date in x.chunk(2, 1)]
        for k in range(2):
            dates = [F.interpolate(module.narrow[k](f[k]), size=(64, 48), mode="bilinear") for f in found]
            logits = logits + module.heads[k](module.join[k](torch.cat(dates, 1)))
        torch.testing.assert_close(module(x), logits, atol=1e-5, rtol=1e-5)


def test_a_token_of_bit_is_a_weighted_mean_of_the_whole_chip() -> None:
    module: Any = made("bit", tokens=3)
    y = noise(4, 16, 5, 7)
    with torch.no_grad():
        tokens = module.tokens(y)
        nn.init.zeros_(module.attend.weight)
        plain = module.tokens(y)
    assert tokens.shape == (4, 3, 16)
    torch.testing.assert_close(plain, y.mean((2, 3))[:, None].expand(4, 3, 16))
    assert float(tokens.max()) < float(y.max())


def test_tokens_of_bit_meet_and_pixels_ask_those_of_their_date() -> None:
    module: Any = made("bit")
    tokens = noise(4, 4, 16)
    other = tokens.clone()
    other[1] = noise(4, 16, seed=3)  # second date of the first sample
    y = noise(4, 16, 4, 4)
    with torch.no_grad():
        moved = (module.mix(other) - module.mix(tokens)).abs().amax((1, 2)) > 1e-6
        asked = (module.refine(y, other) - module.refine(y, tokens)).abs().amax((1, 2, 3)) > 1e-6
    assert moved.tolist() == [True, True, False, False]
    assert asked.tolist() == [False, True, False, False]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_chips_joined_are_the_scene(name: str) -> None:
    architecture, options = CONVOLUTIONAL[name]
    module = made(architecture, **options)
    channels = 2 * options.get("dates", 2)
    sight = measure(module, channels, int(module.stride))  # type: ignore[arg-type]
    assert sight.radius is not None
    halo = -(-sight.radius // sight.stride) * sight.stride
    scene = noise(1, channels, 2 * halo + 128, 2 * halo + 112)
    height, width = scene.shape[-2:]
    with torch.no_grad():
        whole = module(scene)
        joined = torch.full_like(whole, torch.nan)
        largest = 0
        for y in range(0, height, 96):
            for x in range(0, width, 80):
                y0, x0, y1, x1 = max(y - halo, 0), max(x - halo, 0), y + 96 + halo, x + 80 + halo
                part = module(scene[..., y0:y1, x0:x1])
                largest = max(largest, part.shape[-2])
                joined[..., y : y + 96, x : x + 80] = part[..., y - y0 : y - y0 + 96, x - x0 : x - x0 + 80]
    assert largest < height, "one chip held it all"
    torch.testing.assert_close(joined, whole, atol=1e-4 * float(whole.std()), rtol=0)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_bit_is_known_to_see_the_whole_chip(classes: int, seed: int) -> None:
    torch.manual_seed(seed)
    config = {**models.find("bit").TINY, "bands": 2, "classes": classes}
    assert measure(models.build("bit", config).eval(), 4, 8, sizes=(256,)).radius is None


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, "bit"])
def test_folds_wholly(name: str) -> None:
    architecture, options = CONVOLUTIONAL.get(name, (name, {}))
    module = made(architecture, **options)
    channels = 2 * options.get("dates", 2)
    out = fuse_batch_norms(module, noise(1, channels, 64, 64))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in out.modules())
    x = noise(2, channels, 40, 64, seed=5)
    with torch.inference_mode():
        expected = module(x)
        assert (out(x) - expected).abs().max() <= 1e-4 * expected.abs().max()


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_one_difference_costs_nothing_over_a_unet_and_more_dates_only_decoder() -> None:
    options = {"encoder": "resnet18", "depth": 3, "decoder_channels": (16, 16, 8)}
    unet = models.build("unet", {"bands": 2, "classes": 2, **options})
    pair = made("siamese_unet")
    assert {k: v.shape for k, v in pair.state_dict().items()} == {k: v.shape for k, v in unet.state_dict().items()}
    three = made("siamese_unet", dates=3)
    # the first convolution of each block sees every channel of the encoder twice
    assert parameters(three) - parameters(pair) == 9 * ((128 + 64) * 16 + 64 * 16)


def test_the_transformer_of_bit_is_small_beside_its_encoder() -> None:
    module = models.build("bit", {"bands": 3, "classes": 2})
    assert not any("layer4" in name for name in module.state_dict())
    assert parameters(module) < 1.1 * parameters(module.get_submodule("net"))


def test_starts_from_a_model_of_one_date(tmp_path: Path) -> None:
    unet = models.build("unet", {**models.find("unet").TINY, "bands": 2, "classes": 5})
    save_file(unet.state_dict(), tmp_path / "a.safetensors")
    theirs = unet.state_dict()
    for name in ("siamese_unet", "changenet", "bit"):
        config = {**models.find(name).TINY, "bands": 2, "classes": 2}
        ours = models.build(name, {**config, "encoder_weights": str(tmp_path / "a.safetensors")}).state_dict()
        encoder = [k for k in ours if k.startswith("net.encoder.")]
        assert encoder
        assert all(torch.equal(ours[k], theirs[k]) for k in encoder)


@pytest.mark.parametrize(
    ("architecture", "wrong", "message"),
    [
        ("siamese_unet", {"dates": 1}, "dates"),
        ("siamese_unet", {"depth": 2}, "depth"),
        ("siamese_unet", {"fusion": "product"}, "fusion"),
        ("siamese_unet", {"depth": 3, "decoder_channels": [8, 8]}, "decoder_channels"),
        ("siamese_unet", {"encoder": "resnet81"}, "did you mean 'resnet18'"),
        ("changenet", {"depths": [0, 3]}, "depths"),
        ("changenet", {"depths": [3, 3]}, "once"),
        ("changenet", {"hidden": -1}, "hidden"),
        ("changenet", {"encoder": "mit_b0", "depths": [1, 2]}, "no features"),
        ("bit", {"depth": 2}, "depth"),
        ("bit", {"tokens": 0}, "tokens"),
        ("bit", {"encoder": "vgg11"}, "does not fit"),
    ],
)
def test_a_wrong_value_is_named(architecture: str, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        models.build(architecture, {"bands": 3, "classes": 2, **wrong})
