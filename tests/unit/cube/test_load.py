"""Loading: numpy is the oracle for the mosaic; nothing is read before it is computed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dask
import numpy as np
import pystac
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geoml.cube.load import load
from geoml.errors import DataError, InputError
from geoml.io.cog import read as cog

GRID = GeoBox((120, 100), Affine(10, 0, 499_900, 0, -10, 5_000_100), "EPSG:32632")
"""Ten pixels to the left and above of the scenes, which are 90 x 110: a frame of nothing all round but the bottom."""

BANDS = ["nir", "red"]


def padded(layer: np.ndarray) -> np.ndarray:
    """A scene's (…, 90, 110) on the grid."""
    out = np.zeros((*layer.shape[:-2], 120, 120), layer.dtype)
    out[..., 10:100, 10:120] = layer
    return out[..., :100]


@pytest.fixture
def scenes(make):
    """Three items, what they hold on the grid as (item, band, y, x), and where each is valid and clear."""
    rng = np.random.default_rng(2)
    data = rng.integers(1, 5000, (3, 3, 90, 110)).astype(np.uint16)
    data[rng.random((3, 3, 90, 110)) < 0.1] = 0
    quality = rng.choice(np.array([0, 4, 9], np.uint8), (3, 90, 110), p=[0.1, 0.5, 0.4])
    clouds, dates = (30.0, 10.0, None), ("2024-05-01", "2024-06-01", "2024-07-01")
    items = [make(f"s{k}", data[k], quality[k], cloud=clouds[k], date=dates[k]) for k in range(3)]
    values = padded(data[:, [2, 0]])
    return items, values, (values != 0).all(axis=1) & (padded(quality) == 4)


def computed(items, profile, catalog, grid=GRID, bands=BANDS, **options):
    found = load(items, bands, grid, profile=profile, catalog=catalog, **options)
    data, count = dask.compute(found.data, found.valid_count, scheduler="threads", num_workers=2)
    return found, data.values, count.values


@pytest.mark.parametrize(("composite", "order"), [("least_cloudy", [1, 0, 2]), ("first", [2, 1, 0])])
def test_the_first_clear_item_wins(scenes, profile, catalog, composite, order) -> None:
    items, values, ok = scenes
    found, data, count = computed(items, profile, catalog, composite=composite)
    expected = np.zeros_like(values[0])
    for k in reversed(order):
        expected = np.where(ok[k], values[k], expected)
    assert data.dtype == np.uint16
    assert count.dtype == np.uint16
    np.testing.assert_array_equal(data, expected)
    np.testing.assert_array_equal(count, ok.sum(axis=0))
    assert found.attrs["items"] == tuple(f"s{k}" for k in order)
    assert found.data.attrs == {"scale": (1e-4, 1e-4), "offset": (0.0, 0.0)}
    assert found.data.dims == ("band", "y", "x")
    assert found.odc.geobox == GRID


@pytest.mark.parametrize("name", ["mean", "median"])
def test_statistics_ignore_what_is_not_valid(scenes, profile, catalog, name) -> None:
    items, values, ok = scenes
    _, data, count = computed(items, profile, catalog, composite=name)
    masked = np.ma.array(values, mask=np.broadcast_to(~ok[:, None], values.shape))
    exact = np.ma.filled(getattr(np.ma, name)(masked, axis=0), 0)
    np.testing.assert_array_equal(data, np.floor(exact + 0.5))
    np.testing.assert_array_equal(count, ok.sum(axis=0))


@pytest.mark.parametrize("name", ["least_cloudy", "median"])
def test_the_cut_into_rows_and_grids_changes_nothing(scenes, profile, catalog, name, monkeypatch) -> None:
    items, _, _ = scenes
    _, whole, count = computed(items, profile, catalog, composite=name)
    found, strips, strip_count = computed(items, profile, catalog, composite=name, rows=33)
    assert found.data.chunks[1] == (33, 33, 33, 21)
    np.testing.assert_array_equal(strips, whole)
    np.testing.assert_array_equal(strip_count, count)
    _, part, _ = computed(items, profile, catalog, GRID[40:90, 5:60], composite=name)
    np.testing.assert_array_equal(part, whole[:, 40:90, 5:60])
    monkeypatch.setattr("geoml.cube.load.STACK_BYTES", 3 * 2 * 100 * 2 * 50)
    assert load(items, BANDS, GRID, profile=profile, catalog=catalog, composite="median").data.chunks[1] == (50, 50, 20)


def test_without_the_quality_mask(scenes, profile, catalog) -> None:
    items, values, _ = scenes
    _, _, count = computed(items, profile, catalog, mask="none")
    np.testing.assert_array_equal(count, (values != 0).all(axis=1).sum(axis=0))


