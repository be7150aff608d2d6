"""Bands by wavelength: arithmetic is the oracle; every refusal names the field and a count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import InputError
from geoml.io import spectrum
from geoml.io.spectrum import Asked, SensorBand, asked, check_plausible, factor, match, mixed, range_of, within

EVERY_10 = tuple(SensorBand(k, 400.0 + 10 * (k - 1), 10.0) for k in range(1, 101))
"""400 to 1390 nm."""


def test_names_say_wavelengths() -> None:
    assert asked("650nm") == Asked(650.0)
    assert asked("842.5nm/115nm") == Asked(842.5, 115.0)
    assert asked("red@665nm/30nm") == Asked(665.0, 30.0, "red")
    assert asked("red") is None
    assert asked("b650") is None
    assert range_of("400nm..900nm") == (400.0, 900.0)
    assert range_of("650nm") is None


@pytest.mark.parametrize("name", ["0.65nm", "65000nm", "650nm/0nm"])
def test_an_impossible_wavelength_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"expected 300 to 15000 nm"):
        asked(name)


@pytest.mark.parametrize("name", ["900nm..400nm", "0.4nm..0.9nm"])
def test_an_impossible_range_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="two rising wavelengths"):
        range_of(name)


def test_the_nearest_band_answers_within_half_its_width() -> None:
    assert match(Asked(652.0), EVERY_10) == ((26, 1.0),)
    assert match(Asked(1395.0), EVERY_10) == ((100, 1.0),)
    with pytest.raises(InputError, match=r"no band at 1396nm; the nearest of 100 is at 1390 nm, 10 nm wide"):
        match(Asked(1396.0), EVERY_10)


def test_without_widths_the_distance_of_bands_counts() -> None:
    lines = [SensorBand(1, 500.0), SensorBand(2, 520.0), SensorBand(3, 600.0)]
    assert match(Asked(509.0), lines) == ((1, 1.0),)
    with pytest.raises(InputError, match="no band at 560nm"):
        match(Asked(560.0), lines)


def test_equally_near_bands_are_refused_with_their_count() -> None:
    with pytest.raises(InputError, match=r"2 bands are equally near to 655nm, at 650, 660 nm"):
        match(Asked(655.0), EVERY_10)
    with pytest.raises(InputError, match=r"2 bands lie at 650 nm"):
        match(Asked(650.0), [*EVERY_10, SensorBand(101, 650.0, 10.0)])


def test_an_exact_name_finds_its_band_beside_a_close_one() -> None:
    """As where the two cameras of EnMAP overlap: 951.677 and 952.355 nm."""
    lines = [SensorBand(1, 952.355, 10.7), SensorBand(2, 951.677, 9.8)]
    assert match(Asked(951.677), lines) == ((2, 1.0),)
    assert match(Asked(952.355, 10.7), lines) == ((1, 1.0),)


@given(st.permutations(EVERY_10), st.floats(500, 1300), st.floats(30, 150))
def test_a_wider_band_is_the_gaussian_mean_whatever_the_order(
    lines: list[SensorBand], centre: float, width: float
) -> None:
    """Of a straight line and of a curve: sums over a fine grid are the oracle."""
    mix = match(Asked(centre, width), lines)
    assert math.isclose(sum(w for _, w in mix), 1.0, abs_tol=1e-9)
    at = {line.index: line.wavelength for line in lines}
    fine = np.arange(300, 1600, 0.5)
    response = np.exp(-4 * math.log(2) * ((fine - centre) / width) ** 2)
    for curve in (lambda w: 0.001 * w, lambda w: np.sin(w / 150)):
        expected = float((curve(fine) * response).sum() / response.sum())
        seen = np.exp(-4 * math.log(2) * ((fine[:, None] - np.array([at[i] for i, _ in mix])) / 10.0) ** 2)
        values = (curve(fine)[:, None] * seen).sum(0) / seen.sum(0)
        # the tail beyond the last band is not seen: at most a few hundredths of the weight
        near_end = centre + 1.3 * width > 1390 or centre - 1.3 * width < 400
        assert abs(float(values @ [w for _, w in mix]) - expected) < (0.06 if near_end else 0.015)


def test_a_gap_is_refused_and_bad_bands_are_one() -> None:
    holed = [SensorBand(o.index, o.wavelength, o.fwhm, bad=640 <= o.wavelength <= 690) for o in EVERY_10]
    with pytest.raises(InputError, match=r"of 94 bands cover \d+% of 665nm/30nm; expected 90%"):
        match(Asked(665.0, 30.0), holed)


def test_a_narrower_band_than_the_sensor_has_is_refused() -> None:
    with pytest.raises(InputError, match=r"650nm/5nm is narrower than the nearest band, 10 nm at 650 nm"):
        match(Asked(650.0, 5.0), EVERY_10)


def test_a_range_is_its_good_bands_by_wavelength() -> None:
    lines = [SensorBand(1, 700.0), SensorBand(2, 500.0), SensorBand(3, 600.0, bad=True), SensorBand(4, 900.0)]
    assert [line.index for line in within(lines, 450, 750)] == [2, 1]
    with pytest.raises(InputError, match=r"0 of 4 lie in 1000nm..1100nm; they lie at 500 to 900 nm"):
        within(lines, 1000, 1100)
    with pytest.raises(InputError, match=r"1 of 4 lie in 590nm..610nm, 1 of them bad"):
        within(lines, 590, 610)


def test_units_have_to_be_said_known_and_one() -> None:
    assert factor(["Nanometers"] * 3, "wavelength_units") == 1
    assert factor(["um", "Micrometers"], "wavelength_units") == 1000
    with pytest.raises(InputError, match=r"wavelength_units: 2 of 3 bands have no unit"):
        factor(["nm", None, " "], "wavelength_units")
    with pytest.raises(InputError, match=r"wavelength_units: 1 of 2 bands have the unit 'Wavenumber'"):
        factor(["nm", "Wavenumber"], "wavelength_units")
    with pytest.raises(InputError, match=r"wavelength_units: 2 bands have 2 units, nm and um"):
        factor(["nm", "um"], "wavelength_units")


def test_numbers_of_another_unit_are_refused_with_their_count() -> None:
    check_plausible([300.0, 15_000.0], "wavelength", "nm")
    with pytest.raises(InputError, match=r"wavelength: 2 of 3 bands lie at no wavelength in nm, the first at 0.45"):
        check_plausible([0.45, 0.65, 700.0], "wavelength", "nm")
    with pytest.raises(InputError, match=r"1 of 1 bands .* in um, the first at 650; expected 0.3 to 15 um"):
        check_plausible([650_000.0], "eo:center_wavelength", "um")


def test_a_bad_band_is_zero_and_has_no_say_unless_all_are() -> None:
    data = np.array([[[1, 2]], [[3, 4]]], np.int16)
    valid = np.array([[[True, False]], [[True, True]]])
    values, ok = mixed(data, valid, [5, 7], [((7, 1.0),), None, ((5, 1.0),)])
    assert values.dtype == np.int16
    np.testing.assert_array_equal(values[:, 0], [[3, 4], [0, 0], [1, 2]])
    np.testing.assert_array_equal(ok.all(0), [[True, False]])
    assert not mixed(data, valid, [5, 7], [None, None])[1].any()
    values, ok = mixed(data, valid, [5, 7], [((5, 0.25), (7, 0.75))])
    np.testing.assert_array_equal(values, [[[2.5, 0.0]]])
    np.testing.assert_array_equal(ok, [[[True, False]]])


def test_spelled_is_read_back() -> None:
    assert asked(spectrum.spelled(418.24, 6.99561)) == Asked(418.24, 6.99561)
