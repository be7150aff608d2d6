"""Zarr stores: read as xarray reads them, but for what is missing or does not fit."""

from __future__ import annotations

import builtins
import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import DataError, GeomlError, MissingExtra
from geoml.io.cubes.cube import open_cube
from tests import made_cubes as made
from tests.made_cubes import frames, spec

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # xarray and zarr warn of what the tests are about

VERSIONS = pytest.mark.parametrize("version", [2, 3])
HOUR = np.timedelta64(3600, "s")
FIRST = np.datetime64("2024-01-01T00", "s")


def chunk(store: Path, step: int, row: int, column: int, name: str = "rain") -> Path:
    """The file of a chunk."""
    old = store / name / f"{step}.{row}.{column}"
    return old if (store / name / ".zarray").exists() else store / name / "c" / str(step) / str(row) / str(column)


@VERSIONS
@pytest.mark.parametrize("up", [True, False])
def test_values_are_those_of_xarray(tmp_path: Path, version: int, up: bool) -> None:
    data = frames()
    rows = np.arange(5_899_500, 5_893_500, -1000)
    path = made.zarr(tmp_path / "a.zarr", data, version=version, y=tuple(rows[::-1] if up else rows))
    with xr.open_zarr(path, consolidated=False) as truth, open_cube(path, spec("Zarr")) as cube:
        np.testing.assert_array_equal(cube.times, truth.time.values.astype("datetime64[s]"))
        for step in range(4):
            there = truth.rain.isel(time=step).sortby("y", ascending=False).values
            np.testing.assert_array_equal(cube.read(step), there)
            np.testing.assert_array_equal(cube.read(step, slice(2, 5), slice(3, 8)), there[2:5, 3:8])
    assert (cube.crs, tuple(cube.transform)[:6]) == ("EPSG:32632", tuple(made.UTM)[:6])


@VERSIONS
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_missing_chunk_is_missing_data_and_no_rain(tmp_path: Path, version: int, dtype: str) -> None:
    path = made.zarr(tmp_path / "a.zarr", frames().astype(dtype), version=version)
    chunk(path, 2, 1, 0).unlink()
    read = open_cube(path, spec("Zarr")).read(2)
    truth = frames()[2].astype(np.float32)
    truth[3:, :4] = np.nan
    np.testing.assert_array_equal(read, truth)
    part = open_cube(path, spec("Zarr")).read(2, slice(2, 4), slice(3, 6))
    np.testing.assert_array_equal(part, truth[2:4, 3:6])


@VERSIONS
def test_a_damaged_chunk_is_an_error_of_its_step(tmp_path: Path, version: int) -> None:
    path = made.zarr(tmp_path / "a.zarr", frames(), version=version)
    chunk(path, 2, 1, 0).write_bytes(b"damaged")
    with open_cube(path, spec("Zarr")) as cube:
        np.testing.assert_array_equal(cube.read(1), frames()[1])
        with pytest.raises(DataError, match=r"a.zarr .band 3., 2024-01-01T02:00:00: .*rain: not readable"):
            cube.read(2)


@VERSIONS
def test_missing_times_are_an_error(tmp_path: Path, version: int) -> None:
    path = made.zarr(tmp_path / "a.zarr", frames(), version=version)
    (path / "time" / ("0" if version == 2 else "c/0")).unlink()
    with pytest.raises(DataError, match="time: 4 of 4 values are missing"):
        open_cube(path, spec("Zarr"))


@VERSIONS
def test_a_first_time_of_zero_may_have_no_chunk(tmp_path: Path, version: int) -> None:
    """Writers leave out chunks that are all 0, and times are counted from the first; lost ones are out of step."""
    path = made.zarr(tmp_path / "a.zarr", frames(1), version=version)
    for k in (1, 2):
        made.zarr(path, frames(1) + k, np.array([FIRST + k * HOUR]), append_dim="time", version=version)
    first = path / "time" / ("0" if version == 2 else "c/0")
    assert not first.exists()
    np.testing.assert_array_equal(open_cube(path, spec("Zarr")).times, FIRST + np.arange(3) * HOUR)
    made.zarr(tmp_path / "b.zarr", frames(1), np.array([FIRST + HOUR]), version=version)
    for k in (3, 4):
        made.zarr(tmp_path / "b.zarr", frames(1) + k, np.array([FIRST + k * HOUR]), append_dim="time", version=version)
    (tmp_path / "b.zarr" / "time" / ("0" if version == 2 else "c/0")).unlink()
    with pytest.raises(DataError, match="time: the first of 3 values is missing"):
        open_cube(tmp_path / "b.zarr", spec("Zarr"))


def appended(path: Path, times: Any, **places: Any) -> Path:
    made.zarr(path, frames(3))
    return made.zarr(path, frames(len(times)), FIRST + np.array(times) * HOUR, append_dim="time", **places)


