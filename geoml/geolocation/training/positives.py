"""Pictures of one ground at several dates, on one grid: the positives of features that know a place in another year.

Each date is a composite of its own items, from a STAC search or from files. Pictures of two dates are a positive where
both are known and the dates share no item; pictures whose ground overlaps are not negatives of each other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import numpy as np
import pyproj
import pystac
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry import mapping

from geoml.cube.load import load
from geoml.data import rasters
from geoml.data.scene import outline
from geoml.errors import DataError, InputError, NothingFound
from geoml.grid import region as regions
from geoml.grid.plane import Window
from geoml.io.stac.catalog import Catalog, Profile
from geoml.io.stac.left_out import LeftOut
from geoml.io.stac.search import open_catalog, search
from geoml.io.stac.usable import checked, require_any
from geoml.recipe import Query

RGB = ("red", "green", "blue")
LEAST_VALID = 0.98
"""Share of a picture that has to be valid; a dark pixel that a file takes for nodata is not a hole."""
NEAR = 0.5
"""Places closer than this share of the side, in both directions, share ground."""


@dataclass(frozen=True, eq=False)
class DateStack:
    """One place at ``T`` dates: ``pictures`` (T, H, W, 3) uint8, ``valid`` (T, H, W), ``items`` that made each date."""

    pictures: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    items: tuple[frozenset[str], ...]
    geobox: GeoBox | None = None

    def __post_init__(self) -> None:
        shape = self.pictures.shape
        if len(shape) != 4 or shape[-1] != 3 or shape[:3] != self.valid.shape or len(self.items) != shape[0]:
            raise InputError(f"ground: {shape}, {self.valid.shape}; expected (T, H, W, 3) and (T, H, W)")
        if not self.pairs:
            raise InputError("dates: expected two or more, of different items")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Two dates, in either order, that no item is part of both of."""
        return [(a, b) for a, b in permutations(range(len(self.items)), 2) if not self.items[a] & self.items[b]]

    def covers(self, y: float, x: float, reach: float) -> NDArray[np.bool_]:
        """(T,) whether the square within ``reach`` pixels of (y, x) lies inside and is valid."""
        top, left, bottom, right = (round(v) for v in (y - reach, x - reach, y + reach, x + reach))
        height, width = self.valid.shape[1:]
        if top < 0 or left < 0 or bottom > height or right > width:
            return np.zeros(len(self.valid), bool)
        return np.asarray(self.valid[:, top:bottom, left:right].mean((1, 2)) >= LEAST_VALID)

    def lonlat(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) degrees, lon first, of places (N, 2) as (y, x) pixels. Raises InputError without a georeference."""
        if self.geobox is None:
            raise InputError("ground: no georeference")
        a = self.geobox.affine
        to = pyproj.Transformer.from_crs(str(self.geobox.crs), "EPSG:4326", always_xy=True)
        return np.column_stack(to.transform(a.c + a.a * places[:, 1], a.f + a.e * places[:, 0]))


@dataclass(frozen=True, eq=False)
class Positive:
    """Pictures (K, S, S, 3) uint8 of the ground around ``place`` (y, x), pixels, one for each of ``dates`` (K >= 2)."""

    place: tuple[float, float]
    dates: tuple[int, ...]
    pictures: NDArray[np.uint8]


def positives(stack: DateStack, side: int, step: int | None = None) -> list[Positive]:
    """Every tile of ``side`` pixels, ``step`` apart (by default its side), that is valid at two dates or more.

    Raises NothingFound if there is none, InputError for a side below 8 or a step below 1.
    """
    step = step or side
    if side < 8 or step < 1:
        raise InputError(f"side {side}, step {step}; expected pixels, at least 8 and 1")
    height, width = stack.valid.shape[1:]
    tiles = []
    for y in np.arange(side / 2, height - side / 2 + 1e-9, step).tolist():
        for x in np.arange(side / 2, width - side / 2 + 1e-9, step).tolist():
            covered = stack.covers(y, x, side / 2)
            dates = sorted({d for a, b in stack.pairs if covered[a] and covered[b] for d in (a, b)})
            if dates:
                top, left = round(y - side / 2), round(x - side / 2)
                cut = stack.pictures[dates, top : top + side, left : left + side]
                tiles.append(Positive((y, x), tuple(dates), cut))
    if not tiles:
        raise NothingFound(f"positives: no tile of {side} pixels is known at two dates ({height} x {width} pixels)")
    return tiles


def near(places: NDArray[np.float64], side: float) -> NDArray[np.bool_]:
    """(N, N) True where places (N, 2) lie closer than `NEAR` of the side in both directions."""
    return np.asarray(np.abs(places[:, None] - places[None]).max(-1) < side * NEAR)


def from_stac(
    catalog: str,
    collection: str | None,
    bbox: tuple[float, float, float, float],
    dates: Sequence[str],
    gsd: float,
    *,
    crs: str = "utm",
    bands: tuple[str, str, str] = RGB,
    filter: str | None = None,
    mask: str = "auto",
    composite: str = "least_cloudy",
    stretch: tuple[float, float] | None = None,
) -> DateStack:
    """The ground in ``bbox`` (W S E N, degrees) at each of ``dates`` (RFC 3339 intervals), ``gsd`` metres a pixel.

    ``stretch``: the physical values of black and white; by default percentiles 1 and 99 of all dates together, so
    that what differs between dates stays different. Raises InputError, NothingFound for a date without an item,
    DataError as `load`.
    """
    _check(dates, gsd, stretch)
    area = regions.from_bbox(*bbox)
    opened = open_catalog(catalog)
    query = Query(catalog=catalog, collection=collection, bbox=bbox, datetime=tuple(dates), filter=filter)
    profile = opened.profile(collection or opened.default_collection)
    items = []
    for date in dates:
        left = LeftOut()
        found = checked(search(opened, query, area, date), bands, profile, opened, left, mask=mask)
        items.append(require_any([u.item for u in found], left, f"catalog {opened.name}, {date}"))
    if crs == "utm":
        crs = regions.utm_crs((bbox[0] + bbox[2]) / 2, (bbox[1] + bbox[3]) / 2)
    plane = regions.plane_of(crs, gsd)
    geobox = plane.geobox(plane.window(*regions.project(area, crs).bounds))
    return _stack(items, geobox, bands, opened, profile, stretch, mask, composite)


def from_files(
    files: Sequence[Path],
    gsd: float,
    *,
    bounds: tuple[float, float, float, float] | None = None,
    positions: tuple[int, int, int] = (1, 2, 3),
    stretch: tuple[float, float] | None = (0.0, 255.0),
) -> DateStack:
    """The ground that GeoTIFF ``files`` share, one for each date, in the first one's CRS at ``gsd`` of its units.

    ``bounds`` (left, bottom, right, top) in that CRS cut it. Raises InputError, DataError for a file without a place.
    """
    _check([str(f) for f in files], gsd, stretch)
    headers = [rasters.header(f) for f in files]
    boxes = [h.geobox for h in headers]
    if any(box is None for box in boxes) or len({str(box.crs) for box in boxes if box is not None}) != 1:
        raise DataError(f"{files[0]}: and the other dates; expected files of one CRS")
    placed = [box for box in boxes if box is not None]
    shared = [tuple(box.extent.boundingbox) for box in placed] + ([bounds] if bounds else [])
    left, bottom = (max(b[k] for b in shared) for k in (0, 1))
    right, top = (min(b[k] for b in shared) for k in (2, 3))
    if not (left < right and bottom < top):
        raise InputError(f"bounds: {bounds}; the files share nothing there")
    geobox = GeoBox.from_bbox((left, bottom, right, top), str(placed[0].crs), resolution=gsd, tight=True)
    items = [[_item(f, h, positions, k)] for k, (f, h) in enumerate(zip(files, headers, strict=True))]
    root = Path(os.path.commonpath([f.resolve().parent for f in files]))
    catalog = Catalog(name="files", url=str(root), kind="static", remote=False, root=root)
    return _stack(items, geobox, RGB, catalog, Profile(), stretch, "none", "first")


def _check(dates: Sequence[str], gsd: float, stretch: tuple[float, float] | None) -> None:
    if len(dates) < 2:
        raise InputError(f"dates: {list(dates)}; expected two or more")
    if not gsd > 0:
        raise InputError(f"gsd: {gsd}; expected a positive pixel size")
    if stretch is not None and not stretch[0] < stretch[1]:
        raise InputError(f"stretch: {stretch}; expected the value of black, then that of white")


def _stack(
    items: Sequence[Sequence[pystac.Item]],
    geobox: GeoBox,
    bands: tuple[str, str, str],
    catalog: Catalog,
    profile: Profile,
    stretch: tuple[float, float] | None,
    mask: str,
    composite: str,
) -> DateStack:
    values, masks, used = [], [], []
    for of_date in items:
        cube = load(of_date, bands, geobox, profile=profile, catalog=catalog, mask=mask, composite=composite)
        mosaic = cube.compute(scheduler="threads")
        scale, offset = (np.array(mosaic["data"].attrs[k], np.float32)[:, None, None] for k in ("scale", "offset"))
        values.append(mosaic["data"].to_numpy().astype(np.float32) * scale + offset)
        masks.append(mosaic["valid_count"].to_numpy() > 0)
        used.append(frozenset(cube.attrs["items"]))
    valid = np.stack(masks)
    if not valid.any((1, 2)).all():
        raise NothingFound(f"positives: date {int(np.argmin(valid.any((1, 2)))) + 1} has no valid pixel")
    physical = np.moveaxis(np.stack(values), 1, -1)
    if stretch is None:
        low, high = np.percentile(physical[valid], (1, 99), axis=0)
    else:
        low, high = (np.full(3, v) for v in stretch)
    span = np.maximum(high - low, 1e-9)
    grey = np.clip((physical - low) / span * 255, 0, 255)
    return DateStack(np.rint(np.where(valid[..., None], grey, 0)).astype(np.uint8), valid, tuple(used), geobox)


def _item(path: Path, header: rasters.RasterHeader, positions: tuple[int, int, int], number: int) -> pystac.Item:
    """A file as an item, so that it is read as those of a catalog are."""
    if header.geobox is None or not all(1 <= p <= header.count for p in positions):
        raise DataError(f"{path}: has {header.count} bands; expected a georeference and bands {positions}")
    ground = outline(header.geobox, Window(0, 0, *header.shape))
    item = pystac.Item(
        f"{number}-{path.stem}",
        mapping(ground),
        list(ground.bounds),
        datetime(1970, 1, 1, tzinfo=UTC),
        {"proj:code": str(header.geobox.crs)},
    )
    names = dict(zip(positions, RGB, strict=True))
    bands = [{"name": names.get(k, f"band-{k}")} for k in range(1, header.count + 1)]
    asset = pystac.Asset(str(path), media_type=pystac.MediaType.GEOTIFF, roles=["data"], extra_fields={"bands": bands})
    item.add_asset("image", asset)
    return item
