"""How a mosaic stores its values where only the files know their scale: right values, and the same for every block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from geoml.cube import numbers
from geoml.cube.load import load
from geoml.errors import DataError
from geoml.io.stac.catalog import Catalog, Profile

GRID = GeoBox((64, 64), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32632")
Make = Callable[..., pystac.Item]


def silent(
    make: Make, name: str, data: np.ndarray, scale: float = 1.0, offset: float = 0.0, **said: Any
) -> pystac.Item:
    """An item that says the dtype alone; its files say scale and offset."""
    item = make(name, data, **said)
    for key, asset in item.assets.items():
        for band in asset.extra_fields["bands"]:
            for field in ("raster:scale", "raster:offset"):
                del band[field]
        with rasterio.open(asset.href, "r+") as file:
            file.scales, file.offsets = (scale,) * file.count, (offset,) * file.count
        assert key in ("rg", "n")
    return item


def read(items: list[pystac.Item], catalog: Catalog, profile: Profile, grid: GeoBox = GRID) -> tuple[Any, np.ndarray]:
    bare = profile.model_copy(update={"mask": None})
    found = load(items, ["nir", "red"], grid, profile=bare, catalog=catalog, composite="least_cloudy")
    (data,) = dask.compute(found.data, scheduler="threads", num_workers=2)
    scale, offset = (np.array(found.data.attrs[k])[:, None, None] for k in ("scale", "offset"))
    return found.data, data.values * scale + offset


def test_values_are_physical_where_the_file_alone_says_how(make: Make, catalog: Catalog, profile: Profile) -> None:
    data = np.full((3, 64, 64), 3000, np.uint16)
    stored, values = read([silent(make, "a", data, 1e-4, -0.1)], catalog, profile)
    assert values == pytest.approx(0.2, abs=1e-6)
    assert stored.dtype == np.float32


def test_files_without_a_word_stay_as_they_are_stored(make: Make, catalog: Catalog, profile: Profile) -> None:
    data = np.full((3, 64, 64), 3000, np.uint16)
    stored, values = read([silent(make, "a", data), silent(make, "b", data)], catalog, profile)
    assert stored.dtype == np.uint16
    assert (values == 3000).all()


def test_files_and_items_that_say_it_differently_give_one_reflectance(
    make: Make, catalog: Catalog, profile: Profile
) -> None:
    left, right = np.zeros((3, 64, 64), np.uint16), np.zeros((3, 64, 64), np.uint16)
    left[:, :, :30], right[:, :, 30:] = 2000, 3000
    items = [silent(make, "file", left, 1e-4, 0.0), make("item", right, scale=1e-4, offset=-0.1)]
    _, values = read(items, catalog, profile)
    assert values == pytest.approx(0.2, abs=1e-6)


def test_every_block_decides_alike(make: Make, catalog: Catalog, profile: Profile) -> None:
    """The item with the other scale lies far from the first block; the storage is that of the whole run."""
    data = np.full((3, 64, 64), 2000, np.uint16)
    items = [silent(make, "near", data), silent(make, "far", data, 1e-4, shift=60_000)]
    far = GeoBox(GRID.shape, GRID.affine @ Affine.translation(6000, 0), GRID.crs)
    for grid, expected in ((GRID, 2000.0), (far, 0.2)):
        stored, values = read(items, catalog, profile, grid)
        assert stored.dtype == np.float32
        assert values == pytest.approx(expected, abs=1e-6)


def test_a_file_that_was_not_looked_at_and_differs_is_named(
    make: Make, catalog: Catalog, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of thousands of items looks at few headers; raw numbers still never pass for what they are not."""
    monkeypatch.setattr(numbers, "LOOKED_AT", 1)
    data = np.full((3, 64, 64), 2000, np.uint16)
    items = [silent(make, "a", data, cloud=1.0), silent(make, "b", data, 1e-4, cloud=2.0)]
    with pytest.raises(DataError, match=r"item b, asset .*: its file says scale 0\.0001 .* the catalog's YAML"):
        read(items, catalog, profile)
    floats = data.astype(np.float32)
    right = [silent(make, "c", floats, cloud=1.0, nodata=-1), silent(make, "d", floats, 1e-4, cloud=0.0, nodata=-1)]
    monkeypatch.setattr(numbers, "_some", lambda specs: [row for row in specs if row[0].item == "c"])
    _, values = read(right, catalog, profile)
    assert values == pytest.approx(0.2, abs=1e-6)  # floats hold both


def test_few_files_are_looked_at(
    make: Make, catalog: Catalog, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(numbers, "_asked", lambda spec: asked.append(spec.item) or (1.0, 0.0))
    first = silent(make, "0", np.full((3, 64, 64), 2000, np.uint16))
    items = [
        pystac.Item(str(k), first.geometry, first.bbox, first.datetime, {}, assets=first.assets) for k in range(99)
    ]
    load(items, ["nir", "red"], GRID, profile=profile.model_copy(update={"mask": None}), catalog=catalog)
    assert len(asked) == 2 * numbers.LOOKED_AT
    assert {"0", "98"} <= set(asked)
