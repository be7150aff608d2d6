"""A mosaic in the model's unit: items in several units become one, and what has no value in it is no data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from geoml import testing
from geoml.cube.load import load
from geoml.errors import InputError
from geoml.grid.plane import Plane
from geoml.grid.region import from_bbox
from geoml.io.stac.catalog import Profile
from geoml.io.stac.search import open_catalog, search
from geoml.recipe import Query

POWER = np.random.default_rng(5).uniform(1e-4, 2, (2, 64, 64)).astype(np.float32)
DECIBELS = (10 * np.log10(POWER.astype(np.float64))).astype(np.float32)


def scene(name: str, data: np.ndarray, unit: str | None, day: int = 1) -> testing.Scene:
    return testing.Scene(
        id=name, data=data, bands=("vv", "vh"), nodata=-9999, scale=1.0, datetime=f"2024-06-0{day}T12:00:00Z",
        properties={"made:unit": unit or ""},
    )  # fmt: skip


def mosaic(folder: Path, scenes: list[testing.Scene], units: list[str | None], composite: str = "first"):
    """(data, valid_count, attrs) on the scenes' own grid."""
    catalog = open_catalog(str(testing.write_catalog(folder / "made", scenes)))
    region = from_bbox(*scenes[0].bbox())
    query = Query(catalog="made", bbox=scenes[0].bbox(), datetime=("2024",))
    items = search(catalog, query, region, "2024")
    for item in items:
        for band in item.assets["image"].extra_fields["bands"]:
            if item.properties["made:unit"]:
                band["unit"] = item.properties["made:unit"]
    first = scenes[0]
    box: GeoBox = Plane(first.crs, first.res).geobox(first.window)
    cube = load(items, ["vv", "vh"], box, profile=Profile(), catalog=catalog, composite=composite, units=units)
    cube = cube.compute(scheduler="synchronous")
    return cube["data"].to_numpy(), cube["valid_count"].to_numpy(), cube["data"].attrs


def test_linear_power_becomes_decibels(tmp_path: Path) -> None:
    power = POWER.copy()
    power[0, :4], power[1, 10], power[0, 20] = 0, -0.5, -9999
    data, count, attrs = mosaic(tmp_path, [scene("a", power, "linear power")], ["dB", "dB"])
    known = (power > 0).all(0)
    np.testing.assert_array_equal(count, known)
    np.testing.assert_allclose(data[:, known], DECIBELS[:, known], atol=2e-5)
    assert (data[:, ~known] == 0).all()
    assert attrs["scale"] == (1.0, 1.0)
    assert data.dtype == np.float32


@pytest.mark.parametrize("composite", ["first", "mean", "median"])
def test_items_in_two_units_agree_and_are_composited_in_the_models(tmp_path: Path, composite: str) -> None:
    both = [scene("a", POWER, "linear power", 1), scene("b", DECIBELS + 2, "dB", 2)]
    data, count, _ = mosaic(tmp_path, both, ["dB", "dB"], composite)
    assert (count == 2).all()
    expected = DECIBELS + (2 if composite == "first" else 1)  # the newest; halfway in decibels
    np.testing.assert_allclose(data, expected, atol=1e-4)
    mixed, _, _ = mosaic(tmp_path, both, ["dB", "linear power"], composite)
    np.testing.assert_allclose(mixed[0], expected[0], atol=1e-4)
    halves = (POWER[1] + 10 ** ((DECIBELS[1] + 2) / 10)) / 2
    np.testing.assert_allclose(mixed[1], 10 ** ((DECIBELS[1] + 2) / 10) if composite == "first" else halves, rtol=1e-5)


def test_without_a_unit_on_one_side_nothing_is_changed(tmp_path: Path) -> None:
    for unit, units in (
        (None, ["dB", "dB"]),
        ("linear power", [None, None]),
        ("dB", ["dB", "dB"]),
        ("1", ["reflectance"] * 2),
    ):
        data, count, _ = mosaic(tmp_path, [scene("a", POWER, unit)], list(units))
        np.testing.assert_array_equal(data, POWER)
        assert (count == 1).all()


def test_units_that_have_nothing_in_common_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="units: band vv is in K, which cannot be made dB"):
        mosaic(tmp_path, [scene("a", POWER, "K")], ["dB", "dB"])
    both = [scene("a", POWER, "linear power", 1), scene("b", DECIBELS, "dB", 2)]
    with pytest.raises(InputError, match="band vv is in dB and in linear power"):
        mosaic(tmp_path, both, [None, None])
