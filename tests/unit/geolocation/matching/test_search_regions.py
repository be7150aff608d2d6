"""Regions hold the mass that they promise, and the items that are chosen show what is likely."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pystac
import pytest
import shapely
from shapely.geometry import mapping

from geoml.errors import DataError, InputError
from geoml.geolocation.density.density import Density
from geoml.geolocation.matching import search_regions
from geoml.geolocation.matching.search_regions import choose_items, credible_regions, file_of, region_around
from geoml.grid import sphere
from geoml.io.stac.catalog import Catalog


def density(places: list[tuple[float, float, float]], kappa: float = 4000.0) -> Density:
    lon, lat, weight = np.array(places).T
    return Density(weight[None], sphere.to_xyz(lon, lat), np.full(len(places), kappa))


def item(name: str, west: float, south: float, size: float = 5.0, **assets: Any) -> pystac.Item:
    shape = shapely.box(west, south, west + size, south + size)
    made = pystac.Item(name, mapping(shape), list(shape.bounds), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), {})
    for key, fields in (assets or {"image": {}}).items():
        made.add_asset(key, pystac.Asset(f"/maps/{name}-{key}.tif", media_type="image/tiff", extra_fields=fields))
    return made


def test_two_places_are_two_caps_and_a_broad_one_is_one() -> None:
    (two,) = credible_regions(density([(10, 50, 0.6), (100, -20, 0.4)]), 750.0)
    assert len(two.caps) == 2
    assert two.p.sum() > 0.9
    assert [c.contains(shapely.Point(100, -20)) for c in two.caps] == [False, True]
    assert sum(c.area for c in two.caps) < 150
    (one,) = credible_regions(density([(10, 50, 1.0)], kappa=30.0), 750.0)
    drawn = density([(10, 50, 1.0)], kappa=30.0)
    assert len(one.caps) == 1
    assert drawn.within(10.0, 50.0, one.km)[0] == pytest.approx(search_regions.SHARE, abs=0.01)


def test_a_region_over_the_antimeridian_is_in_two_parts() -> None:
    (found,) = credible_regions(density([(179.9, 10, 1.0)]), 750.0)
    (outline,) = found.caps
    assert len(outline.geoms) == 2
    assert outline.bounds[0] == -180.0
    assert outline.bounds[2] == 180.0
    near = choose_items([item("west", -180, 8), item("east", 175, 8), item("far", 160, 8)], found, 2)
    assert [i.id for i in near] == ["west", "east"]


def test_items_next_to_what_is_likely_come_first_and_none_twice() -> None:
    region = region_around(12.0, 47.0, 300.0)
    items = [item("new", 10, 45), item("old", 10, 45), item("beside", 15, 45), item("away", 20, 45)]
    assert [i.id for i in choose_items(items, region, 3)] == ["new", "beside", "away"]
    assert [i.id for i in choose_items(items, region, 2)] == ["new", "beside"]
    assert [i.id for i in choose_items(items[::-1], region, 1)] == ["old"]


def test_the_file_that_shows_most_or_that_is_named() -> None:
    catalog = Catalog("made", "/maps/catalog.json", "static", remote=False)
    three = {"bands": [{"name": n} for n in ("red", "green", "blue")]}
    made = item("a", 0, 0, nir={"bands": [{"name": "nir"}]}, picture=three)
    assert file_of(made, catalog, None).asset == "picture"
    assert file_of(made, catalog, "nir").asset == "nir"
    assert file_of(item("b", 0, 0, picture=three, visual=three), catalog, None).asset == "visual"
    with pytest.raises(InputError, match="it has nir, picture"):
        file_of(made, catalog, "thermal")
    bare = item("c", 0, 0)
    bare.assets = {"notes": pystac.Asset("/maps/c.txt", media_type="text/plain")}
    with pytest.raises(DataError, match="no asset is a raster"):
        file_of(bare, catalog, None)
