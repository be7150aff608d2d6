"""A recipe of the task retrieval, from made files of two dates to a package whose features an index takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from affine import Affine
from torch import Tensor, nn
from torch.nn import functional

from geoml import pipeline
from geoml.errors import InputError, NothingFound
from geoml.geolocation.locate import locator
from geoml.geolocation.locate.similar import Index
from geoml.geolocation.training import retrieval as fit_years
from geoml.geolocation.training.positives import DateStack
from geoml.geolocation.training.recall import recall
from geoml.geolocation.training.retrieval_recipe import FileYears, RetrievalRecipe, read_stacks
from geoml.recipe import parse
from geoml.testing import write_cog
from geoml.testing.pictures import write

SIDE, GSD, SHAPE = 32, 5.0, (80, 96)
PLACE = Affine(GSD, 0, 486_000, 0, -GSD, 5_209_000)

# affine 3 deprecates the operator that odc-geo 0.5.3 uses for its geoboxes
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three places: ``b`` has one date only, ``c`` lies 10 km east of the others."""
    root = tmp_path_factory.mktemp("years")
    rng = np.random.default_rng(0)
    for name, dates, east in (("a", ("2010", "2015"), 0), ("b", ("2015",), 0), ("c", ("2010", "2015"), 2000)):
        noise = scipy.ndimage.gaussian_filter(rng.normal(size=SHAPE), 2)
        for k, date in enumerate(dates):
            mixed = 120 + (40 - 10 * k) * np.array([1, -1, 0.5]).reshape(3, 1, 1) * noise / noise.std()
            stored = np.clip(mixed, 1, 255).astype(np.uint8)
            write_cog(
                root / f"{name}_{date}.tif", stored, crs="EPSG:32614", transform=PLACE @ Affine.translation(east, 0)
            )
    return root


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    source = {"kind": "files", "root": str(folder), "images": "a_{date}.tif", "dates": ["2010", "2015"]}
    return {
        "tests": [{**source, "images": "c_{date}.tif"}],
        "task": "retrieval",
        "name": "made-years",
        "license": "CC0-1.0",
        "data_license": "CC0-1.0",
        "sources": [{**source, **changes}],
        "training": {"side": SIDE, "steps": 2, "batch": 4, "zoom": [1, 1]},
    }


def test_a_recipe_makes_a_package_whose_features_an_index_takes(folder: Path, tmp_path: Path) -> None:
    told: list[dict[str, float]] = []
    out = pipeline.train(recipe(folder), tmp_path / "model", on_epoch=told.append)
    made = locator.load(out)
    assert made.card.kind == "overhead"
    assert made.card.size == SIDE
    assert made.card.width_km == pytest.approx((SIDE * GSD / 1000,) * 2, rel=2e-3)
    assert made.card.calibration.threshold is None
    stack = read_stacks(parse(RetrievalRecipe, recipe(folder), "recipe").sources[0])[0]
    pictures = [stack.pictures[d, y : y + SIDE, x : x + SIDE] for d in (0, 1) for y in (0, 48) for x in (0, 32, 64)]
    rows = made.extractor(np.stack(pictures))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-2)
    density = made.locate(rows[:6])
    lon, lat = density.mode()
    west, south, east, north = made.card.bbox
    assert ((lon > west - 0.02) & (lon < east + 0.02) & (lat > south - 0.02) & (lat < north + 0.02)).all()
    for k, picture in enumerate(pictures):
        write(tmp_path / f"{k}.png", picture)
    index = Index(tmp_path / "index", made.extractor)
    assert index.add([tmp_path / f"{k}.png" for k in range(6)])["added"] == 6
    found = [index.search(row, 1)[0].image_id for row in rows[:6]]
    assert [Path(name).stem for name in found] == [str(k) for k in range(6)]
    scores = fit_years.score(out, parse(RetrievalRecipe, recipe(folder), "recipe"), queries=12)
    assert scores["sha256"] == made.card.sha256
    assert [(row["reference"], row["query"]) for row in scores["recall"]] == [(0, 1), (1, 0)]
    assert all(0 <= row[k] <= 1 for row in scores["recall"] for k in ("north_up", "any_heading", "chance"))
    assert {row["tiles"] for row in scores["recall"]} == {5 * 6}
    with pytest.raises(InputError, match="tests"):
        pipeline.evaluate(out, {**recipe(folder), "tests": []})


def test_a_test_on_trained_ground_is_a_leak(folder: Path, tmp_path: Path) -> None:
    value = recipe(folder)
    with pytest.raises(InputError, match="leak"):
        pipeline.train({**value, "tests": value["sources"]}, tmp_path)


class Pixels(nn.Module):
    """Coarse pixels, as features whose answer is known."""

    def forward(self, x: Tensor) -> Tensor:
        coarse = functional.adaptive_avg_pool2d(x, 8).flatten(1)
        return functional.normalize(coarse - coarse.mean(1, keepdim=True), dim=1)


def test_recall_counts_what_is_near_and_chance_is_what_a_lot_gives() -> None:
    rng = np.random.default_rng(0)
    noise = scipy.ndimage.gaussian_filter(rng.normal(size=(2, 160, 160, 3)), (0, 6, 6, 0))
    first, strange = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
    pictures = np.stack([first, first // 2 + 50, strange])
    valid = np.ones((3, 160, 160), bool)
    stack = DateStack(pictures, valid, tuple(frozenset({str(k)}) for k in range(3)))
    for turn in (False, True):
        same = recall(Pixels(), stack, (0, 1), SIDE, 60, turn=turn)
        other = recall(Pixels(), stack, (0, 2), SIDE, 60, turn=turn)
        assert same.tiles == 11 * 11
        assert same.at_1 > (0.5 if turn else 0.9)
        assert other.at_1 < 0.1
        # a disc of 8 pixels holds pi * 8**2 / 12**2 tiles that are 12 pixels apart, but for the edges
        assert same.chance == pytest.approx(math.pi * 64 / 144 / 121, rel=0.25)
    valid[1, :, 70:] = False
    part = recall(Pixels(), stack, (0, 1), SIDE, 20, turn=False)
    assert part.queries == 20
    assert part.chance == pytest.approx(same.chance, rel=0.5)
    valid[1] = False
    with pytest.raises(NothingFound, match="both know"):
        recall(Pixels(), stack, (0, 1), SIDE, 2, turn=False)


def test_grounds_are_those_with_two_dates(folder: Path) -> None:
    source = parse(FileYears, recipe(folder)["sources"][0], "source")
    assert len(read_stacks(source)) == 1
    assert len(read_stacks(source.model_copy(update={"images": "{id}_{date}.tif"}))) == 2
    single = source.model_copy(update={"gsd": 10.0})
    assert read_stacks(single)[0].pictures.shape == (2, SHAPE[0] // 2, SHAPE[1] // 2, 3)
    with pytest.raises(NothingFound, match="two of the dates"):
        read_stacks(source.model_copy(update={"images": "b_{date}.tif"}))
    with pytest.raises(InputError, match="date"):
        read_stacks(source.model_copy(update={"images": "{id}.tif"}))


def test_the_shipped_recipe_reads() -> None:
    from geoml.data.recipe import recipe_file
    from geoml.recipe import load_yaml

    found = parse(RetrievalRecipe, load_yaml(recipe_file("naip-years")), "naip-years")
    assert found.hash != found.model_copy(update={"seed": 1}).hash
    assert all("20200831" not in source.dates for source in found.sources)
