"""Models of change that are calibrated: known changes are found, and what they compute is what the papers say."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml import models
from geoml.errors import DataError, InputError

CALIBRATED = ("cva", "image_difference", "index_crossing", "index_difference", "ir_mad")
STANDARDISED = ("cva", "image_difference", "ir_mad")
SPLITTING = ("cva", "image_difference", "index_difference", "ir_mad")
"""Those that take a threshold of magnitudes."""
SIDE = 80

Array = NDArray[np.float64]


def pair(bands: int = 4, seed: int = 0, share: int = 20, noise: float = 0.02) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Two dates (bands, y, x), the second with another gain and offset of each band, and where a square changed."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(bands, bands)) + 2 * np.eye(bands)
    first = np.einsum("bc,cyx->byx", mixing, random.normal(size=(bands, SIDE, SIDE)))
    second = first + noise * random.normal(size=first.shape)
    changed = np.zeros((SIDE, SIDE), bool)
    changed[10 : 10 + share, 30 : 30 + share] = True
    # a vector of change for every pixel there, with no share of the variance of the unchanged ones
    second[:, changed] += 8 * first.std() * np.sign(random.normal(size=(bands, 1)))
    gain, offset = random.uniform(0.5, 2, (2, bands, 1, 1))
    return 20 + first, 20 + gain * second + offset, changed


def columns(*dates: Array) -> Tensor:
    """(N, dates * bands) float32."""
    return torch.from_numpy(np.concatenate(dates).reshape(sum(map(len, dates)), -1).T.astype(np.float32).copy())


def image(*dates: Array) -> Tensor:
    return torch.from_numpy(np.concatenate(dates)[None].astype(np.float32))


def settled(name: str, *dates: Array, **options: int) -> nn.Module:
    """The model calibrated on all pixels of two dates."""
    module = models.build(name, {"bands": len(dates[0]), **options})
    models.find(name).calibrate(module, columns(*dates))
    return module.eval()


def classes(module: nn.Module, *dates: Array) -> NDArray[np.int64]:
    with torch.no_grad():
        return module(image(*dates))[0].argmax(0).numpy()


def magnitude(module: nn.Module, *dates: Array) -> Array:
    with torch.no_grad():
        return module.magnitude(image(*dates))[0].double().numpy()


def test_these_are_the_calibrated_ones() -> None:
    assert tuple(n for n in models.names() if models.calibrated(n)) == CALIBRATED
    assert not models.calibrated("unet")
    assert not models.calibrated("compared")


@pytest.mark.parametrize("bands", [1, 4, 13])
@pytest.mark.parametrize("name", STANDARDISED)
def test_finds_a_known_change_under_another_gain_and_offset(name: str, bands: int) -> None:
    first, second, changed = pair(bands)
    found = classes(settled(name, first, second), first, second) == 1
    assert (found == changed).mean() > 0.995


@pytest.mark.parametrize("name", SPLITTING)
def test_score_is_a_sigmoid_of_magnitude_and_one_half_at_the_threshold(name: str) -> None:
    first, second, _ = pair()
    module = settled(name, np.abs(first), np.abs(second))
    with torch.no_grad():
        logits = module(image(np.abs(first), np.abs(second)))
    m = magnitude(module, np.abs(first), np.abs(second))
    expected = 1 / (1 + np.exp(-float(module.slope) * (m - float(module.threshold))))
    np.testing.assert_allclose(torch.softmax(logits, 1)[0, 1], expected, atol=1e-5)
    assert np.array_equal(logits[0].argmax(0).numpy() == 1, m > float(module.threshold))
    assert 0 < (m > float(module.threshold)).mean() < 1


@pytest.mark.parametrize("name", SPLITTING)
def test_slope_is_that_of_two_normal_classes(name: str) -> None:
    first, second, _ = pair(noise=0.5)
    module = settled(name, np.abs(first), np.abs(second))
    m = magnitude(module, np.abs(first), np.abs(second)).ravel()
    above = m > float(module.threshold)
    variance = (m[above].var() * above.sum() + m[~above].var() * (~above).sum()) / len(m)
    gap = m[above].mean() - m[~above].mean()
    assert float(module.slope) == pytest.approx(min(gap / variance, 40 / gap), rel=1e-3)


@pytest.mark.parametrize("name", CALIBRATED)
def test_a_pixel_does_not_depend_on_its_place(name: str) -> None:
    first, second, _ = pair()
    module = settled(name, first, second)
    x = image(first, second)
    order = torch.randperm(SIDE * SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, mixed = module(x).flatten(2), module(x.flatten(2)[..., order].reshape(x.shape)).flatten(2)
    assert (module.radius, module.stride) == (0, 1)
    torch.testing.assert_close(mixed, whole[..., order], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("name", SPLITTING)
def test_equal_dates_and_constant_ones_give_no_change(name: str, bands: int) -> None:
    first, _, _ = pair(bands)
    flat = np.full_like(first, 7.3)
    for a, b in ((first, first), (flat, flat), (flat, flat + 2), (first.astype(np.float32) * 1e4,) * 2):
        module = settled(name, a, b)
        with torch.no_grad():
            logits = module(image(a, b))
        assert bool(torch.isfinite(logits).all())
        assert int(logits.argmax(1).sum()) == 0
        assert float(torch.softmax(logits, 1)[:, 1].max()) < 0.01


@pytest.mark.parametrize("name", CALIBRATED)
def test_equal_dates_whose_bands_are_nearly_one_give_no_change(name: str) -> None:
    """Small differences of like bands are blown up to variates, and the rounding of float32 with them."""
    common = np.random.default_rng(0).normal(80, 40, (SIDE, SIDE))
    first = np.stack([np.rint(common + np.random.default_rng(k).normal(0, 0.2, common.shape)) for k in range(3)])
    first[:, 0, 0] = 4000  # a far outlier
    module = settled(name, first, first)
    with torch.no_grad():
        assert int(module(image(first, first)).argmax(1).sum()) == 0


@pytest.mark.parametrize("name", CALIBRATED)
def test_one_constant_date_is_no_fault(name: str) -> None:
    first, _, _ = pair(3)
    module = settled(name, first, np.ones_like(first))
    with torch.no_grad():
        assert bool(torch.isfinite(module(image(first, np.ones_like(first)))).all())


@pytest.mark.parametrize("name", CALIBRATED)
def test_what_does_not_serve_is_refused(name: str) -> None:
    file = models.find(name)
    module = models.build(name, {"bands": 2})
    with pytest.raises(InputError, match=r"expected \(N, 4\)"):
        file.calibrate(module, torch.zeros(500, 3))
    with pytest.raises(DataError, match="99 valid pixels"):
        file.calibrate(module, torch.zeros(99, 4))
    with pytest.raises(DataError, match="not finite"):
        file.calibrate(module, torch.full((500, 4), torch.nan))
    for wrong, says in (({"bands": 0}, "at least one"), ({"dates": 3}, "dates"), ({"classes": 7}, "classes")):
        with pytest.raises(InputError, match=says):
            models.build(name, {"bands": 2, **wrong})


@pytest.mark.parametrize("name", CALIBRATED)
def test_a_fresh_one_is_not_ready_and_a_settled_one_is(name: str) -> None:
    first, second, _ = pair(2)
    assert not bool(models.build(name, {"bands": 2}).ready)
    assert bool(settled(name, first, second).ready)


def test_cva_is_the_length_of_the_change_vector() -> None:
    first, second, _ = pair()
    a, b = (scipy.stats.zscore(d.reshape(4, -1), axis=1) for d in (first, second))
    expected = np.linalg.norm(a - b, axis=0).reshape(SIDE, SIDE)
    np.testing.assert_allclose(magnitude(settled("cva", first, second), first, second), expected, atol=1e-4)


def test_image_difference_is_the_mean_absolute_difference() -> None:
    first, second, _ = pair()
    a, b = (scipy.stats.zscore(d.reshape(4, -1), axis=1) for d in (first, second))
    expected = np.abs(a - b).mean(0).reshape(SIDE, SIDE)
    found = magnitude(settled("image_difference", first, second), first, second)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def ir_mad(first: Array, second: Array, rounds: int = 60) -> Array:
    """The root of Nielsen's chi-squared statistic (y, x), by the generalised eigenvalue problems of the paper."""
    p = len(first)
    x = np.concatenate([first, second]).reshape(2 * p, -1)
    weight = np.ones(x.shape[1])
    for _ in range(rounds):
        mean = np.average(x, axis=1, weights=weight)[:, None]
        s = np.cov(x, aweights=weight, bias=True)
        s11, s12, s22 = s[:p, :p], s[:p, p:], s[p:, p:]
        rho2, a = scipy.linalg.eigh(s12 @ np.linalg.solve(s22, s12.T), s11)
        b = np.linalg.solve(s22, s12.T @ a) / np.sqrt(rho2)
        mad = a.T @ (x - mean)[:p] - b.T @ (x - mean)[p:]
        t = (mad**2 / (2 * (1 - np.sqrt(rho2)))[:, None]).sum(0)
        weight = scipy.stats.chi2.sf(t, p)
    return np.sqrt(t).reshape(first.shape[1:])


