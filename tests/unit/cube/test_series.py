"""Series that are refused, each by its field, before a model sees them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from geoml.cube.profile import fit
from geoml.cube.series import Series
from geoml.errors import InputError, ModelError

BANDS = ("red", "nir")
BBOX = (14.0, 46.0, 14.2, 46.3)


def made(**other: Any) -> Series:
    """Three steps of 6 x 8 pixels over `BBOX`: a fifth of the looks are missing and hold NaN."""
    random = np.random.default_rng(0)
    shared = random.normal(0, 0.1, (3, 1, 6, 8))
    values = (10 ** (np.array([-1.1, -0.5])[None, :, None, None] + shared)).astype(np.float32)
    values = values * (1 + 0.02 * random.normal(size=values.shape)).astype(np.float32)
    looks = random.random((3, 6, 8)) < 0.8
    values[np.broadcast_to(~looks[:, None], values.shape)] = np.nan
    lon, lat = np.meshgrid(np.linspace(14.0, 14.2, 8), np.linspace(46.3, 46.0, 6))
    fields = {
        "bands": BANDS, "values": values, "looks": looks, "months": (0, 5, 11),
        "place": np.stack([lon, lat]).astype(np.float32), "level": "L1C",
    }  # fmt: skip
    return Series(**{**fields, **other})


PROFILE = fit(made().values.transpose(0, 2, 3, 1)[made().looks], "made")


def test_a_sound_series_passes_whatever_stands_in_its_gaps() -> None:
    assert np.isnan(made().values).any()
    assert made().check(PROFILE, BBOX, "L1C") == ""


@pytest.mark.parametrize("months", [(0, 5, 12), (-1, 0, 1), (1, 2, 13)])
def test_months_are_0_to_11(months: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"months: .*(12|13|-1).*; expected 0 \(January\) to 11"):
        made(months=months)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("months", (1, 2)),
        ("looks", np.ones((3, 6, 7), np.bool_)),
        ("looks", np.ones((3, 6, 8), np.uint8)),
        ("values", np.ones((3, 3, 6, 8), np.float32)),
        ("values", np.ones((3, 6, 8), np.float32)),
        ("place", np.ones((6, 8), np.float32)),
    ],
)
def test_shapes_that_do_not_fit_are_named(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{field}: "):
        made(**{field: value})


def test_nothing_seen_is_refused_with_how_much() -> None:
    with pytest.raises(InputError, match="looks: none in 3 steps of 6 x 8 pixels"):
        made(looks=np.zeros((3, 6, 8), np.bool_)).check(PROFILE, BBOX)


def test_nan_where_something_is_seen_is_refused_by_band_and_count() -> None:
    series = made()
    values = series.values.copy()
    step, y, x = (int(v[0]) for v in np.nonzero(series.looks))
    values[step, 1, y, x] = np.inf
    with pytest.raises(InputError, match=r"values: not finite .*: 1 in nir; expected looks False there"):
        replace(series, values=values).check(PROFILE)


def test_swapped_places_are_told_from_places_elsewhere() -> None:
    series = made()
    assert series.place is not None
    with pytest.raises(InputError, match=r"place: .*latitude and longitude are swapped"):
        replace(series, place=series.place[::-1]).check(PROFILE, BBOX)
    with pytest.raises(InputError, match=r"place: .* outside of the bbox") as caught:
        replace(series, place=series.place + 5).check(PROFILE, BBOX)
    assert "swapped" not in str(caught.value)
    east = np.stack([series.place[0] + 130, series.place[1]])  # a latitude of 144 degrees, when swapped
    with pytest.raises(InputError, match=r"place: latitudes from 144.*swapped"):
        replace(series, place=east[::-1]).check(PROFILE)
    with pytest.raises(InputError, match="place: not finite"):
        replace(series, place=series.place * np.float32(np.nan)).check(PROFILE)


def test_a_bbox_over_the_antimeridian_holds_what_lies_on_both_sides() -> None:
    series = made()
    assert series.place is not None
    lon = (series.place[0] + 165.9 + 180) % 360 - 180
    place = np.stack([lon, series.place[1]]).astype(np.float32)
    assert lon.min() < 0 < lon.max()
    assert replace(series, place=place).check(PROFILE, (179.8, 46.0, -179.8, 46.3)) == ""


def test_another_unit_and_another_order_are_refused() -> None:
    series = made()
    with pytest.raises(ModelError, match=r"scale: values are 1\.0.e\+04 times"):
        replace(series, values=series.values * 10_000).check(PROFILE)
    with pytest.raises(ModelError, match=r"bands: .*red holds nir, nir holds red"):
        replace(series, values=series.values[:, ::-1]).check(PROFILE)


def test_another_level_is_said() -> None:
    assert "level: L2A given; the model was trained on L1C" in made(level="L2A").check(PROFILE, BBOX, "L1C")
    assert made(level=None).check(PROFILE, BBOX, "L1C") == ""


def test_bands_are_taken_by_name() -> None:
    series = made()
    turned = series.take(["nir", "red"])
    assert np.array_equal(turned.values[:, 0], series.values[:, 1], equal_nan=True)
    with pytest.raises(InputError, match="bands: swir16, swir22 of 3 not among red, nir"):
        series.take(["red", "swir16", "swir22"])