def test_items_that_store_numbers_differently_give_one_reflectance(make, profile, catalog) -> None:
    truth = np.random.default_rng(0).integers(1, 4000, (3, 90, 110)) * 1e-4
    truth[:, :, :40] = 0.2
    quality = np.full((90, 110), 4, np.uint8)
    half = quality.copy()
    half[:, 55:] = 9
    old = make("old", np.round(truth * 1e4).astype(np.uint16), half, cloud=1.0)
    new = make("new", np.round(truth * 1e4 + 1000).astype(np.uint16), quality, cloud=2.0, offset=-0.1)
    found, data, count = computed([old, new], profile, catalog)
    assert data.dtype == np.float32
    assert found.data.attrs == {"scale": (1.0, 1.0), "offset": (0.0, 0.0)}
    np.testing.assert_allclose(data, padded(truth[[2, 0]]), atol=1e-6)
    assert set(np.unique(count)) == {0, 1, 2}
    _, alone, _ = computed([new], profile, catalog)
    np.testing.assert_array_equal(alone, padded(np.round(truth[[2, 0]] * 1e4 + 1000).astype(np.uint16)))


def test_the_numbers_do_not_depend_on_the_place(make, profile, catalog) -> None:
    data, quality = np.full((3, 90, 110), 7, np.uint16), np.full((90, 110), 4, np.uint8)
    items = [make("here", data, quality), make("far", data, quality, offset=-0.1, shift=60_000)]
    found, values, count = computed(items, profile, catalog)
    assert found.attrs["items"] == ("here",)
    assert found.data.dtype == np.float32
    assert values[:, count > 0] == pytest.approx(7e-4)


def test_nothing_is_opened_before_it_is_computed(scenes, profile, catalog, monkeypatch) -> None:
    opened = []
    monkeypatch.setattr(cog, "read", lambda *args, **options: opened.append(args))
    monkeypatch.setattr(cog, "header", lambda *args: opened.append(args))
    first, second = (load(scenes[0], BANDS, GRID, profile=profile, catalog=catalog) for _ in range(2))
    assert not opened
    assert dict(first.data.__dask_graph__()).keys() == dict(second.data.__dask_graph__()).keys()
    other = load(scenes[0][:2], BANDS, GRID, profile=profile, catalog=catalog)
    assert first.data.data.name != other.data.data.name


def test_a_file_is_opened_once_for_a_grid(scenes, profile, catalog, monkeypatch) -> None:
    read, seen = cog.read, []
    monkeypatch.setattr(
        cog, "read", lambda specs, *a, **k: seen.append((specs[0].item, specs[0].asset)) or read(specs, *a, **k)
    )
    computed(scenes[0], profile, catalog, bands=["red", "nir", "green"])
    assert sorted(seen) == sorted((f"s{k}", asset) for k in range(3) for asset in ("n", "quality", "rg"))


def test_bands_are_not_read_under_full_cloud(make, profile, catalog, monkeypatch) -> None:
    item = make("cloudy", np.ones((3, 90, 110), np.uint16), np.full((90, 110), 9, np.uint8))
    Path(item.assets["n"].href).unlink()
    _, data, count = computed([item], profile, catalog)
    assert not data.any()
    assert not count.any()


def test_a_broken_file_is_an_error(scenes, profile, catalog) -> None:
    items, _, _ = scenes
    Path(items[0].assets["n"].href).write_bytes(b"<html>")
    with pytest.raises(DataError, match="item s0, asset n"):
        computed(items, profile, catalog)


def test_values_beyond_the_declared_dtype_are_an_error(make, profile, catalog) -> None:
    data, quality = np.full((3, 90, 110), 200, np.uint16), np.full((90, 110), 4, np.uint8)
    _, values, _ = computed([make("small", data, quality, declared="uint8")], profile, catalog)
    assert values.dtype == np.uint8
    with pytest.raises(DataError, match="declared as uint8 but the file holds uint16"):
        computed([make("large", data + 100, quality, declared="uint8")], profile, catalog)


def test_no_items(profile, catalog) -> None:
    _, data, count = computed([], profile, catalog)
    assert data.shape == (2, 120, 100)
    assert not data.any()
    assert not count.any()


def test_what_is_asked_wrongly(scenes, profile, catalog) -> None:
    for options, words in [
        ({"composite": "medain"}, "did you mean 'median'"),
        ({"mask": "atuo"}, "did you mean 'auto'"),
        ({"rows": 0}, "rows"),
        ({"bands": []}, "bands"),
        ({"bands": ["redd"]}, "no band 'redd'"),
    ]:
        with pytest.raises(InputError, match=words):
            load(scenes[0], options.pop("bands", BANDS), GRID, profile=profile, catalog=catalog, **options)


def test_items_without_a_date_or_a_place_are_still_read(make, profile, catalog) -> None:
    item = make("bare", np.full((3, 90, 110), 5, np.uint16), np.full((90, 110), 4, np.uint8), cloud=None)
    span = {"start_datetime": "2020-01-01T00:00:00Z", "end_datetime": "2020-02-01T00:00:00Z"}
    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC)
    bare = pystac.Item("bare", None, None, None, span, start_datetime=start, end_datetime=end, assets=item.assets)
    _, data, _ = computed([bare], profile, catalog, composite="first")
    assert set(np.unique(data)) == {0, 5}
