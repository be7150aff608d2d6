"""The layers of a run as lazy arrays: one mosaic over its blocks, with the metadata of its STAC items.

odc-stac reads; what it leaves to its caller is here: one grid over all blocks, scale and offset, and attributes that
follow the CF conventions (https://cfconventions.org, flags in section 3.5).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import odc.stac
import pyproj
import pystac
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox, geobox_union_conservative

from geoml.engine.results.tiffs import TiffDriver
from geoml.errors import DataError
from geoml.io.webmap.mosaic import NORTH, turned_mercator

Bounds = tuple[float, float, float, float]

CHUNK = 2048
"""Pixels of a side of a dask chunk; the default size of a block."""
NEAR = 0.01
"""Of a pixel: what is left of its edge after a way to degrees and back."""


def layers_of(items: Sequence[pystac.Item]) -> list[str]:
    """Assets of the items that are rasters with described bands, in the order of the items."""
    return list(dict.fromkeys(k for item in items for k, asset in item.assets.items() if bands_of(asset)))


def bands_of(asset: pystac.Asset) -> list[dict[str, Any]]:
    """STAC metadata of the bands of a raster; empty for any other asset."""
    bands = asset.extra_fields.get("bands")
    return bands if isinstance(bands, list) and all("data_type" in b for b in bands) else []


def mosaic(items: Sequence[pystac.Item], key: str, geobox: GeoBox | None = None) -> xr.DataArray:
    """The layer ``key`` of all items as one dask array (y, x), or (band, y, x) where its files have several bands.

    Values with a scale are float32 in their physical unit, NaN for nodata; others, such as classes, keep
    their stored type and the attribute ``nodata``. The grid is ``geobox``, by default that of the blocks, cut to where
    they have data. If they have several CRSs, it is that of most blocks, and the others are resampled to it (nearest).
    Raises DataError for items without the place of their pixels.
    """
    having = [item for item in items if key in item.assets]
    asset = having[0].assets[key]
    bands = bands_of(asset)
    names = [f"{key}.{k + 1}" for k in range(len(bands))] if len(bands) > 1 else [key]
    data = odc.stac.load(
        having,
        bands=names,
        geobox=geobox or grid_of(having),
        chunks={"y": CHUNK, "x": CHUNK},
        groupby=lambda *_: 0,  # blocks of one run share no ground, whatever their times are
        resampling="nearest",
        driver=TiffDriver(),
    ).isel(time=0, drop=True)
    each = [described(data[name], band) for name, band in zip(names, bands, strict=True)]
    found = each[0]
    if len(each) > 1:
        found = xr.concat(each, dim="band", combine_attrs="override", coords="minimal", compat="override")
        found = found.assign_coords(band=[b.get("name", str(k)) for k, b in enumerate(bands)])
    return found.rename(key).assign_attrs(long_name=asset.title or key, **flags(asset.extra_fields))


def grid_of(items: Sequence[pystac.Item]) -> GeoBox:
    """The smallest grid over the data of all blocks, in the CRS of most of them. Raises DataError if a block has no
    grid."""
    grids: dict[str, list[GeoBox]] = {}
    for item in items:
        about = item.properties
        crs = about.get("proj:code") or about.get("proj:projjson") or about.get("proj:wkt2")
        try:
            grid = GeoBox(tuple(about["proj:shape"]), Affine(*about["proj:transform"][:6]), crs)
        except (KeyError, TypeError, ValueError) as err:
            raise DataError(f"{item.id}: its proj:shape, proj:transform and CRS do not form a grid ({err!r})") from err
        grids.setdefault(str(grid.crs), []).append(grid)
    main = Counter({crs: len(boxes) for crs, boxes in grids.items()}).most_common(1)[0][0]
    whole = geobox_union_conservative(grids.pop(main))
    for other in (b for boxes in grids.values() for b in boxes):
        whole = geobox_union_conservative([whole, whole.enclosing(other.extent.to_crs(main))])
    return _with_data(whole, items, main)


def _with_data(whole: GeoBox, items: Sequence[pystac.Item], crs: str) -> GeoBox:
    """A grid without its outer rows and columns in which no item has data, by their outlines."""
    known = [item for item in items if item.properties.get("geoml:valid_pixels") != 0]  # whose outline is the block's
    shapes = np.array([shapely.geometry.shape(item.geometry) if item.geometry else None for item in known], object)
    if not known or shapely.is_missing(shapes).any():
        return whole
    to = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = to.transform(*shapely.get_coordinates(shapes).T)
    col, row = ~whole.affine * (x, y)
    if not (np.isfinite(col).all() and np.isfinite(row).all()):
        return whole
    (y0, y1), (x0, x1) = (
        (max(math.floor(k.min() + NEAR), 0), min(math.ceil(k.max() - NEAR), n))
        for k, n in zip((row, col), whole.shape, strict=True)
    )
    return whole[y0:y1, x0:x1]


def picture_grid(items: Sequence[pystac.Item], side: int) -> GeoBox:
    """A grid of ``side`` pixels, the longer way, over the valid pixels of the blocks, in the CRS of most of them."""
    grid = grid_of(items)
    bounds = bounds_of(items)
    if grid.crs is None or (grid.crs.geographic and bounds[2] > 180):  # degrees that end at the antimeridian
        return GeoBox.from_bbox(grid.extent.boundingbox, grid.crs, shape=side)
    return _around(bounds, str(grid.crs), side)


def web_grid(items: Sequence[pystac.Item], side: int) -> GeoBox:
    """As `picture_grid` in web Mercator, whose middle is the antimeridian where the blocks lie on both sides of it."""
    west, south, east, north = bounds_of(items)
    south, north = max(south, -NORTH), min(north, NORTH)
    return _around((west, south, east, north), turned_mercator() if east > 180 else "EPSG:3857", side)


def bounds_of(items: Sequence[pystac.Item]) -> Bounds:
    """West, south, east, north in degrees around all items; east is beyond 180 where that is narrower.

    Blocks are cut at the antimeridian, so those on its two sides say nothing of it.
    """
    boxes = np.array([(item.bbox[0], item.bbox[1], item.bbox[-2], item.bbox[-1]) for item in items if item.bbox])
    west, south, east, north = boxes.T
    east = np.where(east < west, east + 360, east)
    turn = np.where(west < 0, 360, 0)
    if (east + turn).max() - (west + turn).min() < east.max() - west.min():
        west, east = west + turn, east + turn
    return float(west.min()), float(south.min()), float(east.max()), float(north.max())


def _around(bounds: Bounds, crs: str, side: int) -> GeoBox:
    """A grid around ``bounds`` in degrees, whose edges may be curves in the CRS."""
    t, (west, south, east, north) = np.linspace(0, 1, 33), bounds
    x, y = west + (east - west) * t, south + (north - south) * t
    lon = np.concatenate([x, x, np.full_like(y, west), np.full_like(y, east)])
    lat = np.concatenate([np.full_like(x, south), np.full_like(x, north), y, y])
    lon = np.where(lon > 180, lon - 360, lon)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    return GeoBox.from_bbox((x.min(), y.min(), x.max(), y.max()), crs, shape=side)


def described(stored: xr.DataArray, band: Mapping[str, Any]) -> xr.DataArray:
    """Stored values of a band (y, x) as `mosaic` gives them, by a band object of STAC 1.1."""
    nodata, attrs = band.get("nodata"), {"units": band["unit"]} if band.get("unit") else {}
    nodata = float(nodata) if isinstance(nodata, str) else nodata  # "nan"
    if "raster:scale" not in band and "raster:offset" not in band:
        return stored.drop_attrs(deep=False).assign_attrs(attrs if nodata is None else {**attrs, "nodata": nodata})
    scale, offset = np.float32(band.get("raster:scale", 1.0)), np.float32(band.get("raster:offset", 0.0))
    values = stored.astype(np.float32) * scale + offset
    known = stored.notnull() if nodata is None else stored != nodata
    return values.where(known).drop_attrs(deep=False).assign_attrs(attrs)


def classes_of(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The classes of an asset by the STAC extension ``classification``, without that of no data."""
    return [c for c in fields.get("classification:classes") or () if not c.get("nodata")]


def flags(fields: Mapping[str, Any]) -> dict[str, Any]:
    """CF attributes of a layer of classes: values, meanings (one word each) and, where known, colours."""
    if not (classes := classes_of(fields)):
        return {}
    found: dict[str, Any] = {
        "flag_values": np.array([c["value"] for c in classes], np.uint8),
        "flag_meanings": " ".join("_".join(str(c.get("name", c["value"])).split()) for c in classes),
    }
    if all(c.get("color_hint") for c in classes):
        found["flag_colors"] = " ".join(f"#{c['color_hint']}" for c in classes)
    return found
