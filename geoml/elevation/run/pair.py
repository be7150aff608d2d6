"""Prepare a run over blocks for heights from two images: fitted parameters, a catalog, a package."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyproj
import pystac
import scipy.ndimage
import shapely
from rasterio.windows import Window

from geoml.cube.stereo.coarse import CoarseSurface
from geoml.cube.stereo.pair import HeightBounds, Pair, SensorView, overlap
from geoml.cube.stereo.parallax import Parallax, parallax
from geoml.cube.stereo.rpc import SensorModel
from geoml.cube.stereo.tile import CORE, tile
from geoml.elevation.recipe import ElevationRecipe
from geoml.elevation.run.against import check_first
from geoml.elevation.run.points import (
    ASKED,
    PACKAGE,
    changed_at,
    check_same,
    item_name,
    name_of,
    region_of,
    write_package,
)
from geoml.engine.packages.matching import file_of, sha256_of
from geoml.engine.run.plan import STATE
from geoml.errors import InputError
from geoml.grid.region import utm_crs
from geoml.inputs.stereo import SURFACE, StereoTerms
from geoml.io.cards.elevation import OF_PAIRS, HeightTerms
from geoml.io.crs import crs_name, parse_crs
from geoml.io.dem import heights_of, opened
from geoml.io.heights import ELLIPSOID, height_shift, metres_of, vertical_name
from geoml.io.rpc import Floats
from geoml.io.sensor_image import SensorImage, open_image
from geoml.io.stac.items import extensions, write_catalog
from geoml.io.stores.bucket import is_bucket
from geoml.io.stores.claim import claim
from geoml.io.stores.remote import is_url
from geoml.io.stores.store import sha256, within, write_json
from geoml.recipe import PredictRecipe, parse

log = logging.getLogger(__name__)

MOST = 512
"""Places along each side of the coarse surface."""
OF_RPC = "EPSG:4979"
"""What heights of an RPC are above: WGS 84, whatever ellipsoid the CRS of the run has."""
KEY = "picture"
"""Of the asset."""


def prepared(asked: ElevationRecipe, out: str | Path) -> PredictRecipe:
    """The recipe of the run in ``out``, whose folder has its catalog and its package then.

    Raises InputError for pictures without RPC, of one view or without common ground, for a CRS on another ellipsoid
    than WGS 84, for heights whose datum needs a grid that is missing, and for a folder with another run; DataError for
    a broken file and where the tie points do not agree; MissingExtra.
    """
    assert asked.stereo is not None
    if is_bucket(out):
        raise InputError(f"out: {out} is a bucket; a run of heights keeps its catalog beside it, expected a folder")
    folder = (claim(out, STATE).local / STATE).resolve()
    check_same(asked, folder)
    images = [open_image(place) for place in asked.stereo]
    if images[0].href == images[1].href and is_url(images[0].href):
        raise InputError(f"stereo: {images[0].href} is named twice; expected a path for each picture")
    names = [item_name(i.href) for i in images]
    coarse, below, above = bounding(asked, images)
    left, right = (SensorView(i.name, SensorModel(i.rpc), i.first, i.shape, i.read) for i in images)
    pair = Pair(left, right, HeightBounds(coarse, below, above))
    shared = overlap(pair)
    found = parallax(pair, shared)
    row, column = ((a + b) // 2 // CORE for a, b in (shared.rows, shared.columns))
    tile(pair, row, column, lambda lon, lat: (lon, lat))  # heights that are known too badly are refused now
    log.info("stereo: %s", found.text)
    outlines = [outline(i, (shared.lowest + shared.highest) / 2) for i in images]
    common = shapely.intersection_all(outlines)
    if common.is_empty:
        raise InputError(f"stereo: {left.name} and {right.name} show no common ground")
    flat = parse_crs(asked.crs or utm_crs(common.centroid.x, common.centroid.y))
    if flat is None:
        raise InputError(f"crs: {str(asked.crs)[:80]!r} is none; expected one in metres, such as EPSG:32632")
    crs = crs_name(flat)
    units = {axis.unit_name for axis in flat.axis_info}
    if units != {"metre"}:
        raise InputError(f"crs: {crs} is in {' and '.join(sorted(units))}; expected one in metres")
    datum = asked.datum or OF_RPC
    shift = height_shift(crs, OF_RPC, datum, _bounds(common, crs))
    items = [_item(n, i, o) for n, i, o in zip(names, images, outlines, strict=True)]
    catalog = write_catalog(items, folder / "pictures", "two pictures of a run")
    package = folder / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    np.save(within(package, SURFACE), coarse.heights)
    vertical = vertical_name(crs, datum)
    check_first(asked, crs, vertical)
    terms = HeightTerms(
        kind="stereo",
        layers=OF_PAIRS,
        vertical=vertical,
        vertical_name=name_of(vertical),
        shift=asdict(shift) if shift.pipeline else {},
        options=_options(asked, names, found, coarse, (below, above), package).model_dump(mode="json"),
        sources={n: i.as_plain() for n, i in zip(names, images, strict=True)},
    )
    write_package(terms, asked, package)
    write_json(within(folder, ASKED), {**asked.model_dump(mode="json"), "left_out": {}})
    query = {
        "catalog": str(catalog),
        "collection": catalog.parent.name,
        "datetime": "../..",
        **region_of(asked, [common], folder),
    }
    run = {"model": str(package), "crs": crs, "block_size": asked.block_size, "query": query}
    return parse(PredictRecipe, run, "elevation")


def _options(
    asked: ElevationRecipe,
    names: list[str],
    found: Parallax,
    coarse: CoarseSurface,
    range_: tuple[float, float],
    package: Path,
) -> StereoTerms:
    network = file_of(asked.matching)
    (a, b, c), (d, e, f) = found.shift
    return StereoTerms(
        left=names[0],
        right=names[1],
        shift=((a, b, c), (d, e, f)),
        west=coarse.west,
        north=coarse.north,
        step=coarse.step,
        surface=sha256(within(package, SURFACE)),
        below=range_[0],
        above=range_[1],
        matching="" if network is None else str(network),
        weights="" if network is None else sha256_of(network),
        reported=found.text,
    )


def outline(image: SensorImage, h: float) -> shapely.Polygon:
    """The border of a picture in degrees, on ground ``h`` metres above the ellipsoid."""
    (top, left), (rows, columns) = image.first, image.shape
    border = shapely.segmentize(shapely.box(left, top, left + columns - 1, top + rows - 1), max(rows, columns) / 8)
    x, y = shapely.get_coordinates(border).T
    lon, lat = SensorModel(image.rpc).inverse(y, x, np.full(x.shape, h))
    return shapely.Polygon(np.column_stack([lon, lat]))


def bounding(asked: ElevationRecipe, images: list[SensorImage]) -> tuple[CoarseSurface, float, float]:
    """The coarse surface around both pictures in metres above the ellipsoid, and metres below and above it.

    Raises InputError for a DEM that cannot be read, lies elsewhere or needs a grid that is missing.
    """
    rpc = images[0].rpc
    ends = [rpc.offsets[4] + s * rpc.scales[4] for s in (-1, 1)] if asked.heights is None else list(asked.heights)
    # of the left picture alone, since its pixels are what is asked
    west, south, east, north = shapely.union_all([outline(images[0], h) for h in ends]).bounds
    step = max((east - west) / (MOST - 4), (north - south) / (MOST - 4), 1 / 3600)
    west, north = west - step, north + step
    columns, rows = (int(np.ceil((b - a) / step)) + 2 for a, b in ((west, east), (south, north)))
    lon, lat = (a.ravel() for a in np.meshgrid(west + step * np.arange(columns), north - step * np.arange(rows)))
    if asked.heights is not None:
        low, high = asked.heights
        if not low < high:
            raise InputError(f"heights: {low} to {high} m; expected the lower one first")
        return CoarseSurface(np.full((rows, columns), low), west, north, step), 0.0, high - low
    assert asked.dem is not None
    assert asked.vertical is not None
    heights = sampled(asked.dem, lon, lat, asked.vertical)
    known = np.isfinite(heights)
    if not known.any():
        raise InputError(f"dem: {asked.dem} has no heights where {images[0].name} lies")
    shift = height_shift("EPSG:4326", asked.vertical, ELLIPSOID, (west, north - step * (rows - 1), east, north))
    heights[known] = shift.apply(lon[known], lat[known], heights[known])
    return CoarseSurface(heights.reshape(rows, columns), west, north, step), asked.margin, asked.margin


def sampled(dem: str, lon: Floats, lat: Floats, vertical: str = ELLIPSOID) -> Floats:
    """Heights (n,) of a DEM in metres at degrees, bilinear; NaN where it has none.

    Those of a band without a unit are in that of ``vertical``. Raises InputError, DataError.
    """
    with opened(dem, "dem") as file:
        x, y = pyproj.Transformer.from_crs("EPSG:4326", file.crs, always_xy=True).transform(lon, lat)
        column, row = ~file.transform * (np.asarray(x), np.asarray(y))
        known = np.isfinite(row) & np.isfinite(column)  # its CRS may not reach so far
        row, column = np.where(known, row, -9.0), np.where(known, column, -9.0)
        top, left = (int(max(0, np.floor(a.min()) - 2)) for a in (row, column))
        bottom, right = (int(min(n, np.ceil(a.max()) + 2)) for a, n in ((row, file.height), (column, file.width)))
        if bottom - top < 2 or right - left < 2:
            return np.full(lon.shape, np.nan)
        window = Window(left, top, right - left, bottom - top)
        values = heights_of(file, window, metres_of(vertical))
    places = [row - top - 0.5, column - left - 0.5]
    return np.asarray(scipy.ndimage.map_coordinates(values, places, order=1, mode="constant", cval=np.nan))


def _bounds(shape: shapely.Geometry, crs: str) -> tuple[float, float, float, float]:
    to = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    left, bottom, right, top = to.transform_bounds(*shape.bounds)
    return left, bottom, right, top


def _item(name: str, image: SensorImage, shape: shapely.Polygon) -> pystac.Item:
    """The item of a picture; its version changes with the file."""
    stamp, when = "", changed_at(image.href)
    if not is_url(image.href):
        look = Path(image.href).stat()
        stamp = f"{look.st_size} {look.st_mtime_ns}"
    said = json.dumps(image.as_plain(), sort_keys=True)
    properties = {"processing:version": hashlib.sha256(f"{said} {stamp}".encode()).hexdigest()[:16]}
    item = pystac.Item(name, shapely.geometry.mapping(shape), list(shape.bounds), when, properties)
    item.stac_extensions += extensions(properties)
    item.add_asset(KEY, pystac.Asset(image.href, media_type="image/tiff", roles=["data"]))
    return item
