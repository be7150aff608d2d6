"""The record that training leaves, and what the numbers of a run say of their unit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest

from geoml.cube.domain import fit as record
from geoml.cube.domain import likeness
from geoml.data.chips import Reader
from geoml.data.prepare import prepare
from geoml.data.recipe import TrainRecipe
from geoml.engine.packages import cards, package
from geoml.engine.run.domain import level_of, measured, of_pixels, wrong_unit
from geoml.engine.train.fit import fit
from geoml.io.cards.domain import LEVELS, OUTSIDE
from geoml.io.cards.map_card import MapCard
from geoml.io.stac.item_summary import ItemSummary
from geoml.io.stores.store import sha256
from geoml.testing import card


def test_training_leaves_a_record_and_a_finished_package_gets_one(
    problem: Callable[..., TrainRecipe], tmp_path: Path
) -> None:
    recipe = problem(epochs=1)
    made = fit(recipe, tmp_path / "model")
    assert made.domain is not None
    assert cards.read(tmp_path / "model", MapCard) == made
    assert made.domain.threshold < made.domain.middle

    weights = sha256(tmp_path / "model" / made.weights)
    cards.write(made.model_copy(update={"domain": None}), tmp_path / "model")
    again = fit(recipe, tmp_path / "model")
    assert again == made
    assert sha256(tmp_path / "model" / made.weights) == weights == made.sha256


def test_the_record_is_of_the_valid_pixels_of_train_and_its_threshold_of_val(
    problem: Callable[..., TrainRecipe],
) -> None:
    recipe = problem()
    splits, reader = prepare(recipe), Reader()
    found = measured(splits, recipe, reader)
    values = {
        name: np.concatenate([reader(p.scene).image[:, reader(p.scene).valid] for p in splits[name]], axis=1)
        for name in ("train", "val", "test")
    }
    assert (found.pixels, found.held_out) == (values["train"].shape[1], values["val"].shape[1])
    np.testing.assert_allclose(found.quantiles, np.quantile(values["train"], LEVELS, axis=1).T, rtol=1e-4)
    for name, most in (("val", 0.011), ("test", 0.05)):
        image = values[name][:, None]
        alike = likeness(found, image, np.ones(image.shape[1:], bool), (1, 1), (0, 0))
        assert (alike < OUTSIDE).mean() < most
    other = likeness(
        found, values["test"][::-1, None] * 1.5, np.ones((1, values["test"].shape[1]), bool), (1, 1), (0, 0)
    )
    assert (other < OUTSIDE).mean() > 0.2


@pytest.mark.parametrize(
    ("times", "wrong"),
    [
        ((1.0, 1.1, 0.9), False),
        ((10_000.0, 9_000.0, 12_000.0), True),  # raw numbers of reflectance
        ((100.0, 99.0, 101.0), True),
        ((1e-4, 1e-4, 2e-4), True),  # reflectance for a model of raw numbers
        ((0.3, 0.05, 0.001), False),  # deep water: dark, but not in every band
        ((6.0, 8.0, 12.0), False),  # snow
        ((1.0, 1.0, 10_000.0), False),  # one odd band is unlike, its unit is not said to be
        ((), False),
    ],
)
def test_another_unit_is_told_from_another_scene(times: tuple[float, ...], wrong: bool) -> None:
    made: MapCard = card("m", ("red", "green", "blue"), ("a", "b"))
    text = wrong_unit(times, made)
    assert bool(text) is wrong
    if wrong:
        assert f"red {times[0]:.3g}, green {times[1]:.3g}, blue {times[2]:.3g}" in text


def test_the_share_of_a_run_is_a_sum_of_integers_and_null_where_a_block_lacks_it() -> None:
    def whole(*blocks: tuple[int, int | None]) -> ItemSummary:
        found = ItemSummary()
        for valid, outside in blocks:
            counts = {"geoml:asked_pixels": valid, "geoml:valid_pixels": valid, "geoml:outside_pixels": outside}
            times = {"datetime": "2020-01-01T00:00:00Z"}
            found.add({"id": "a", "bbox": [0, 0, 1, 1], "assets": {}, "properties": {**counts, **times}})
        return found

    def said(found: ItemSummary) -> object:
        return of_pixels(found.unlike, found.valid)

    assert said(whole((100, 10), (300, 90))) == {"outside": 0.25, "verdict": "partly"}
    assert said(whole((100, None), (300, 10))) is None
    assert said(whole((100, 10), (300, None))) is None
    assert said(whole((0, 0))) is None


def test_a_compared_model_keeps_the_record_of_its_segmentation(tmp_path: Path) -> None:
    from geoml.engine.packages.compare import compare
    from geoml.testing import constant_model

    values = np.random.default_rng(0).random((500, 2))
    constant_model(tmp_path, ("red", "nir"), ("a", "b"), 1, domain=record(values, values))
    loaded = package.load(tmp_path)
    assert compare(loaded, binary=True).card.domain == loaded.card.domain is not None


def test_the_shipped_model_has_the_record_of_its_recipe() -> None:
    """``geoml train`` of its recipe, with its folder as ``--out``, adds one that was lost."""
    found = cards.read("demo-itaipu", MapCard)
    assert found.domain is not None
    assert (found.domain.months, found.domain.platforms) == ((5,), ("landsat-8",))
    for band, quantiles in zip(found.bands, found.domain.quantiles, strict=True):
        assert quantiles[0] < band.mean < quantiles[-1]


@pytest.mark.parametrize(
    ("stated", "collection", "level"),
    [
        ("L1C", None, "L1C"),
        ("l2a", "sentinel-2-l1c", "L2A"),  # the item knows better
        (None, "sentinel-2-l1c", "L1C"),
        ("L2", "sentinel-2-c1-l2a", "L2A"),
        ("L4", "landsat-c2-l2", None),
        (None, None, None),
    ],
)
def test_the_level_is_what_an_item_or_its_collection_states(
    stated: str | None, collection: str | None, level: str | None
) -> None:
    properties = {} if stated is None else {"processing:level": stated}
    when = datetime(2024, 5, 1, tzinfo=UTC)
    item = pystac.Item("i", None, None, when, properties, collection=collection)
    assert level_of(item) == level
