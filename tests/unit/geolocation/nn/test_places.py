"""Features of places, and the other looks that train them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoml.geolocation.locate import locator
from geoml.geolocation.nn import places
from geoml.geolocation.training import photometric
from geoml.geolocation.training.contrastive import Embedder


@pytest.fixture(scope="module")
def net() -> places.Places:
    torch.manual_seed(0)
    return places.Places(project=False).eval()


def test_quarters_of_a_picture_are_features_of_their_own(net: places.Places) -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, scales = net(x), net.encoder(x)
    assert found.shape == (2, net.features)
    assert net.features == sum(s.shape[1] for s in scales) * 5
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    start = 0
    for scale in scales:
        cubes = scale.clamp_min(1e-6).numpy().astype(np.float64) ** 3
        channels, half = scale.shape[1], scale.shape[2] // 2
        whole = np.cbrt(cubes.mean((2, 3)))
        quarters = np.cbrt(cubes.reshape(2, channels, 2, half, 2, half).mean((3, 5))).reshape(2, -1)
        for wanted in (whole, quarters):
            wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
            part = found[:, start : start + wanted.shape[1]].numpy()
            np.testing.assert_allclose(part / np.linalg.norm(part, axis=1, keepdims=True), wanted, atol=1e-5)
            start += wanted.shape[1]
    assert start == net.features


def test_a_backbone_by_name_gives_unit_vectors_in_half_precision_too() -> None:
    backbone = locator.build_backbone(places.NAME)
    assert (backbone.features, backbone.size) == (places.WIDTH + 2160, places.SIDE)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        full = backbone.eval()(x)
        half = backbone.to(torch.bfloat16)(x.bfloat16()).float()
    torch.testing.assert_close(full.norm(dim=1), torch.ones(2))
    assert (full * half).sum(1).min() > 0.99


def test_a_cosine_is_a_weighed_mean_of_what_was_trained_and_what_was_kept(net: places.Places) -> None:
    torch.manual_seed(1)
    own = places.Places().eval()
    x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        alone, frozen = own(x), net(x)
        own.keep(net)
        both = own(x)
    assert both.shape == (3, own.features)
    wanted = 0.1 * alone @ alone.T + 0.9 * frozen @ frozen.T
    torch.testing.assert_close(both @ both.T, wanted, atol=1e-5, rtol=0)


def test_the_embedder_normalises_by_itself() -> None:
    net, model = places.Places().eval(), Embedder().eval()
    model.load_state_dict(net.state_dict(), strict=False)
    pixels = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    with torch.inference_mode():
        wanted = net(places.build().normalised(pixels))
        torch.testing.assert_close(model(pixels.float() / 255), wanted, atol=1e-5, rtol=0)


def test_looks_leave_the_ground_where_it_is() -> None:
    edges = torch.zeros(16, 3, 64, 64)
    edges[:, :, 20:44, 20:44] = 0.6
    x = 0.2 + edges
    rng = torch.Generator().manual_seed(3)
    torch.testing.assert_close(photometric.augment(x, rng, 0.0), x)
    seen = photometric.augment(x, rng, 1.0)
    assert seen.shape == x.shape
    assert (seen >= 0).all()
    assert (seen <= 1).all()
    assert (seen - x).abs().mean((1, 2, 3)).min() > 0.01
    steps = (seen[:, :, 1:] - seen[:, :, :-1]).abs().sum(1)[..., 24:40].mean(-1)
    assert (steps[:, [19, 43]].mean(1) > 2 * steps.median(1).values).float().mean() >= 0.7
    again = photometric.augment(x, torch.Generator().manual_seed(4), 1.0)
    assert torch.equal(again, photometric.augment(x, torch.Generator().manual_seed(4), 1.0))
    assert not torch.equal(again, seen)


def test_fields_come_from_other_pictures_of_the_batch() -> None:
    x = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 32, 32) / 8
    seen = photometric._cut_mix(x, torch.Generator().manual_seed(0), 1.0)
    changed = (seen != x).any(1).flatten(1).float().mean(1)
    assert ((changed > 0.015) & (changed < 0.25)).sum() >= 5
    assert set(seen.unique().tolist()) <= set(x.unique().tolist())
    assert torch.equal(photometric._cut_mix(x, torch.Generator().manual_seed(0), 0.0), x)
