"""Places known again in another year: on made years that share what lies there and differ in how it looks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from geoml.errors import InputError
from geoml.geolocation.nn.places import WIDTH
from geoml.geolocation.training import contrastive
from geoml.geolocation.training.contrastive import crop, embed, fit, info_nce
from geoml.geolocation.training.positives import DateStack
from geoml.geolocation.training.retrieval_recipe import RetrievalTraining

SIDE, BATCH = 48, 8
SHAPE = (160, 400)
EAST = 240
"""Column from which nothing is seen in training."""


def years() -> list[np.ndarray]:
    """Two images (H, W, 3) of one ground; the second has other colours, for the same, and noise of its own."""
    rng = np.random.default_rng(0)
    layers = []
    for sigma in (2, 5, 9):
        noise = scipy.ndimage.gaussian_filter(rng.normal(size=SHAPE), sigma)
        layers.append(noise / noise.std())
    ground = np.stack(layers, -1)
    mix = rng.normal(size=(3, 3))
    mixes = (mix, mix + 0.3 * rng.normal(size=(3, 3)))
    return [
        np.clip(120 + 25 * (ground @ each) + rng.normal(0, 6, (*SHAPE, 3)), 0, 255).astype(np.uint8) for each in mixes
    ]


def stack(images: list[np.ndarray]) -> DateStack:
    """The part of the years that is seen in training."""
    pictures = np.stack([image[:, :EAST] for image in images])
    return DateStack(pictures, np.ones(pictures.shape[:3], bool), (frozenset("a"), frozenset("b")))


def recall(model: torch.nn.Module, images: list[np.ndarray]) -> float:
    """Share of places of the east whose other year is the nearest of all, by the features that were trained."""
    half = SIDE // 2
    rows, columns = range(half, SHAPE[0] - half + 1, half), range(EAST + half, SHAPE[1] - half + 1, half)
    a, b = (
        embed(model, torch.stack([crop(image, y, x, SIDE) for y in rows for x in columns]))[:, -WIDTH:]
        for image in images
    )
    return float(((a @ b.T).argmax(1) == np.arange(len(a))).mean())


@pytest.mark.slow
def test_training_on_pairs_of_years_finds_places_that_it_did_not_see() -> None:
    images = years()
    how = RetrievalTraining(side=SIDE, steps=40, batch=BATCH, rate=4e-4, look=0.0)
    untrained, (start,) = fit([(1.0, [stack(images)])], how.model_copy(update={"steps": 1, "rate": 0.0}))
    model, losses = fit([(1.0, [stack(images)])], how)
    assert len(losses) == how.steps
    assert losses[0] == pytest.approx(start, rel=1e-5)
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    assert recall(model, images) > recall(untrained, images) + 0.1
    moved = {name.split(".")[0] + "." + name.split(".")[1] for name in _changed(untrained, model)}
    assert moved == {"encoder.blocks", "project.weight", "project.bias"}


def test_a_training_that_was_killed_ends_with_the_same_weights(tmp_path, monkeypatch) -> None:
    """Epochs of two steps; killed within the second. Pairs and augmentations drawn then are those of a whole run."""
    sources, how = [(1.0, [stack(years())])], RetrievalTraining(side=32, steps=5, batch=3)
    monkeypatch.setattr(contrastive, "EPOCH", 2)
    whole, losses = fit(sources, how)
    count, augment = itertools.count(), contrastive.photometric.augment

    def dying(*args):
        if next(count) == 7:
            raise KeyboardInterrupt
        return augment(*args)

    with monkeypatch.context() as patch:
        patch.setattr(contrastive.photometric, "augment", dying)
        with pytest.raises(KeyboardInterrupt):
            fit(sources, how, folder=tmp_path)
    epochs: list[float] = []
    model, again = fit(sources, how, folder=tmp_path, on_epoch=lambda e: epochs.append(e["epoch"]))
    assert epochs == [1, 2]
    assert again == losses
    assert _changed(whole, model) == []


def _changed(first: torch.nn.Module, second: torch.nn.Module) -> list[str]:
    return [name for name, value in first.state_dict().items() if not torch.equal(value, second.state_dict()[name])]


def test_a_crop_is_what_lies_there() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    np.testing.assert_allclose(crop(image, 20, 30, 16), np.moveaxis(image[12:28, 22:38], -1, 0) / 255, atol=1e-5)
    quarter = crop(image, 20, 30, 16, math.pi / 2)
    np.testing.assert_allclose(quarter, np.rot90(np.moveaxis(image[12:28, 22:38], -1, 0), 1, (1, 2)) / 255, atol=1e-5)
    at_edge = crop(image, 4, 30, 16)
    np.testing.assert_allclose(at_edge[:, 4:], np.moveaxis(image[:12, 22:38], -1, 0) / 255, atol=1e-5)
    np.testing.assert_allclose(at_edge[:, :4], at_edge[:, 5:9].flip(1), atol=1e-5)


def test_the_loss_is_the_cross_entropy_of_both_ways_without_shared_ground() -> None:
    rng = np.random.default_rng(2)
    a, b = (torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(4, 8))), dim=1) for _ in range(2))
    near = torch.eye(4, dtype=torch.bool)
    near[0, 1] = near[1, 0] = True
    score = (a @ b.T / 0.07).numpy()
    score[0, 1] = score[1, 0] = -np.inf
    ways = [np.mean([np.log(np.exp(s[k]).sum()) - s[k, k] for k in range(4)]) for s in (score, score.T)]
    assert float(info_nce(a, b, near)) == pytest.approx(np.mean(ways), rel=1e-9)


def test_ground_that_is_too_small_is_refused() -> None:
    with pytest.raises(InputError, match="too small"):
        fit([(1.0, [stack([image[:40] for image in years()])])], RetrievalTraining(side=SIDE))
    with pytest.raises(InputError, match="shares"):
        fit([(0.0, [])], RetrievalTraining(side=SIDE))