def test_times_appended_in_another_unit_are_refused(tmp_path: Path) -> None:
    """xarray counts the half hour in minutes and the store goes on to say hours: 02:30 is 6 days later."""
    path = tmp_path / "a.zarr"
    made.zarr(path, frames(3))
    made.zarr(path, frames(1), np.array([FIRST + np.timedelta64(150, "m")]), append_dim="time")
    with pytest.raises(DataError, match=r"a.zarr: time: .* steps from 2024-01-01T02:00:00 .*another unit"):
        open_cube(path, spec("Zarr", step="PT30M"))


def test_a_date_twice_is_refused_with_its_count(tmp_path: Path) -> None:
    path = appended(tmp_path / "a.zarr", [2, 3])
    with pytest.raises(DataError, match=r"time 2024-01-01T02:00:00 appears twice .1 of 5"):
        open_cube(path, spec("Zarr"))


def test_earlier_times_appended_are_refused(tmp_path: Path) -> None:
    path = appended(tmp_path / "a.zarr", [-2, -1])
    with pytest.raises(DataError, match=r"out of order at 2023-12-31T22:00:00 .1 of 5"):
        open_cube(path, spec("Zarr"))


def test_a_second_tiles_coordinates_are_refused(tmp_path: Path) -> None:
    """They replace those of the first tile where they are as many; the extent says it. Beside them, spacing does."""
    path = appended(tmp_path / "a.zarr", [3, 4], x=tuple(range(608_500, 616_500, 1000)))
    west = {"crs": "EPSG:32632", "extent": (600_000, 5_894_000, 608_000, 5_900_000)}
    with pytest.raises(DataError, match=r"8 pixels off; expected position.extent"):
        open_cube(path, spec("Zarr", position=west))
    across = made.zarr(tmp_path / "b.zarr", frames(1))
    made.zarr(across, frames(1), x=tuple(range(600_500, 608_500, 1000)), append_dim="x")
    with pytest.raises(DataError, match=r"x: .* of 16 values are not evenly spaced; a second tile"):
        open_cube(across, spec("Zarr"))


def change(store: Path, name: str, **fields: Any) -> None:
    """Fields of an array's metadata, of either version."""
    path = next(p for p in (store / name / "zarr.json", store / name / ".zarray") if p.exists())
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _huge(store: Path) -> None:
    change(store, "rain", shape=[4, 10**6, 10**6])


def _many_steps(store: Path) -> None:
    change(store, "rain", shape=[10**12, 6, 8])


def _many_times(store: Path) -> None:
    change(store, "time", shape=[10**12])


def _one_time_more(store: Path) -> None:
    change(store, "rain", shape=[5, 6, 8])


def _negative(store: Path) -> None:
    change(store, "rain", shape=[-4, 6, 8])


def _unknown_codec(store: Path) -> None:
    if (store / "rain" / "zarr.json").exists():
        change(store, "rain", codecs=[{"name": "bytes"}, {"name": "mystery"}])
    else:
        change(store, "rain", compressor={"id": "mystery"})


def _objects(store: Path) -> None:
    if (store / "rain" / "zarr.json").exists():
        change(store, "rain", data_type="string")
    else:
        change(store, "rain", dtype="|O")


def _large_chunks(store: Path) -> None:
    if (store / "rain" / "zarr.json").exists():
        change(store, "rain", chunk_grid={"name": "regular", "configuration": {"chunk_shape": [1, 10**5, 10**5]}})
    else:
        change(store, "rain", chunks=[1, 10**5, 10**5])


def _no_json(store: Path) -> None:
    next(p for p in (store / "rain" / "zarr.json", store / "rain" / ".zarray") if p.exists()).write_text("{")


def _key_that_climbs(store: Path) -> None:
    if (store / "zarr.json").exists():
        about = json.loads((store / "zarr.json").read_text())
        about["consolidated_metadata"] = {"kind": "inline", "metadata": {"../other": {}}}
        (store / "zarr.json").write_text(json.dumps(about))
    else:
        (store / ".zmetadata").write_text(json.dumps({"metadata": {"../other/.zarray": {}}}))


def _link_that_leads_out(store: Path) -> None:
    outside = store.parent / "outside"
    (store / "rain").rename(outside)
    (store / "rain").symlink_to(outside)


@VERSIONS
@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (_huge, "declares a shape of .4, 1000000, 1000000."),
        (_many_steps, "declares a shape of .1000000000000, 6, 8."),
        (_many_times, "time: declares 1000000000000 values"),
        (_one_time_more, "time: .4,. values; rain has 5 along it"),
        (_negative, "expected whole numbers"),
        (_unknown_codec, "codec 'mystery' is not known"),
        (_objects, "data of type (object|string)"),
        (_large_chunks, "one chunk decodes to"),
        (_no_json, "not JSON"),
        (_key_that_climbs, r"key '../other.*leads out of the store"),
        (_link_that_leads_out, "leads out of the store"),
    ],
)
def test_dishonest_stores_are_refused(tmp_path: Path, version: int, harm: Callable[[Path], None], why: str) -> None:
    path = made.zarr(tmp_path / "a.zarr", frames(), version=version)
    harm(path)
    with pytest.raises(DataError, match=rf"a.zarr.*{why}"):
        open_cube(path, spec("Zarr"))


