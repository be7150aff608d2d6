"""A map by a radius by tolerance is the same to the byte however it is cut, and says what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import geoml
from geoml import testing
from geoml.engine.packages import weights
from geoml.errors import InputError
from geoml.io.cards.map_card import MapCard
from geoml.io.cards.short_radius import ShortRadius

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 520, 680), seed=5), bands=("red", "nir"))
SCENE.data[:, 200:270, 100:430] = 0  # a hole in the middle


@pytest.fixture(scope="module")
def short(unet: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """The U-Net with a halo of 8, far less than it sees, and cores of so many pixels."""
    root = tmp_path_factory.mktemp("short")

    def made(core: int) -> str:
        card, _, content = weights.read(unet, MapCard)
        record = ShortRadius(
            radius_before=card.radius, core=core, tolerance=0.05, changed=0.0123, pixels=1, recipe="", precision="fp32",
            tried=(),
        )  # fmt: skip
        folder = root / f"short-{core}"
        if not folder.exists():
            weights.write(
                card.model_copy(update={"name": folder.name, "radius": 8, "short_radius": record}), content, folder
            )
        return str(folder)

    return made


Maps = Callable[..., np.ndarray]


@pytest.fixture
def maps(predict: Callable[..., Path], catalog: Path) -> Maps:
    """(layer, y, x) of the map of `SCENE`."""

    def run(model: str, name: str, inner: float = 0.0, **options: Any) -> np.ndarray:
        west, south, east, north = SCENE.bbox(inner=inner) if inner else SCENE.bbox()
        grown = 0.0 if inner else 0.01
        box = west - grown, south - grown, east + grown, north + grown
        out = predict(model, catalog, box, name, features=False, map=False, **options)
        layers = np.full((2, *SCENE.window.shape), 255, np.uint8)
        for layer, key in zip(layers, ("class", "confidence"), strict=True):
            found = testing.read_map(out, key)[SCENE.crs]
            part = SCENE.window.intersect(found.window)
            layer[part.slices(SCENE.window)] = found.part(part)[0]
        return layers

    return run


def test_no_cut_changes_a_byte(
    short: Callable[[int], str], maps: Maps, unet: str, machine: Callable[..., None]
) -> None:
    """Blocks larger and smaller than a chip, and another origin of the request."""
    model = short(64)
    first = maps(model, "a", block_size=512)
    assert (first != maps(unet, "exact", block_size=512)).any(), "a halo that is wide enough would prove nothing"
    for size in (300, 2048):
        assert maps(model, f"b{size}", block_size=size).tobytes() == first.tobytes()
    part = maps(model, "c", inner=0.17, block_size=256)
    seen = part[0] != 255
    assert 0.3 * seen.size < seen.sum() < (first[0] != 255).sum()
    assert (part[:, seen] == first[:, seen]).all()


def test_a_block_within_one_chip(short: Callable[[int], str], maps: Maps) -> None:
    one, other = maps(short(1024), "a", block_size=512), maps(short(1024), "b", block_size=2048)
    assert one.tobytes() == other.tobytes()


@pytest.mark.slow  # two processes load torch
def test_two_workers_give_the_bytes_of_one(
    short: Callable[[int], str], maps: Maps, machine: Callable[..., None]
) -> None:
    one = maps(short(64), "a", block_size=512)
    machine(workers="processes:2", precision="fp32", device="cpu")
    assert maps(short(64), "b", block_size=512).tobytes() == one.tobytes()


def test_its_maps_say_so_and_no_other_does(
    short: Callable[[int], str], unet: str, predict: Callable[..., Path], catalog: Path
) -> None:
    out = predict(short(64), catalog, SCENE.bbox(inner=0.4), "a")
    run = json.loads((out / "run.json").read_text())
    (words,) = run["warnings"]
    assert words.startswith("a radius by tolerance, 8 pixels for ")
    assert "about 1.2 % of the pixels, mostly at the edges of chips of 64 pixels" in words
    assert words in (out / "report.html").read_text()
    usual = predict(unet, catalog, SCENE.bbox(inner=0.4), "b")
    other = json.loads((usual / "run.json").read_text())
    assert other["warnings"] == []
    assert other["hash"] != run["hash"], "the weights are the same, and the map is not"
    assert not predict_warnings(predict(short(64), catalog, SCENE.bbox(inner=0.4), "c", join="blend"))
    with pytest.raises(InputError, match="has a radius by tolerance, which is not exact; expected auto or blend"):
        predict(short(64), catalog, SCENE.bbox(inner=0.4), "d", join="exact")
    with pytest.raises(InputError, match="contains a run of a different recipe"):
        predict(short(128), catalog, SCENE.bbox(inner=0.4), "a")


def predict_warnings(out: Path) -> list[str]:
    found: list[str] = json.loads((out / "run.json").read_text())["warnings"]
    return found


def test_a_stream_has_chips_of_its_own_size_and_says_what_they_change(
    short: Callable[[int], str], catalog: Path, tmp_path: Path
) -> None:
    (chip,) = (p for p in catalog.parent.rglob("*.tif"))
    found = []
    for name in ("a", "b"):
        record = geoml.stream(chip, tmp_path / name, model=short(64), size=128, scale=1e-4)
        (words,) = record["warnings"]
        assert "about 0.61 % of the pixels, mostly at the edges of chips of 128 pixels" in words
        (path,) = (tmp_path / name / "class").iterdir()
        with rasterio.open(path) as file:
            found.append(file.read().tobytes())
    assert found[0] == found[1]
    alone = geoml.stream(chip, tmp_path / "c", model=short(64), size=1024, scale=1e-4, halo=False)
    assert "warnings" not in alone
