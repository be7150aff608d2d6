"""Rows of answers: the file against geopandas and the OGC validator; rounding leaves no column that tells the place."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import InputError
from geoml.geolocation.rows import schema as geolocations
from geoml.geolocation.rows.schema import SCHEMA, exif_flag, half_diagonal, round_to, rounded, write
from geoml.grid import sphere
from tests.geolocation_rows import read

BALL = pyproj.Geod(a=6371008.8, b=6371008.8)
LON, LAT = st.floats(-180, 180), st.floats(-90, 90)


def row(lon: float = 16.372, lat: float = 48.208, **changes: Any) -> dict[str, Any]:
    """A full row, with traces of its place in every column that could hold one."""
    return {
        "image_id": "a.jpg",
        "source_uri": "pictures/a.jpg",
        "sha256": "0" * 64,
        "status": "ok",
        "lon": lon,
        "lat": lat,
        **{f"p_within_{km}km": 1 - math.exp(-km / (100 + lat)) for km in (1, 25, 200, 750, 2500)},
        "radius_50_km": 20.0 + lat / 100,
        "radius_90_km": 80.0 + lon / 100,
        "area_90_km2": 3000.0 + lon,
        "entropy": 2 + lat,
        "expected_geoscore": 4000.0 + lat / 10,
        "localizable": True,
        "reason": None,
        "topk": [
            {
                "rank": 1,
                "lon": lon,
                "lat": lat,
                "p": 0.6,
                "cell_id": "0123012301",
                "country": "AT",
                "admin1": "09",
                "name": "Vienna",
            },
            {
                "rank": 2,
                "lon": lon,
                "lat": lat,
                "p": 0.2,
                "cell_id": "0123",
                "country": "AT",
                "admin1": "",
                "name": "x",
            },
        ],
        "cells": [{"cell_id": "0123012301", "level": 10, "p": 0.6}],
        "exif_lon": lon,
        "exif_lat": lat,
        "neighbours": [{"image_id": "b", "score": 0.9, "lon": lon, "lat": lat}],
        "model_id": "m",
        "model_sha256": "1" * 64,
        "gallery_sha256": "2" * 64,
        "calibration_id": "c",
        "disclosed_precision": "exact",
        "run_id": "r",
        "created": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        **changes,
    }


def test_the_file_conforms_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conforms: Callable[[Path], bool]
) -> None:
    monkeypatch.setattr(geolocations, "ROW_GROUP", 3)
    rows = [
        row(),
        {"image_id": "b", "status": "unreadable", "reason": "empty: it has no bytes"},
        {"image_id": "c", "status": "abstained", "reason": "flat", "p_within_750km": 0.1},
        row(179.5, -17.0, image_id="d"),
        {"image_id": "e", "status": "refused", "reason": "href"},
    ]
    path = tmp_path / "out.parquet"
    assert write(iter(rows), path) == 5
    assert conforms(path)
    frame = geopandas.read_parquet(path)
    assert frame.crs == "OGC:CRS84"
    assert frame["image_id"].tolist() == ["a.jpg", "b", "c", "d", "e"]
    assert [None if g is None else (g.x, g.y) for g in frame.geometry] == [
        (16.372, 48.208),
        None,
        None,
        (179.5, -17.0),
        None,
    ]
    back = read(path)
    assert back[0]["topk"] == rows[0]["topk"]
    assert (back[0]["exif_flag"], back[0]["exif_error_km"]) == ("agree", 0)
    assert [r["exif_flag"] for r in back] == ["agree", "absent", "absent", "agree", "absent"]
    assert pq.read_metadata(path).num_row_groups == 2
    told = json.loads(pq.read_metadata(path).metadata[b"geo"])["columns"]["geometry"]
    assert told["bbox"] == [16.372, -17.0, 179.5, 48.208]


def test_no_rows_and_no_answers(tmp_path: Path) -> None:
    assert write([], tmp_path / "none.parquet") == 0
    assert read(tmp_path / "none.parquet") == []
    write([{"image_id": "b", "status": "refused"}], tmp_path / "one.parquet")
    assert geopandas.read_parquet(tmp_path / "one.parquet").geometry.isna().all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "fine"}, "status"),
        ({"lon": math.nan}, "finite"),
        ({"lon": 190.0}, "degrees"),
        ({"lat": None}, "degrees"),
        ({"colour": 1}, "unknown columns colour"),
        ({"status": "refused"}, "has an answer"),
        ({"exif_flag": "maybe"}, "exif_flag"),
        ({"topk": [{"rank": "x"}]}, "schema"),
    ],
)
def test_a_wrong_row_leaves_no_file(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        write([row(), {**row(), **changes}], tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


@given(LON, LAT, LON, LAT)
def test_the_flag_compares_with_the_radius(lon: float, lat: float, x: float, y: float) -> None:
    km = BALL.inv(lon, lat, x, y)[2] / 1000
    for radius, expected in ((km * 1.001 + 0.01, "agree"), (max(0.0, km * 0.999 - 0.01), "suspicious")):
        flag, found = exif_flag({"lon": lon, "lat": lat, "exif_lon": x, "exif_lat": y, "radius_90_km": radius})
        assert found == pytest.approx(km, abs=0.01)
        if km > 1:
            assert flag == expected
    assert exif_flag({"lon": lon, "lat": lat}) == ("absent", None)


@given(LON, LAT, st.sampled_from([10.0, 25.0, 50.0, 500.0, 3000.0]))
def test_cells_are_about_as_wide_as_asked(lon: float, lat: float, km: float) -> None:
    x, y = round_to(lon, lat, km)
    assert np.all(round_to(x, y, km) == np.array([x, y]))  # the middle of a cell lies in it
    half = half_diagonal(float(y), km)
    assert sphere.distance(lon, lat, x, y) <= half * (1 + 1e-9)
    if abs(lat) < 85 and km <= 500:
        assert half < 0.85 * km
    assert half >= 0.45 * km
    assert np.all(round_to(lon + 360, lat, km)[1] == y)


def test_no_cell_is_cut_at_the_antimeridian() -> None:
    for km in (25.0, 333.0):
        lat = np.linspace(-89, 89, 90)
        x, _ = round_to(180.0, lat, km)
        west, _ = round_to(-180.0, lat, km)
        np.testing.assert_array_equal(x, west)
        east, _ = round_to(180 - 1e-9, lat, km)
        np.testing.assert_allclose(east, -x)
    with pytest.raises(InputError, match="positive"):
        round_to(0, 0, 0)


def leaves(value: Any, at: str = "") -> dict[str, Any]:
    """Every number and text of a row, by its path."""
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in leaves(inner, f"{at}/{name}").items()}
    if isinstance(value, list):
        return {k: v for n, inner in enumerate(value) for k, v in leaves(inner, f"{at}[{n}]").items()}
    return {at: value}


@given(st.floats(-179, 179), st.floats(-80, 80), st.floats(0, 1), st.floats(0, 1), st.sampled_from([25.0, 50.0]))
def test_two_answers_of_one_region_differ_in_no_position(lon: float, lat: float, u: float, v: float, km: float) -> None:
    """The invariant over all columns: only probabilities far wider than a cell tell places in it apart."""
    x, y = (float(a) for a in round_to(lon, lat, km))
    one, other = row(x, y), row(x + (u - 0.5) * 0.2, y + (v - 0.5) * 0.2)
    if tuple(map(float, round_to(other["lon"], other["lat"], km))) != (x, y):
        return
    a, b = leaves(rounded(one, km)), leaves(rounded(other, km))
    differ = {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)}
    for name in [n for n in differ if n.startswith("/p_within")]:
        assert a[name] == round(a[name], 2)
    differ -= {"/expected_geoscore"}  # in steps of ten
    assert differ <= {
        "/p_within_200km",
        "/p_within_750km",
        "/p_within_2500km",
        "/radius_50_km",
        "/radius_90_km",
        "/area_90_km2",
    }
    for name in differ & {"/radius_50_km", "/radius_90_km", "/area_90_km2"}:  # steps, never digits
        assert (a[name] / (km * km if "area" in name else km)) % 1 == pytest.approx(0, abs=1e-9)


@given(LON, LAT, st.sampled_from([25.0, 50.0, 200.0]))
def test_no_number_of_a_rounded_row_is_a_fine_one(lon: float, lat: float, km: float) -> None:
    exact = row(lon, lat)
    out = rounded(exact, km)
    places = [
        (out["lon"], out["lat"]),
        (out["exif_lon"], out["exif_lat"]),
        *((c["lon"], c["lat"]) for c in out["topk"]),
    ]
    for place in places:
        assert tuple(map(float, round_to(*place, km))) == place
    assert out["cells"] is out["neighbours"] is out["entropy"] is None
    assert all(c["cell_id"] is c["admin1"] is c["name"] is None for c in out["topk"])
    assert out["disclosed_precision"] == f"region:{km:g}"
    away = float(sphere.distance(lon, lat, out["lon"], out["lat"]))
    for name in ("radius_50_km", "radius_90_km"):  # the true region still lies in what is told
        assert out[name] >= exact[name] + away - 1e-6
        assert out[name] >= half_diagonal(out["lat"], km)
    assert out["area_90_km2"] >= km * km
    assert out["p_within_1km"] is None
    assert out["p_within_25km"] is None
    assert [c["rank"] for c in out["topk"]] == [1]
    assert out["topk"][0]["p"] == pytest.approx(0.8)
    assert set(out) <= set(SCHEMA.names)


def test_a_row_without_an_answer_is_rounded_too(tmp_path: Path) -> None:
    out = rounded({"image_id": "a", "status": "abstained", "exif_lon": 16.372, "exif_lat": 48.208}, 50)
    assert (out["exif_lon"], out["exif_lat"]) == tuple(map(float, round_to(16.372, 48.208, 50)))
    assert out["lon"] is None
    assert write([out, rounded(row(), 50)], tmp_path / "out.parquet") == 2
