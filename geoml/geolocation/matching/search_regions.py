"""Where to look for reference maps: the region that holds most of a picture's probability, and items that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pystac
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError, InputError
from geoml.geolocation.density.density import Density
from geoml.grid import sphere
from geoml.grid.region import from_geometry
from geoml.io.stac.bands import BandSpec, band_specs
from geoml.io.stac.catalog import Catalog, Profile
from geoml.texts import listed
from geoml.vector.caps import cap

SHARE = 0.9
CANDIDATES = 8
"""Places whose caps are tried before the one cap about the best of them."""
COVERED = 0.95
"""Share of an item that others show already, from which it adds nothing."""
SHOWS = ("visual", "rgb", "image", "data")
"""Keys of assets that are taken first."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Region:
    """Places (K,) ``lon``, ``lat`` with the probabilities ``p``, the best first, and ``caps`` of ``km`` around the
    first ones: in degrees, cut at the antimeridian. Caps do not meet: each is searched and mapped by itself."""

    lon: Floats
    lat: Floats
    p: Floats
    km: float
    caps: tuple[MultiPolygon, ...]


def region_around(lon: float, lat: float, km: float) -> Region:
    """The region of one place."""
    return Region(np.array([lon]), np.array([lat]), np.ones(1), km, (cap(lon, lat, km),))


def credible_regions(density: Density, apart_km: float) -> list[Region]:
    """The region of each of N pictures that holds `SHARE` of the probability, the smaller of two.

    Caps of half ``apart_km`` around as many of the best candidates, that far from each other, as are needed for it; or
    the cap about the best.
    """
    lon, lat, p = density.top(CANDIDATES, apart_km)
    radius, _ = density.credible(SHARE)
    out = []
    for i, reach in enumerate(radius):
        there = int(np.isfinite(lon[i]).sum())
        enough = int(np.searchsorted(np.cumsum(p[i, :there]), SHARE)) + 1
        few = enough <= there and enough * sphere.cap_area(apart_km / 2) < sphere.cap_area(reach)
        count, km = (enough, apart_km / 2) if few else (1, float(reach))
        caps = tuple(cap(float(x), float(y), km) for x, y in zip(lon[i, :count], lat[i, :count], strict=True))
        out.append(Region(lon[i, :there], lat[i, :there], p[i, :there], km, caps))
    return out


def choose_items(items: Sequence[pystac.Item], region: Region, most: int) -> list[pystac.Item]:
    """At most ``most`` items, in the order of ``items``: those next to what is likely, none that others show already.

    The worth of an item falls with its distance from each candidate, by the probability of the candidate; of equals the
    first counts.
    """
    outlines = [_outline(item) for item in items]
    worth = np.array([_worth(shape, region) for shape in outlines])
    taken: list[int] = []
    covered: BaseGeometry = MultiPolygon()
    for k in np.argsort(-worth, kind="stable").tolist():
        if len(taken) == most:
            break
        shape = outlines[k]
        if shape.area and shapely.intersection(shape, covered).area >= COVERED * shape.area:
            continue
        taken.append(k)
        covered = shapely.union(covered, shape)
    return [items[k] for k in sorted(taken)]


def _outline(item: pystac.Item) -> MultiPolygon:
    try:
        return from_geometry(item.geometry or {})
    except InputError:
        return MultiPolygon()


def _worth(shape: MultiPolygon, region: Region) -> float:
    if shape.is_empty:
        return 0.0
    corners = shapely.get_coordinates(shapely.segmentize(shape, 1.0))
    x, y = sphere.wrap(corners[:, 0]), corners[:, 1]
    far = [float(np.min(sphere.distance(a, b, x, y))) for a, b in zip(region.lon, region.lat, strict=True)]
    inside = shapely.intersects_xy(shape, region.lon, region.lat)
    return float((region.p * np.where(inside, 1.0, np.exp(-np.array(far) / region.km))).sum())


def file_of(item: pystac.Item, catalog: Catalog, asset: str | None) -> BandSpec:
    """A band of the item's file to match with: of the asset by that key, else of the one that shows most.

    Raises InputError naming the item's assets for a key that it lacks, DataError if no asset is a raster.
    """
    profile = catalog.profile(item.collection_id)
    by_asset: dict[str, list[BandSpec]] = {}
    for key in item.assets:
        alone = item.clone()
        alone.assets = {key: alone.assets[key]}
        for spec in band_specs(alone, Profile(sign=profile.sign), catalog).values():
            by_asset.setdefault(key, []).append(spec)
    if asset is not None and asset in by_asset:
        return by_asset[asset][0]
    if not by_asset:
        raise DataError(f"item {item.id}: no asset is a raster")
    if asset is not None:
        raise InputError(f"asset: item {item.id} has no raster {asset!r}; it has {listed(sorted(by_asset))}")
    order = sorted(by_asset, key=lambda k: (SHOWS.index(k) if k in SHOWS else len(SHOWS), -len(by_asset[k])))
    return by_asset[order[0]][0]
