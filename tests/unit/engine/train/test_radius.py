"""A radius by tolerance: what is measured is what chips cut by hand change, what is refused, and what the card says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from geoml import models, testing
from geoml.data.recipe import TrainRecipe
from geoml.engine.packages import calibrate, package, weights
from geoml.engine.packages.package import Package
from geoml.engine.run.planned import changed_fields
from geoml.engine.train import radius as module
from geoml.engine.train.evaluate import evaluate
from geoml.engine.train.radius import Shortened, shorten
from geoml.errors import InputError, ModelError
from geoml.io.cards.int8 import Int8, Int8Loss
from geoml.io.cards.map_card import Band, ClassInfo
from tests.unit.engine.conftest import CLASSES, problem_in, write

CORE, HALO = 96, 96
"""Of a core in these tests, and more than the network sees: how far that is as measured hangs on the processor."""
SIZE = 2 * HALO + CORE
KNOWN = tuple(ClassInfo.model_validate(c) for c in CLASSES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainRecipe]:
    """A package with random weights, and a recipe of scenes that are larger than its sight."""
    root = tmp_path_factory.mktemp("radius")
    recipe = problem_in(root / "data")()
    for column, name in ((0, "a0"), (4, "v0"), (5, "t0")):
        data = testing.smooth((2, SIZE, SIZE), seed=column).astype(np.float32) / 20
        write(root / "data" / "img" / f"{name}.tif", data, column, nodata=0.0)
        write(root / "data" / "lab" / f"{name}.tif", np.full((1, SIZE, SIZE), 4, np.int16), column)
    torch.manual_seed(1)
    config = {"encoder": "resnet18", "depth": 3, "decoder_channels": [16, 16, 8]}
    bands = [Band(name=n, mean=150, std=75) for n in ("grey", "more")]
    card = testing.card("net", bands, (), config=config).model_copy(update={"classes": KNOWN})
    net = models.build("unet", {**config, "bands": 2, "classes": 2}).eval()
    card = package.save(net, card, root / "net")
    shutil.rmtree(root / "net")
    weights.write(card.model_copy(update={"radius": HALO}), weights.packed(net.state_dict(), "net"), root / "net")
    return root / "net", recipe


@pytest.fixture(scope="module")
def short(made: tuple[Path, TrainRecipe], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shortened]:
    """Where the package with a radius by tolerance is, and what was measured of it."""
    out = tmp_path_factory.mktemp("short") / "short"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_core", lambda _card: CORE)
        patch.setenv("GEOML_PRECISION", "fp32")
        return out, shorten(*made, 0.05, out)


@pytest.fixture(autouse=True)
def _here(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine(device="cpu", precision="fp32")
    monkeypatch.setattr(module, "_core", lambda _card: CORE)


def by_hand(folder: Path, name: str, radius: int) -> float:
    """The share of pixels that chips of a core and ``radius`` around it give another class than one forward."""
    loaded = package.load(folder)
    with rasterio.open(folder.parent / "data" / "img" / f"{name}.tif") as file:
        image = file.read()
    far = 2 * CORE
    x = torch.from_numpy(np.pad((image - 150) / 75, ((0, 0), (far, far), (far, far))).astype(np.float32))
    with torch.inference_mode():
        exact = loaded.module(x[None])[0].argmax(0).numpy()
        cut = np.zeros_like(exact)
        for y in range(far, far + SIZE, CORE):
            for x0 in range(far, far + SIZE, CORE):
                chip = x[None, :, y - radius : y + CORE + radius, x0 - radius : x0 + CORE + radius]
                inner = loaded.module(chip)[0].argmax(0).numpy()[radius : radius + CORE, radius : radius + CORE]
                cut[y : y + CORE, x0 : x0 + CORE] = inner
    part = slice(far + HALO, far + SIZE - HALO)
    return float((exact != cut)[part, part].mean())


def test_the_card_says_what_chips_cut_by_hand_change(
    made: tuple[Path, TrainRecipe], short: tuple[Path, Shortened]
) -> None:
    (folder, recipe), (_, result) = made, short
    card, record = result.card, result.card.short_radius
    assert record is not None
    shares = {one.radius: one.changed for one in record.tried}
    assert list(shares) == [48, 24, 16, 8]
    for radius, share in shares.items():
        assert share == pytest.approx(by_hand(folder, "v0", radius), rel=0.02, abs=1e-4)
    assert max(shares.values()) > 0.001, "a network that looks at no edge would prove nothing"
    assert card.radius == min(r for r, share in shares.items() if share <= 0.05)
    assert (record.radius_before, record.core, record.recipe) == (HALO, CORE, recipe.hash)
    assert (record.pixels, record.changed, record.split) == ((SIZE - 2 * HALO) ** 2, shares[card.radius], "val")
    assert result.test is not None
    assert result.test.changed == pytest.approx(by_hand(folder, "t0", card.radius), rel=0.02, abs=1e-4)


def test_a_stricter_tolerance_takes_a_larger_radius_or_none(
    made: tuple[Path, TrainRecipe], short: tuple[Path, Shortened], tmp_path: Path
) -> None:
    folder, recipe = made
    record = short[1].card.short_radius
    assert record is not None
    first, second = record.tried[:2]
    assert first.changed < second.changed, "more context is nearer to all of it"
    assert shorten(folder, recipe, first.changed, tmp_path / "b").card.radius == first.radius
    least = min(one.changed for one in record.tried)
    assert least > 0
    with pytest.raises(ModelError, match=r"net: every radius below \d+ changes more than .* nothing is written"):
        shorten(folder, recipe, least / 2, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_weights_stay_and_whoever_saves_them_again_has_the_whole_radius(
    made: tuple[Path, TrainRecipe], short: tuple[Path, Shortened], tmp_path: Path
) -> None:
    before, (out, (card, _)) = package.load(made[0]), short
    folder = made[0]
    assert card.sha256 == before.card.sha256
    assert (out / card.weights).read_bytes() == (folder / before.card.weights).read_bytes()
    assert "geoml:short_radius" not in json.loads((folder / "model.json").read_text())["properties"]
    assert set(changed_fields(before.card, card)) == {"name", "radius"}
    assert set(changed_fields(card, before.card)) == {"name", "radius", "short_radius"}
    loaded = package.load(out)
    assert loaded.card == card
    saved = package.save(loaded.module, loaded.card, tmp_path / "saved")
    assert saved.radius is not None
    assert saved.radius > (card.radius or 0)
    assert saved.short_radius is None


def test_it_is_scored_with_its_own_chips(made: tuple[Path, TrainRecipe], short: tuple[Path, Shortened]) -> None:
    folder, recipe = made
    one, other = (evaluate(m, recipe, "val") for m in (folder, short[0]))
    assert one["pixels"] == other["pixels"] == SIZE**2
    assert one["overall_accuracy"] == pytest.approx(other["overall_accuracy"], abs=0.06)
    assert one != other


def test_shares_are_those_of_a_large_core() -> None:
    """Counted on small cores by distance, added up for a core of another size: the truth is a picture of it."""
    chance = np.array([0.5, 0.25, 0.125, 0.0])
    seen = np.array([8000, 0, 800, 80])
    changed = (chance * seen).astype(int)
    place = np.minimum(np.arange(40), np.arange(40)[::-1])
    distance = np.minimum(place[:, None], place[None])
    expected = np.array([0.5, (0.5 + 0.125) / 2, 0.125, *[0.0] * 17])[distance].mean()
    assert module._share(changed, seen, 40) == pytest.approx(expected)


def test_what_it_is_not_for_is_refused(
    made: tuple[Path, TrainRecipe], short: tuple[Path, Shortened], tmp_path: Path
) -> None:
    folder, recipe = made
    out = tmp_path / "out"
    for tolerance in (0.0, -0.1, 0.051, float("nan")):
        with pytest.raises(InputError, match=r"tolerance: .*; expected a share above 0 and at most 0.05"):
            shorten(folder, recipe, tolerance, out)
    with pytest.raises(InputError, match="short has a radius by tolerance; expected the package that it was made of"):
        shorten(short[0], recipe, 0.05, out)
    loaded = package.load(folder)

    def changed(name: str, **changes: object) -> Path:
        content = (folder / loaded.card.weights).read_bytes()
        weights.write(loaded.card.model_copy(update=changes), content, tmp_path / name)
        return tmp_path / name

    with pytest.raises(InputError, match="sees its whole chip"):
        shorten(changed("blended", radius=None), recipe, 0.01, out)
    with pytest.raises(InputError, match="sees 7 pixels, and no smaller halo is on its stride 8"):
        shorten(changed("near", radius=7), recipe, 0.01, out)
    loss = {"onnx": Int8Loss(before={"a": 0.5}, after={"a": 0.5})}
    int8 = Int8(ranges={}, graph="", chips=1, recipe="", pixels=1, loss=loss)
    with pytest.raises(InputError, match="int8 with its whole radius"):
        shorten(changed("int8", int8=int8), recipe, 0.01, out)
    with pytest.raises(InputError, match="no valid pixel of val lies 200 pixels inside its scene"):
        shorten(changed("far", radius=200), recipe, 0.01, out)
    with pytest.raises(InputError, match="bands"):
        shorten(folder, recipe.model_copy(update={"bands": ("more", "grey")}), 0.01, out)
    things = Package(loaded.module, testing.card("things", ["red"], ["car"], task="detection", radius=64), folder)
    with pytest.raises(InputError, match="counted by class, and detection has none"):
        module._smaller(things)
    difference = calibrate.new("image_difference", ["grey", "more"], 10)
    package.save(difference.module, difference.card, tmp_path / "difference")
    data = {"task": "change", "dates": 2, "model": {"architecture": "siamese_unet", "config": {}}}
    classes = [{"value": c.value, "name": c.name, "color": c.color} for c in difference.card.classes]
    source = {"kind": "change_pairs", "root": ".", "images": ["a", "b"], "labels": "c", "file_bands": ["grey", "more"]}
    change = problem_in(tmp_path / "data")(**data, classes=classes, source=source)
    with pytest.raises(InputError, match="no smaller halo is on its stride 1"):
        shorten(tmp_path / "difference", change, 0.01, out)
    assert not out.exists()