@pytest.mark.parametrize("bands", [3, 4])
def test_ir_mad_is_that_of_the_paper(bands: int) -> None:
    first, second, changed = pair(bands, noise=0.5)
    found, expected = magnitude(settled("ir_mad", first, second), first, second), ir_mad(first, second)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.05)  # ours ends when correlations move by 1e-4
    assert expected[changed].min() > np.quantile(expected[~changed], 0.99)


@pytest.mark.parametrize("bands", [1, 2])
def test_ir_mad_of_few_bands_keeps_pixels_to_rest_on(bands: int) -> None:
    first, second, changed = pair(bands, noise=0.5)
    module = settled("ir_mad", first, second)
    assert ((classes(module, first, second) == 1) == changed).mean() > 0.99
    assert 0.5 < np.median(magnitude(module, first, second)[~changed]) < 20  # deviations of unchanged pixels


def test_ir_mad_does_not_see_affine_changes_of_either_date() -> None:
    first, second, _ = pair(3, noise=0.3)
    random = np.random.default_rng(5)
    plain = magnitude(settled("ir_mad", first, second), first, second)
    for n in range(2):
        dates = [first, second]
        mixed = np.einsum("bc,cyx->byx", random.normal(size=(3, 3)), dates[n]) + random.normal(size=(3, 1, 1))
        dates[n] = mixed
        np.testing.assert_allclose(magnitude(settled("ir_mad", *dates), *dates), plain, rtol=2e-2, atol=1e-2)


