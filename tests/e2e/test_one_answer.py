"""Design rules 1 and 2: the answer does not depend on how the work was cut, and it is the right one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from geoml import testing
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages import package
from geoml.engine.pixels import Pixels
from geoml.grid.plane import Window

STEPS = 250
"""A probability of 1.0 is stored as this."""

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 520, 680), seed=5), bands=("red", "nir"))
SCENE.data[:, 200:270, 100:430] = 0  # a hole in the middle


def softmax_of_whole_scene(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """(class, y, x) float32 probabilities and (class, y, x) logits of `SCENE` by one forward, and by nothing of the
    engine: the scene stands in so much of no data (0 after normalisation) that its border is far away."""
    found = package.load(folder)
    mean = np.array([b.mean for b in found.card.bands], np.float32)[:, None, None]
    std = np.array([b.std for b in found.card.bands], np.float32)[:, None, None]
    valid = (SCENE.data != 0).all(axis=0)
    x = np.where(valid, (SCENE.data * np.float32(SCENE.scale) - mean) / std, 0).astype(np.float32)
    stride = found.card.stride
    reach = -(-(found.card.radius or 0) // stride) * stride + stride
    up, left = SCENE.window.y0 % stride + reach, SCENE.window.x0 % stride + reach
    down, right = -(up + x.shape[1]) % stride + reach, -(left + x.shape[2]) % stride + reach
    padded = np.pad(x, ((0, 0), (up, down), (left, right)))
    with torch.inference_mode():
        logits = found.module(torch.from_numpy(padded)[None])[0]
    inner = logits[:, up : up + x.shape[1], left : left + x.shape[2]]
    return torch.softmax(inner, 0).numpy(), inner.numpy()


@pytest.fixture
def bbox() -> tuple[float, float, float, float]:
    """More than the scene, so that its borders are in."""
    west, south, east, north = SCENE.bbox()
    return west - 0.01, south - 0.01, east + 0.01, north + 0.01


def margin(probabilities: np.ndarray) -> np.ndarray:
    """(y, x) steps between the most and the second most probable class."""
    two = np.sort(probabilities.astype(int), axis=0)[-2:]
    return two[1] - two[0]


@pytest.fixture
def whole(
    predict: Callable[..., Path], machine: Callable[..., None], unet: str, catalog: Path, bbox: tuple[float, ...]
) -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(class, confidence, probabilities) over `SCENE` by a run with the given block size and chip batch."""

    def run(block_size: int, batch: int, **recipe: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        machine(chip_batch=batch)
        out = predict(unet, catalog, bbox, block_size=block_size, probabilities=True, features=False, **recipe)
        found = [
            testing.read_map(out, key)[SCENE.crs].part(SCENE.window) for key in ("class", "confidence", "probabilities")
        ]
        return found[0][0], found[1][0], found[2]

    return run


@pytest.mark.parametrize(("block_size", "batch"), [(512, 1), (512, 8), (1024, 1), (4096, 1)])
def test_every_cut_gives_what_one_forward_gives(
    block_size: int, batch: int, whole: Callable[..., tuple[np.ndarray, ...]], unet: str
) -> None:
    classes, confidence, probabilities = whole(block_size, batch)
    expected, logits = softmax_of_whole_scene(unet)
    valid = (SCENE.data != 0).all(axis=0)
    assert len(np.unique(classes[valid])) == 3, "a map of one class would prove nothing"
    assert (classes[~valid] == 255).all()
    assert (confidence[~valid] == 255).all()
    clear = np.sort(logits, axis=0)
    clear = valid & (clear[-1] - clear[-2] > 1e-4)
    assert clear.sum() > 0.99 * valid.sum()
    assert (classes[clear] == expected.argmax(axis=0)[clear]).all()
    # stored are steps of 1/250: an error of 1e-4 shows wherever the truth is not within that of the edge of a step
    steps = expected * STEPS
    sure = valid & (np.abs(steps % 1 - 0.5) > 1e-4 * STEPS)
    assert sure.sum() > 0.9 * sure.size * valid.mean()
    assert (probabilities[sure] == np.round(steps)[sure]).all()
    assert (confidence[valid] == probabilities.max(axis=0)[valid]).all()


def test_chips_joined_by_hand_give_the_logits_of_one_forward(unet: str) -> None:
    """What the card says of stride and radius is enough: cores of chips agree to 1e-4 with the whole, as logits."""
    found = package.load(unet)
    grid = found.card.chip_grid()
    assert grid.exact
    size = 2 * grid.step + 2 * grid.halo
    x = torch.from_numpy(testing.smooth((2, size, size), seed=8).astype(np.float32) * 1e-4 - 0.3) / 0.15
    inner = slice(grid.halo, size - grid.halo)
    with torch.inference_mode():
        expected = found.module(x[None])[0]
        for iy in range(2):
            for ix in range(2):
                y0, x0 = iy * grid.step, ix * grid.step
                chip = found.module(x[None, :, y0 : y0 + grid.size, x0 : x0 + grid.size])[0]
                core = chip[:, inner.start : inner.start + grid.step, inner.start : inner.start + grid.step]
                at = expected[:, y0 + grid.halo :, x0 + grid.halo :][:, : grid.step, : grid.step]
                assert (core - at).abs().max() < 1e-4


def test_blended_maps_do_not_depend_on_the_cut(whole: Callable[..., tuple[np.ndarray, ...]], tmp_path: Path) -> None:
    first = whole(512, 1, join="blend")
    for path in tmp_path.glob("out*"):
        path.rename(tmp_path / "first")
    second = whole(1024, 8, join="blend")
    assert np.abs(first[2].astype(int) - second[2]).max() <= 1
    clear = (margin(first[2]) > 1) & (first[0] != 255)
    assert clear.sum() > 0.9 * clear.size * (first[0] != 255).mean()
    assert (first[0][clear] == second[0][clear]).all()
    assert ((first[0] == 255) == (second[0] == 255)).all()


@pytest.mark.parametrize("join", ["exact", "blend"])
def test_a_constant_model_gives_its_constant_everywhere(
    join: str, predict: Callable[..., Path], constant: str, catalog: Path, bbox: tuple[float, ...]
) -> None:
    out = predict(constant, catalog, bbox, join=join, features=False)
    valid = (SCENE.data != 0).all(axis=0)
    classes = testing.read_map(out)[SCENE.crs]
    assert (classes.part(SCENE.window)[0][valid] == 1).all()
    assert (classes.data == 1).sum() == valid.sum()
    confidence = testing.read_map(out, "confidence")[SCENE.crs].part(SCENE.window)[0]
    expected = np.round(STEPS * np.exp(2) / (np.exp(2) + 2))
    assert set(np.unique(confidence[valid])) == {expected}


def test_overlapping_requests_agree(predict: Callable[..., Path], unet: str, catalog: Path) -> None:
    west, south, east, north = SCENE.bbox(inner=0.1)
    width, height = east - west, north - south
    a = predict(unet, catalog, (west, south, west + 0.7 * width, north - 0.2 * height), "a", features=False)
    b = predict(
        unet, catalog, (west + 0.25 * width, south + 0.13 * height, east, north), "b", features=False, block_size=300
    )
    maps = [(testing.read_map(o)[SCENE.crs], testing.read_map(o, "confidence")[SCENE.crs]) for o in (a, b)]
    shared = maps[0][0].window.intersect(maps[1][0].window)
    (first, sure), (second, sure2) = [[m.part(shared)[0] for m in two] for two in maps]
    both = (first != 255) & (second != 255)
    assert both.sum() > 0.1 * SCENE.data[0].size
    assert np.abs(sure[both].astype(int) - sure2[both]).max() <= 1
    assert (first[both] != second[both]).mean() < 1e-4  # ties


def test_tta_turns_with_the_scene(unet: str) -> None:
    """Averaged over all flips and turns, the map of a turned scene is the turned map."""
    predictor = Predictor(package.load(unet), tta=True)
    data = testing.smooth((2, 192, 192), seed=3)
    window = Window(0, 0, 192, 192)
    origin = predictor.needed(window)

    def predicted(scene: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        around = np.zeros((2, *origin.shape), scene.dtype)
        around[(slice(None), *window.slices(origin))] = scene
        count = (around != 0).all(axis=0).astype(np.uint16)
        rows = list(predictor.rows(Pixels(around, count, (1e-4,) * 2, (0.0,) * 2, origin), window))
        return tuple(np.concatenate([r[key][0] for r in rows]) for key in ("class", "confidence"))

    upright, confidence = predicted(data)
    assert len(np.unique(upright)) == 3
    for turned in (lambda v: np.rot90(v, 1, (-2, -1)), lambda v: v[..., ::-1]):
        classes, sure = predicted(np.ascontiguousarray(turned(data)))
        assert (classes == turned(upright)).mean() > 0.9999
        assert np.abs(sure.astype(int) - turned(confidence)).max() <= 1


def test_tta_changes_nothing_for_a_model_that_does_not_see_around(
    predict: Callable[..., Path], threshold: str, catalog: Path
) -> None:
    out = predict(threshold, catalog, SCENE.bbox(inner=0.3), tta=True, features=False)
    classes = testing.read_map(out)[SCENE.crs]
    known = classes.data[0] != 255
    expected = np.full(classes.window.shape, 255, np.uint8)
    inside = SCENE.window.intersect(classes.window)
    truth = testing.levels(SCENE.data, (0.20005, 0.40005))
    expected[inside.slices(classes.window)] = truth[inside.slices(SCENE.window)]
    assert known.sum() > 20_000
    assert (classes.data[0][known] == expected[known]).all()
