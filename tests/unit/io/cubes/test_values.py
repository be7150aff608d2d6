"""Numbers of files as physical values."""

from __future__ import annotations

import numpy as np
import pytest

from geoml.errors import DataError, InputError
from geoml.io.cubes.values import physical, rain_rate
from tests.made_cubes import spec


def values(numbers: list[float], dtype: str = "uint8", **changes: object) -> list[float]:
    data = np.array(numbers, dtype)
    return [float(v) for v in physical(data, np.ones(data.shape, bool), spec("GeoTIFF", **changes))]


def test_reflectivity_becomes_rain() -> None:
    """Z = 200 R^1.6: 23 dBZ is 1 mm/h, more than 53 dBZ is hail."""
    z = 200 * np.array([0.1, 1, 10, 50]) ** 1.6
    np.testing.assert_allclose(rain_rate(10 * np.log10(z)), [0.1, 1, 10, 50], rtol=1e-12)
    np.testing.assert_array_equal(rain_rate(np.array([53.0, 60, 95])), [rain_rate(np.array([53.0]))[0]] * 3)


def test_dry_and_missing_are_two_things() -> None:
    made = values(
        [0, 64, 110, 255], file_unit="dBZ", conversion="dbz", scale=0.5, offset=-32, missing=[255], undetected=0
    )
    np.testing.assert_allclose(made, [0, (1 / 200) ** (1 / 1.6), (10**2.3 / 200) ** (1 / 1.6), np.nan], rtol=1e-6)


def test_an_amount_of_five_minutes_becomes_a_rate() -> None:
    made = values([0, 72, 65535], "uint16", file_unit="mm", conversion="rate", scale=0.01, missing=[65535], step="PT5M")
    np.testing.assert_allclose(made, [0, 8.64, np.nan], rtol=1e-6)
    np.testing.assert_allclose(values([0.002], "float32", file_unit="m", conversion="rate"), [2.0], rtol=1e-6)


def test_units_are_converted() -> None:
    np.testing.assert_allclose(values([0.001], "float64", file_unit="kg m-2 s-1"), [3.6], rtol=1e-6)
    made = values([273.15], "float32", file_unit="K", unit="degC", name="air_temperature", plausible=[-90, 60])
    np.testing.assert_allclose(made, [0], atol=1e-4)


def test_infinite_and_what_the_file_excludes_are_missing() -> None:
    data = np.array([1, np.inf, -np.inf, np.nan, 5], np.float32)
    made = physical(data, np.array([True, True, True, True, False]), spec("GeoTIFF"))
    np.testing.assert_array_equal(made, np.array([1, np.nan, np.nan, np.nan, np.nan], np.float32))


def test_a_scale_beyond_all_is_no_missing_data() -> None:
    with pytest.raises(DataError, match=r"2 values of rainfall_rate are beyond 1e\+30; is scale 1e\+300 right"):
        values([1, 2, 0], scale=1e300)


def test_a_number_of_single_precision_is_found_by_its_text() -> None:
    assert np.isnan(values([1e20, 3.0], "float32", missing=[1e20])).tolist() == [True, False]
    assert np.isnan(values([0.1, 3.0], "float64", missing=[0.1])).tolist() == [True, False]


def test_kelvin_under_a_tag_of_celsius_is_refused_by_range() -> None:
    with pytest.raises(DataError, match=r"2 of 3 values of air_temperature are not plausible, such as 280.9 degC"):
        values([280.9, 270, 20], "float32", name="air_temperature", file_unit="degC", unit="degC", plausible=[-90, 60])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"unit": "K"}, "unit"),
        ({"conversion": "dbz"}, "file_unit"),
        ({"conversion": "rate", "file_unit": "mm", "step": "P1M"}, "conversion"),
        ({"plausible": [1, 0]}, "plausible"),
        ({"step": "5 minutes"}, "step"),
        ({"time": {"source": "axis"}}, "time.source"),
        ({"time": {"source": "name"}}, "time.pattern"),
        ({"time": {"source": "name", "pattern": "%Y%Y"}}, "time.pattern"),
        ({"time": {"source": "name", "pattern": "%Y%"}}, "time.pattern"),
        ({"files": "../*.tif"}, "files"),
        ({"files": "/*.tif"}, "files"),
        ({"step": "P99999999Y"}, "step"),
        ({"accumulated": True}, "accumulated"),
        ({"name": "../rain"}, "name"),
        ({"scale": float("nan")}, "scale"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused_by_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=field):
        spec("GeoTIFF", **changes)