def test_ir_mad_of_a_singular_covariance_is_that_without_the_copy() -> None:
    first, second, changed = pair(3, noise=0.3)
    twice = [np.concatenate([d, 2 * d[:1] + 1, np.full_like(d[:1], 4.0)]) for d in (first, second)]
    module = settled("ir_mad", *twice)
    np.testing.assert_allclose(
        magnitude(module, *twice), magnitude(settled("ir_mad", first, second), first, second), rtol=2e-2, atol=1e-2
    )
    assert ((classes(module, *twice) == 1) == changed).mean() > 0.995


def vegetation(gain: float = 0.0) -> tuple[Array, Array, NDArray[np.int64]]:
    """Red and nir of two dates: a square that lost its green (2), one that gained it (1); ``gain`` of NDVI all over."""
    random = np.random.default_rng(1)
    ndvi = np.stack([np.full((SIDE, SIDE), 0.4), np.full((SIDE, SIDE), 0.4 + gain)])
    truth = np.zeros((SIDE, SIDE), int)
    truth[5:25, 5:25], truth[40:60, 30:50] = 1, 2
    ndvi[:, truth == 1] = [[0.1], [0.6 + gain]]
    ndvi[:, truth == 2] = [[0.6], [0.1 + gain]]
    ndvi += 0.01 * random.normal(size=ndvi.shape)
    bright = random.uniform(500, 3000, ndvi.shape)  # of no concern to a ratio
    first, second = (np.stack([s * (1 - v), s * (1 + v)]) for s, v in zip(bright, ndvi, strict=True))
    return first, second, truth


