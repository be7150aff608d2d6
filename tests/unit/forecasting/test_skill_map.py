"""Maps of skill: of known errors, honest about few values, on squares of pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from geoml.forecasting.grids.skill_map import LEAST, SkillMap, pictures, squares

SHAPE = (5, 6)


def filled(times: int) -> SkillMap:
    """The model's error is 1 in the west and 4 in the east, that of the simple method 2; one pixel is never known."""
    made = SkillMap(SHAPE, ("PT1H", "PT2H"), ("mine", "persistence"))
    mine = np.where(np.arange(6) < 3, 1.0, 4.0) * np.ones(SHAPE)
    truth = np.zeros(SHAPE, np.float32)
    truth[4, 5] = np.nan
    for _ in range(times):
        made.update(0, [mine.astype(np.float32), np.full(SHAPE, -2, np.float32)], truth)
    return made


def test_skill_is_one_less_the_ratio_of_errors_at_each_place() -> None:
    found = filled(LEAST).skill({"PT1H": "persistence", "PT2H": "persistence"}, "mine")
    np.testing.assert_allclose(found[0, :4, :3], 0.5)
    np.testing.assert_allclose(found[0, :4, 3:], -1.0)
    assert np.isnan(found[0, 4, 5])
    assert np.isnan(found[1]).all(), "nothing was known of it"


def test_few_values_say_nothing_until_squares_are_wide_enough() -> None:
    made = filled(LEAST // 2)
    best = {"PT1H": "persistence"}
    assert np.isnan(made.skill(best, "mine")).all()
    made.widen()
    assert made.side == 2
    found = made.skill(best, "mine")
    assert found.shape == (2, 3, 3)
    assert found[0, 0].tolist() == pytest.approx([0.5, -0.25, -1.0])
    assert np.isnan(found[0, 2, 2]), "cut by the edge, and too few"


def test_where_the_simple_method_is_right_or_one_says_nothing_there_is_no_skill() -> None:
    made = SkillMap((1, 2), ("PT1H",), ("mine", "persistence"))
    for _ in range(LEAST):
        made.update(
            0, [np.array([[1, np.nan]], np.float32), np.zeros((1, 2), np.float32)], np.zeros((1, 2), np.float32)
        )
    assert made.count[0].tolist() == [[LEAST, 0]]
    assert np.isnan(made.skill({"PT1H": "persistence"}, "mine")).all()


def test_squares_add_up_and_are_placed_on_the_grid(tmp_path: Path) -> None:
    values = np.arange(30.0).reshape(SHAPE)
    assert squares(values, 4).sum() == values.sum()
    assert squares(values, 4)[0, 0] == values[:4, :4].sum()
    made = filled(LEAST)
    made.side, made.size = 2, (3, 3)
    box = GeoBox(SHAPE, Affine(10, 0, 500_000, 0, -10, 5_200_000), "EPSG:32633")
    made.write(tmp_path / "x.tif", box, np.full((2, 3, 3), 0.25, np.float32))
    with rasterio.open(tmp_path / "x.tif") as file:
        assert file.transform == Affine(20, 0, 500_000, 0, -20, 5_200_000)
        assert file.descriptions == ("skill PT1H", "skill PT2H")
    (one, _) = pictures({"path": str(tmp_path / "x.tif"), "best": {"PT1H": "persistence"}})
    assert one["title"] == "PT1H"
    assert one["text"] == "better than persistence on 100 % of what is known enough"
