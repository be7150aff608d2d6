"""A year of looks through the whole run, on made scenes of which every pixel's looks are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
from numpy.typing import NDArray
from PIL import Image

import geoml
from geoml import pipeline, testing
from geoml.cube import domain
from geoml.engine.packages import package
from geoml.errors import InputError, NothingFound
from geoml.io.cards.domain import NODATA, OUTSIDE

LOOKS = Path(__file__).with_name("looks")
MONTHS = [f"2023-{m:02d}" for m in range(1, 13)]
SHAPE = (100, 150)
WITHOUT = (1, 6)
"""Steps without any item."""
HALF = 9
"""A step whose only item covers the west."""
VALUES = np.random.default_rng(7).integers(1, 12, (12, *SHAPE))
SEEN = np.random.default_rng(8).random((12, *SHAPE)) < 0.3
SEEN[:, :40, :60] = False
SEEN[[3, 7, 8], 10:30, 20:50] = True  # 3 of 12
SEEN[:, 60:80, 110:] = True
SEEN[0, :, 130:] = False
SEEN[WITHOUT, :, :] = False
SEEN[HALF, :, 70:] = False
COUNT = SEEN.sum(0)


@pytest.fixture(autouse=True)
def _plug_ins(monkeypatch: pytest.MonkeyPatch, machine: Callable[..., None], made: Path) -> None:
    machine(catalogs=made.parent.parent)
    for part in ("models", "tasks"):
        home = getattr(geoml, part)
        monkeypatch.setattr(home, "__path__", [*home.__path__, str(LOOKS / part)])


def scene(month: int) -> testing.Scene:
    """A look: every other one is stored twice as large in bytes, and every third has its holes in the quality mask."""
    width = 70 if month == HALF else SHAPE[1]
    seen, values = SEEN[month, :, :width], VALUES[month, :, :width]
    by_mask = month % 3 == 0
    stored = values * (2 if month % 2 else 1)
    return testing.Scene(
        id=f"look-{month + 1:02d}",
        data=(stored if by_mask else np.where(seen, stored, 0))[None].astype(np.uint8 if month % 2 else np.uint16),
        bands=("red",),
        scale=0.5 if month % 2 else 1.0,
        datetime=f"{MONTHS[month]}-14T10:00:00Z",
        quality=np.where(seen | (not by_mask), 0, testing.BAD_QUALITY).astype(np.uint8),
    )


SCENES_OF = [m for m in range(12) if m not in WITHOUT]
SCENES = [scene(m) for m in SCENES_OF]


def model(folder: Path, says: str = "count", **more: Any) -> str:
    names = [f"n{k}" for k in range(13)]
    about = {"architecture": "looks", "task": "seasons", "dates": 12, "config": {"says": says}}
    card = testing.card(f"looks-{says}", ["red"], names, **about, **more)
    package.save(package.build(card), card, folder / says)
    return str(folder / says)


def recipe(model: str, catalog: Path, **more: Any) -> dict[str, Any]:
    box = [float(f"{v:.9f}") for v in SCENES[0].bbox()]
    query = {"catalog": catalog.parent.name, "bbox": box, "datetime": MONTHS, **more.pop("query", {})}
    return {"model": model, "query": query, "block_size": 64, **more}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return testing.write_catalog(tmp_path_factory.mktemp("year") / "made", SCENES)


def part(out: Path, asset: str = "class") -> NDArray[np.uint8]:
    (found,) = testing.read_map(out, asset).values()
    return found.part(SCENES[0].window)[0]


def truth(says: str) -> NDArray[np.intp]:
    if says == "mean":
        return np.floor((VALUES * SEEN).sum(0) / np.maximum(COUNT, 1) + 0.5).astype(int)
    if says == "month":
        return SEEN.argmax(0)
    return COUNT


@pytest.mark.parametrize("says", ["mean", pytest.param("count", marks=pytest.mark.slow)])
def test_every_step_has_its_own_mask_and_month(says: str, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = geoml.predict(recipe(model(tmp_path, says), made), out)
    assert len(said["blocks"]["done"]) >= 4
    np.testing.assert_array_equal(part(out), np.where(COUNT > 0, truth(says), 255))
    np.testing.assert_array_equal(part(out, "valid"), COUNT)
    assert (part(out, "valid")[10:30, 20:50] == 3).all()
    assert "no item for 2 of 12 steps: 2023-02, 2023-07" in said["warnings"][0]
    assert "2023-07" in (out / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("join", ["exact", "blend"])
def test_the_cut_into_blocks_and_flips_and_turns_do_not_show(join: str, made: Path, tmp_path: Path) -> None:
    first, *others = ({"block_size": 64}, {"block_size": 96}, {"block_size": 256, "tta": True})
    package = model(tmp_path, "month")
    geoml.predict(recipe(package, made, join=join, **first), tmp_path / "first")
    for n, other in enumerate(others):
        geoml.predict(recipe(package, made, join=join, **other), tmp_path / str(n))
        for asset in ("class", "confidence", "valid"):
            np.testing.assert_array_equal(part(tmp_path / "first", asset), part(tmp_path / str(n), asset))
        one, two = (geopandas.read_parquet(tmp_path / name / "features.parquet") for name in ("first", str(n)))
        assert one.drop(columns="blocks").equals(two.drop(columns="blocks"))
    np.testing.assert_array_equal(part(tmp_path / "first"), np.where(COUNT > 0, truth("month"), 255))


def test_the_place_of_every_pixel_is_known_and_the_picture_is_of_its_last_look(made: Path, tmp_path: Path) -> None:
    geoml.predict(recipe(model(tmp_path, "east"), made, block_size=256), tmp_path / "out")
    x, y = (600_000 + 10 * (np.arange(SHAPE[1]) + 0.5), 7_200_000 - 10 * (np.arange(SHAPE[0]) + 0.5))
    lon, _ = pyproj.Transformer.from_crs("EPSG:32621", "EPSG:4326", always_xy=True).transform(*np.meshgrid(x, y))
    number = (lon + 54.89) / 0.004
    sure = (COUNT > 0) & (np.abs(number - number.round()) > 0.01)
    assert sure.mean() > 0.5
    assert len(np.unique(number[sure].astype(int))) > 5
    np.testing.assert_array_equal(part(tmp_path / "out")[sure], np.floor(number)[sure])

    last = np.take_along_axis(VALUES, 11 - SEEN[::-1].argmax(0)[None], 0)[0]
    ones = others = 0
    for path in (tmp_path / "out").rglob("preview.png"):
        shown = np.asarray(Image.open(path))
        ones += (shown[..., 0] == 191).sum()  # from -2 to 2, as the card's mean and deviation have it
        others += (shown[..., 0] == 255).sum()
    assert (ones, others) == (((last == 1) & (COUNT > 0)).sum(), ((last > 1) & (COUNT > 0)).sum())


def test_the_steps_of_a_recipe_are_those_of_the_model(made: Path, tmp_path: Path) -> None:
    package = model(tmp_path)
    for when, words in (
        (MONTHS[:-1], "11 given; looks-count takes 12"),
        (["../2022", *MONTHS[1:]], "'../2022' is open; a step of a series has both ends"),
        ([*MONTHS[1:], "2022"], "does not end before"),
    ):
        with pytest.raises(InputError, match=words):
            geoml.predict(recipe(package, made, query={"datetime": when}), tmp_path / "out")
    years = [str(1980 + n) for n in range(12)]
    with pytest.raises(NothingFound, match="no items"):
        geoml.predict(recipe(package, made, query={"datetime": years}), tmp_path / "out")
    with pytest.raises(InputError, match="a series of dates; monitoring needs one or two"):
        pipeline.monitor(recipe(package, made), tmp_path / "out")


def test_a_step_whose_items_are_all_broken_has_no_look(tmp_path: Path, machine: Callable[..., None]) -> None:
    machine(catalogs=tmp_path)
    made = testing.write_catalog(tmp_path / "made", SCENES)
    path = tmp_path / "made" / "look-04" / "item.json"
    item = json.loads(path.read_text())
    del item["assets"]["image"]
    path.write_text(json.dumps(item))
    said = geoml.predict(recipe(model(tmp_path), made, block_size=256), tmp_path / "out")
    assert set(said["left_out"]) == {"look-04"}
    assert "3 of 12 steps" in said["warnings"][0]
    np.testing.assert_array_equal(part(tmp_path / "out", "valid"), COUNT - SEEN[3])


def test_only_looks_are_held_against_the_training_data(tmp_path: Path, machine: Callable[..., None]) -> None:
    far = SCENES[3].data.copy()
    far[:, 60:80, 110:] = 200  # of numbers from 1 to 11; the other steps are as they were
    testing.write_catalog(tmp_path / "made", [replace(s, data=far) if s is SCENES[3] else s for s in SCENES])
    machine(catalogs=tmp_path)
    random = np.random.default_rng(0)
    sample = random.normal(6, 3, (20_000, 1))
    record = domain.fit(sample, sample[::-1], months=(5,), platforms=())
    said = geoml.predict(
        recipe(model(tmp_path, domain=record), tmp_path / "made" / "catalog.json", block_size=256), tmp_path / "out"
    )
    unlike = SEEN[SCENES_OF[3]] & (far[0] == 200)
    assert 0 < unlike.sum() < (COUNT > 0).sum() / 2
    found = part(tmp_path / "out", "domain")
    assert (found[COUNT == 0] == NODATA).all()
    np.testing.assert_array_equal((found < OUTSIDE) & (COUNT > 0), unlike)
    assert said["domain"]["outside"] == pytest.approx(unlike.sum() / (COUNT > 0).sum(), abs=1e-5)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_files(
    made: Path, tmp_path: Path, cli: Callable[..., Any], kill: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    package, box = model(tmp_path, "mean"), [f"{v:.9f}" for v in SCENES[0].bbox()]
    words = ["predict", "--model", package, "--catalog", "made", "--bbox", *box, "--block-size", "64"]
    words += [w for month in MONTHS for w in ("--datetime", month)]
    assert cli(*words, "--out", tmp_path / "whole").exit_code == 0
    killed = tmp_path / "killed"
    kill([*words, "--out", killed], killed, PYTHONPATH=str(LOOKS))
    assert not (killed / "run.json").exists()
    assert cli(*words, "--out", killed).exit_code == 0
    one, two = (testing.tree(tmp_path / name) for name in ("whole", "killed"))
    two = {k: v for k, v in two.items() if not k.endswith(".part")}
    assert one.keys() == two.keys()
    assert {k for k in one if one[k] != two[k]} <= {"run.json", "report.html"}