@pytest.mark.parametrize("gain", [0.0, 0.15])
def test_index_difference_tells_gain_from_loss_whatever_the_season_does(gain: float) -> None:
    first, second, truth = vegetation(gain)
    module = settled("index_difference", first, second, first=1, second=0, classes=3)
    assert np.array_equal(classes(module, first, second), truth)
    swapped = settled("index_difference", second, first, first=1, second=0, classes=3)
    assert np.array_equal(classes(swapped, second, first), np.array([0, 2, 1])[truth])
    binary = settled("index_difference", first, second, first=1, second=0)
    assert np.array_equal(classes(binary, first, second), truth > 0)


def test_index_difference_takes_its_bands_by_position() -> None:
    first, second, _ = vegetation()
    order = [np.stack([d[1], np.ones_like(d[0]), d[0]]) for d in (first, second)]
    plain = settled("index_difference", first, second, first=1, second=0)
    other = settled("index_difference", *order, first=0, second=2)
    np.testing.assert_allclose(magnitude(other, *order), magnitude(plain, first, second), atol=1e-6)
    for wrong in ({"first": 3}, {"second": -1}, {"first": 1, "second": 1}):
        with pytest.raises(InputError, match="expected"):
            models.build("index_difference", {"bands": 3, **wrong})


def test_index_of_nothing_is_nothing() -> None:
    module = models.build("index_difference", {"bands": 2})
    with torch.no_grad():
        assert module.index(torch.zeros(1, 2, 3, 4)).tolist() == torch.zeros(1, 3, 4).tolist()
        assert float(module.index(torch.tensor([[[[0.2]], [[-0.19]]]])).max()) == 1.0  # not 39


def doubt(name: str, first: Array, second: Array, **options: int) -> str:
    return str(settled(name, first, second, **options).doubt(columns(first, second)))


@pytest.mark.parametrize("name", SPLITTING)
def test_a_split_of_a_pair_with_change_stands(name: str) -> None:
    for seed, share in ((0, 20), (1, 10), (2, 30)):  # 6, 2 and 14 % of the pixels
        first, second, changed = pair(seed=seed, share=share, noise=0.3)
        first, second = first + 40, second + 40  # an index of numbers around zero is noise
        if name == "index_difference":  # along its own axis
            second[1, changed] = 4 * second[0, changed]
        assert doubt(name, first, second) == "", (seed, share)


@pytest.mark.parametrize("name", SPLITTING)
@pytest.mark.parametrize("noise", [0.02, 0.3, 1.0])
def test_a_split_of_a_pair_without_change_says_that_there_is_one_mode(name: str, noise: float) -> None:
    """Under noise and another light; a fifth to a half of such a pair is called changed."""
    first, _, _ = pair()
    first = first + 40
    second = 1.2 * first + 3 + noise * np.random.default_rng(3).normal(size=first.shape)
    module = settled(name, first, second)
    assert (classes(module, first, second) == 1).mean() > 0.05
    assert "one mode" in module.doubt(columns(first, second))


@pytest.mark.parametrize("name", CALIBRATED)
def test_where_nothing_varies_there_is_no_split_to_doubt(name: str) -> None:
    first, _, _ = pair(2)
    flat = np.full_like(first, 7.3)
    assert doubt(name, first, first) == doubt(name, flat, flat + 2) == ""
