"""Units: spellings, conversions against double precision, and where items, catalogs and cards say them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from geoml import testing
from geoml.io.cards import mlm
from geoml.io.cards.map_card import Band, MapCard
from geoml.io.stac.bands import band_specs
from geoml.io.stac.catalog import BandMeta, Catalog, Profile, open_catalog
from geoml.io.unit_names import SPELLINGS, unit
from geoml.io.units import convert, describe, differ, mismatch


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dB", "dB"), ("DB", "dB"), (" decibel ", "dB"), ("B[10]", "dB"), ("1", "1"), (1, "1"), (1.0, "1"),
        ("linear_power", "linear power"), ("Linear  Power", "linear power"), ("kelvin", "K"), ("K", "K"),
        ("Cel", "degC"), ("°C", "degC"),
        ("Reflectance", "reflectance"), ("surface reflectance", "reflectance"), ("DN", "DN"),
        ("metre", "m"), ("%", "percent"), ("W/(m^2 sr um)", "W/(m^2 sr um)"), ("", None), ("unknown", None),
        (None, None), (True, None), (7, None), ("a" * 81, None), ("d\nB", None),
        (["dB"], None), ({}, None), (float("nan"), None),
    ],
)  # fmt: skip
def test_spellings(text: object, name: str | None) -> None:
    assert unit(text) == name


@given(
    st.one_of(st.none(), st.text(max_size=90), st.floats(), st.integers(), st.binary(max_size=5), st.lists(st.text()))
)
def test_any_value_is_a_unit_or_none_and_its_name_means_itself(value: object) -> None:
    name = unit(value)
    assert name is None or unit(name) == name


EXACT = {
    ("linear power", "dB"): lambda v: 10 * math.log10(v),
    ("dB", "linear power"): lambda v: 10 ** (v / 10),
    ("amplitude", "dB"): lambda v: 20 * math.log10(v),
    ("dB", "amplitude"): lambda v: 10 ** (v / 20),
    ("amplitude", "linear power"): lambda v: v * v,
    ("amplitude", "1"): lambda v: v * v,
    ("percent", "1"): lambda v: v / 100,
    ("1", "dB"): lambda v: 10 * math.log10(v),
    ("dB", "1"): lambda v: 10 ** (v / 10),
    ("K", "degC"): lambda v: v - 273.15,
    ("degC", "K"): lambda v: v + 273.15,
    ("percent", "reflectance"): lambda v: v / 100,
    ("reflectance", "percent"): lambda v: v * 100,
    ("1", "reflectance"): lambda v: v,
    ("1", "linear power"): lambda v: v,
    ("dB", "dB"): lambda v: v,
    ("m", "mm"): lambda v: v * 1000,
    ("mm", "m"): lambda v: v / 1000,
    ("mm", "kg m-2"): lambda v: v,
    ("kg m-2", "m"): lambda v: v / 1000,
    ("mm/h", "kg m-2 s-1"): lambda v: v / 3600,
    ("kg m-2 s-1", "mm/h"): lambda v: v * 3600,
    (None, "dB"): lambda v: v,
    ("dB", None): lambda v: v,
}


@pytest.mark.parametrize("pair", EXACT)
@given(values=st.lists(st.floats(2**-10, 100, width=32), min_size=1, max_size=5))
def test_conversions_are_arithmetic(pair: tuple[str, str], values: list[float]) -> None:
    found = convert(np.array(values, np.float32), *pair)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [EXACT[pair](v) for v in values], rtol=3e-6, atol=2e-5)
    assert mismatch("vv", {u for u in pair[:1] if u}, pair[1]) is None


def test_every_other_pair_is_refused() -> None:
    for one in [*SPELLINGS, "W/m2"]:
        for two in [*SPELLINGS, "W/m2"]:
            known = one == two or (one, two) in EXACT or (two, one) in EXACT
            assert (mismatch("vv", {one}, two) is None) is known, (one, two)
            if not known:
                assert differ(one, two)
                with pytest.raises(ValueError, match="cannot be made"):
                    convert(np.ones(1, np.float32), one, two)


def test_what_has_no_logarithm_is_not_finite() -> None:
    found = convert(np.array([0, -1, np.nan, 1], np.float32), "linear power", "dB")
    assert np.isfinite(found).tolist() == [False, False, False, True]


def test_data_in_two_units_need_a_model_that_says_its_own() -> None:
    assert "does not state" in str(mismatch("vv", {"dB", "linear power"}, None))
    assert mismatch("vv", {"dB", "linear power"}, "dB") is None
    assert mismatch("red", {"1", "reflectance"}, None) is None
    assert "converted to dB" in describe(["linear power", "dB"], "dB")
    assert describe(["dB"], "dB") == "dB"
    assert "not known" in describe([None], "dB")
    assert "not known" in describe(["dB"], None)


# ---- where it is said


def spec_unit(asset: dict[str, Any], meta: BandMeta | None = None) -> str | None:
    when = pystac.utils.str_to_datetime("2024-06-01T00:00:00Z")
    item = pystac.Item("one", None, None, when, {})
    item.add_asset("vv", pystac.Asset("a.tif", media_type=pystac.MediaType.COG, extra_fields=asset))
    profile = Profile(bands={"vv": (meta,)} if meta else {})
    return band_specs(item, profile, Catalog("made", "", "static", remote=False))["vv"].unit


@pytest.mark.parametrize(
    ("asset", "said"),
    [
        ({"bands": [{"name": "vv", "unit": "dB"}]}, "dB"),
        ({"bands": [{"name": "vv"}], "unit": "decibel"}, "dB"),
        ({"eo:bands": [{"name": "vv"}], "raster:bands": [{"unit": "dB"}]}, "dB"),
        ({"bands": [{"name": "vv", "unit": 3}]}, "linear power"),
        ({"bands": [{"name": "vv"}]}, "linear power"),
        ({}, "linear power"),
    ],
)
def test_the_item_says_it_then_the_catalog(asset: dict[str, Any], said: str) -> None:
    assert spec_unit(asset, BandMeta(name="vv", unit="linear")) == said
    assert spec_unit(asset) == (None if said == "linear power" else said)


def test_a_shipped_catalog_knows_its_units() -> None:
    known = {c: p for n in ("earth-search", "planetary-computer", "demo") for c, p in open_catalog(n).profiles.items()}
    units = {(c, m.name): m.unit for c, p in known.items() for metas in p.bands.values() for m in metas}
    assert units["sentinel-1-rtc", "vv"] == units["sentinel-1-rtc", "vh"] == "linear power"
    assert (
        units["hls2-l30", "red"] == units["landsat-itaipu", "red"] == units["sentinel-2-l2a", "swir16"] == "reflectance"
    )
    assert units["landsat-c2-l2", "lwir11"] == "K"
    assert units["naip", "nir"] == "DN"
    silent = {name for (_, name), u in units.items() if u is None}
    assert silent <= {"scl", "qa_pixel", "fmask"}  # no quantity


def test_a_card_carries_it_and_an_old_one_has_no_trace_of_it() -> None:
    made = testing.card("water", [Band(name="vv", unit="decibels"), Band(name="vh")], ["dry", "water"])
    item = mlm.to_item(made)
    assert item.properties["bands"] == item.assets["model"].extra_fields["bands"]
    assert item.properties["bands"] == [{"name": "vv", "unit": "dB"}, {"name": "vh"}]
    assert mlm.from_item(item, MapCard) == made
    assert [b.unit for b in mlm.from_item(item, MapCard).bands] == ["dB", None]
    old = testing.card("water", ["vv", "vh"], ["dry", "water"])
    assert "unit" not in json.dumps(mlm.to_item(old).to_dict()).replace("unitless", "")
    assert mlm.from_item(mlm.to_item(old), MapCard) == old


@pytest.mark.parametrize("value", ["", 7, ["dB"], "a" * 90])
def test_a_unit_of_a_card_that_is_none(value: object) -> None:
    card = testing.card("water", ["vv"], ["dry", "water"]).model_dump()
    card["bands"] = [{"name": "vv", "unit": value}]
    with pytest.raises(ValidationError, match="unit"):
        MapCard.model_validate(card)
