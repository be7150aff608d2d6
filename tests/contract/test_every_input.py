"""What every file in geoml/inputs promises; a new file gets these tests without another edit."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pystac
import pytest
from numpy.typing import NDArray

from geoml import testing
from geoml.engine.contract import INPUTS, Input
from geoml.engine.pixels import Pixels
from geoml.engine.run.plan import Plan, PlannedBlock, Zone
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.io.stac import search as stac
from geoml.recipe import PredictRecipe, parse

EVERY = [n for n in INPUTS.names() if getattr(INPUTS.find(n).Input, "rasters", True)]
"""The files of others have no pixels of the ground."""
BANDS = ("red", "nir")
MONTHS = [f"2023-{m:02d}" for m in range(1, 13)]
SHAPE = (96, 128)
VALUES = np.random.default_rng(0).integers(500, 6000, (12, 2, *SHAPE), np.uint16)
SEEN = np.random.default_rng(1).random((12, *SHAPE)) < 0.8
SEEN[:, :10] = False
SEEN[:, 50:60] = True
SCENES = [
    testing.Scene(
        id=f"look-{n + 1:02d}",
        data=np.where(SEEN[n], VALUES[n], np.uint16(0)),
        bands=BANDS,
        scale=1e-4 * (1 + n % 2),
        datetime=f"{MONTHS[n]}-11T12:00:00Z",
    )
    for n in range(12)
]
WHOLE = SCENES[0].window


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return testing.write_catalog(tmp_path_factory.mktemp("year") / "made", SCENES)


Made = tuple[Input, Plan, list[pystac.Item]]


@pytest.fixture(params=EVERY)
def made(request: pytest.FixtureRequest, catalog: Path) -> Made:
    """An input of a file, a plan of one block for it, and the items of its dates."""
    file = INPUTS.find(request.param)
    card = testing.card("made", BANDS, ("a", "b"), **file.TINY)
    query = {"catalog": str(catalog), "bbox": SCENES[0].bbox(), "datetime": MONTHS[: card.dates]}
    recipe = parse(PredictRecipe, {"model": "m", "block_size": 4096, "max_shift": 0, "query": query}, "made")
    read = {str(i.id): i for i in stac.search(stac.open_catalog(str(catalog)), recipe.query, SCENES[0].outline, "2023")}
    items = [read[scene.id] for scene in SCENES[: card.dates]]
    plan = Plan(
        recipe=recipe,
        hash="abc" * 8,
        model_path="m",
        card=card,
        collection="made",
        zones=(Zone(crs=SCENES[0].crs, res=10.0, anchor=0.0, part="POLYGON EMPTY"),),
        blocks=(PlannedBlock(zone=0, iy=WHOLE.y0 // 4096, ix=WHOLE.x0 // 4096, items=(), hash="abc"),),
        dates=tuple((i.id,) for i in items) if card.dates > 1 else (),
    )
    return file.Input(card, recipe), plan, items


@pytest.fixture
def read(made: Made) -> Callable[..., Pixels]:
    made_input, plan, items = made

    def run(window: Window = WHOLE, plan: Plan = plan) -> Pixels:
        return made_input.read(plan, items, plan.block(plan.blocks[0]), window).pixels

    return run


@pytest.mark.parametrize("name", EVERY)
def test_says_what_it_is(name: str) -> None:
    file = INPUTS.find(name)
    assert file.__doc__
    found = file.Input(testing.card("made", BANDS, ("a", "b"), **file.TINY))
    assert isinstance(found, Input)
    assert isinstance(found.every, bool)
    assert isinstance(found.fits, bool)


def test_asks_for_the_dates_of_the_card_in_order(made: Made) -> None:
    found, plan, _ = made
    when = MONTHS[: plan.card.dates]
    found.check(when)
    for wrong in ([], [*when, "2024"], when[::-1] if len(when) > 1 else []):
        with pytest.raises(InputError, match="datetime"):
            found.check(wrong)


def test_a_monitor_knows_what_days_are_compared_with_or_is_refused(made: Made) -> None:
    found, plan, _ = made
    when = MONTHS[: plan.card.dates]
    with suppress(InputError):
        reference = found.reference(when)
        assert reference is None or reference in when


def test_every_window_shows_the_same_pixels(read: Callable[..., Pixels]) -> None:
    whole = read()
    assert whole.origin == WHOLE
    assert whole.valid.any()
    y, x = WHOLE.y0, WHOLE.x0
    for window in (Window(y + 5, x + 7, y + 61, x + 90), Window(y + 50, x, y + 51, x + 128)):
        part, same = read(window), whole.crop(window)
        assert (part.scale, part.offset, part.months) == (same.scale, same.offset, same.months)
        assert part.data.dtype == same.data.dtype
        np.testing.assert_array_equal(part.data, same.data)
        np.testing.assert_array_equal(part.count, same.count)
        np.testing.assert_array_equal(part.place(), same.place())
        if same.looks is not None:
            np.testing.assert_array_equal(part.looks, same.looks)


def test_has_the_channels_of_all_dates_in_physical_values(read: Callable[..., Pixels], made: Made) -> None:
    found, plan, _ = made
    pixels, dates = read(), plan.card.dates
    assert len(pixels.data) == len(pixels.scale) == len(pixels.offset) == dates * len(BANDS)
    assert pixels.count.dtype == np.uint16
    looks: NDArray[np.bool_] = np.stack([pixels.valid] * dates) if pixels.looks is None else pixels.looks
    assert looks.shape == (dates, *SHAPE)
    assert not (looks & ~SEEN[:dates]).any(), "what is not there is not seen"
    np.testing.assert_array_equal(looks.any(0), pixels.valid)
    if pixels.looks is not None:
        np.testing.assert_array_equal(pixels.count, looks.sum(0))
        assert len(pixels.months) == dates
    assert set(pixels.months) <= set(range(12))
    assert not found.every or (pixels.valid == SEEN[:dates].all(0)).all()
    physical = pixels.physical().reshape(dates, len(BANDS), *SHAPE)
    for n in range(dates):
        truth = VALUES[n] * np.float32(SCENES[n].scale)
        np.testing.assert_allclose(physical[n][:, looks[n]], truth[:, looks[n]], rtol=1e-6)


def test_nothing_is_known_where_no_item_is(read: Callable[..., Pixels]) -> None:
    away = Window(WHOLE.y0 - 300, WHOLE.x0, WHOLE.y0 - 280, WHOLE.x0 + 30)
    pixels = read(away)
    assert not pixels.valid.any()
    assert pixels.data.shape[1:] == (20, 30)


def test_a_date_without_an_item_is_no_look_where_not_every_date_is_needed(
    read: Callable[..., Pixels], made: Made
) -> None:
    found, plan, _ = made
    if found.every:
        return
    gone = plan.card.dates // 2
    without = plan.model_copy(update={"dates": tuple(() if n == gone else d for n, d in enumerate(plan.dates))})
    before, after = read(), read(plan=without)
    assert before.looks is not None
    assert after.looks is not None
    assert not after.looks[gone].any()
    others = np.arange(plan.card.dates) != gone
    np.testing.assert_array_equal(after.looks[others], before.looks[others])
    np.testing.assert_array_equal(after.count, before.looks[others].sum(0))


def test_the_steps_of_a_sample_are_of_one_date_each(made: Made) -> None:
    found, plan, items = made
    block = plan.block(plan.blocks[0])
    steps = found.steps(plan, items, block.plane, WHOLE)
    assert len(steps) == plan.card.dates
    assert {len(s.data) for s in steps} == {len(BANDS)}
    together = found.together(steps)
    np.testing.assert_array_equal(together.valid, found.read(plan, items, block, WHOLE).pixels.valid)
    fit = found.fit(plan, [steps])
    assert [len(square) for square in fit.squares] == [plan.card.dates]


def test_pictures_are_of_one_date_and_what_it_says_is_plain(made: Made) -> None:
    found, plan, items = made
    block = found.read(plan, items, plan.block(plan.blocks[0]), WHOLE)
    thin = block.pixels.thinned(3)
    pictures = found.pictures(thin)
    assert "preview" in pictures
    for picture in pictures.values():
        assert picture.data.shape == (len(BANDS), *thin.count.shape)
        picture.coefficients(plan.card.model_copy(update={"dates": 1}))
    assert len(block.dates) == plan.card.dates
    assert {i.id for those in block.dates for i in those} == {i.id for i in items}
    json.dumps(dict(block.properties))
    assert all(isinstance(words, str) for words in found.warnings(plan))
    assert replace(thin, looks=None).valid.shape == thin.valid.shape