@pytest.mark.parametrize("name", ["../a.zarr/rain", "/rain", "rain/", "./rain", "nothing", "rain\0"])
def test_names_of_arrays_are_names(tmp_path: Path, name: str) -> None:
    path = made.zarr(tmp_path / "a.zarr", frames())
    with pytest.raises(GeomlError, match=r"not a name of an array|not an array of this store"):
        open_cube(path, spec("Zarr", variable=name))


def test_shards_are_refused_for_they_hide_missing_chunks(tmp_path: Path) -> None:
    path = made.zarr(tmp_path / "a.zarr", frames())
    group = zarr.open_group(path)
    about = dict(group["rain"].attrs)
    del group["rain"]
    group.create_array(
        "rain", shape=(4, 6, 8), shards=(1, 6, 8), chunks=(1, 3, 4), dtype="i2", attributes=about,
        dimension_names=("time", "y", "x"),
    )  # fmt: skip
    with pytest.raises(DataError, match="shards"):
        open_cube(path, spec("Zarr"))


def test_further_dimensions_are_chosen_by_value(tmp_path: Path) -> None:
    data = np.stack([frames(), frames() + 500], axis=1)
    times = (FIRST + np.arange(4) * HOUR).astype("datetime64[ns]")
    axes = {"time": times, "level": [850.0, 500.0], "y": np.arange(6.0, 0, -1), "x": np.arange(8.0)}
    path = tmp_path / "a.zarr"
    xr.Dataset({"rain": (tuple(axes), data)}, axes).to_zarr(path, consolidated=False)
    place = {"crs": "EPSG:4326"}
    np.testing.assert_array_equal(
        open_cube(path, spec("Zarr", at={"level": 500}, position=place)).read(3), frames()[3] + 500
    )
    for at, why in (
        ({}, "2 values of level; expected one, of 850.0, 500.0"),
        ({"level": 700}, "there 0 times"),
        ({"depth": 1}, "not a dimension"),
    ):
        with pytest.raises(GeomlError, match=why):
            open_cube(path, spec("Zarr", at=at, position=place))


def test_fill_values_of_cf_are_missing_and_scales_count(tmp_path: Path) -> None:
    data = frames().astype(np.float64)
    data[1, 2, 3] = np.nan
    times = (FIRST + np.arange(4) * HOUR).astype("datetime64[ns]")
    axes = {"time": times, "y": np.arange(6.0, 0, -1), "x": np.arange(8.0)}
    packed = {"rain": {"dtype": "int16", "_FillValue": -9, "scale_factor": 0.5, "add_offset": 1.0}}
    path = tmp_path / "a.zarr"
    xr.Dataset({"rain": (tuple(axes), data)}, axes).to_zarr(path, consolidated=False, encoding=packed)
    read = open_cube(path, spec("Zarr", position={"crs": "EPSG:4326"})).read(1)
    with xr.open_zarr(path, consolidated=False) as truth:
        np.testing.assert_array_equal(read, truth.rain.values[1].astype(np.float32))
    assert math.isnan(read[2, 3])


def test_without_zarr_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made.zarr(tmp_path / "a.zarr", frames())
    real = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name == "zarr":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra, match=r"geoml\[cube\]"):
        open_cube(path, spec("Zarr"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**13), 10**13) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@pytest.fixture(scope="module", params=[2, 3])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.zarr(tmp_path_factory.mktemp("store") / "a.zarr", frames(), version=request.param)


@given(st.data())
def test_any_metadata_are_read_or_an_error_of_ours(store: Path, data: st.DataObject) -> None:
    """Of each array, any field replaced by anything; what is not used may be anything."""
    paths = [store / n / f for n in ("rain", "time", "x") for f in ("zarr.json", ".zarray", ".zattrs")]
    path = data.draw(st.sampled_from([p for p in paths if p.exists()]))
    whole = path.read_bytes()
    about = json.loads(whole)
    if data.draw(st.booleans()) and isinstance(about.get("attributes"), dict):
        about["attributes"][data.draw(st.sampled_from(sorted(about["attributes"])))] = data.draw(JSON)
    else:
        about[data.draw(st.sampled_from(sorted(about)))] = data.draw(JSON)
    path.write_text(json.dumps(about))
    try:
        with suppress(GeomlError), open_cube(store, spec("Zarr")) as cube:
            cube.read(0)
    finally:
        path.write_bytes(whole)
