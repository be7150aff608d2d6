"""Places where a map of classes is least sure, to be corrected and learnt from.

Single unsure pixels are mixed ones at edges, which teach little, so patches are asked about: their mean confidence is
what the overviews hold. What the model was never taught is left out: it may be no class at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyproj
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geoml.engine.packages import cards
from geoml.errors import DataError, InputError, NothingFound
from geoml.grid.sphere import distance
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.classmap import open_map
from geoml.io.local_files import local_files
from geoml.io.tables import place_files

PATCH = 8
"""Pixels along the side of a patch."""
CERTAINTY = {"confidence": 0.0, "probability": 0.5, "score": 0.5}
"""Layers that say how sure a class is, and where they are least sure: at the probability of one in two of a change."""
INSIDE = 0.5
"""Least value of the layer ``domain`` of what is like the training data."""
MOST = 100_000
"""Patches that are held and chosen from, the least sure of all blocks."""
METRES = 111_320.0
"""Of a degree of latitude."""
FULL_TURN = 360.0

Floats = NDArray[np.float64]


def doubtful_places(run: str | Path, places: int, out: Path, seed: int = 0) -> geopandas.GeoDataFrame:
    """Choose up to ``places`` patches of a map where it is least sure, apart on the ground; write a pixel of each.

    ``.gpkg`` or ``.geojson``: points in EPSG:4326 with an empty column that is called as that of the labels, else
    ``class``, and beside it ``mapped``, what the map says, and ``sure`` from 0 to 1; see `own_columns`. Raises
    InputError for a run without classes, for a seed, for nothing is drawn, and for an ``out`` whose places are filled
    in; NothingFound if nothing can be chosen.
    """
    if seed:
        raise InputError(
            f"seed: {seed}; expected none: the places are those where the map is least sure, none is drawn"
        )
    card = cards.read(run, MapCard)
    if not card.classes:
        raise InputError(f"run: {run} is a map of the task {card.task}; expected one of classes")
    field = field_of(card)
    place_files.check(out, field)
    found = np.zeros((4, 0))
    for path in open_map(run).paths:
        found = _least(np.concatenate([found, *_patches(path)], axis=1))
    if not found.size:
        raise NothingFound(f"run: {run} has no place that is like what {card.name} was taught")
    sure, lon, lat, value = found
    rows = spaced(sure, lon, lat, places)
    names = {c.value: c.name for c in card.classes}
    number, mapped, level = own_columns(field, "id", "mapped", "sure")
    frame = geopandas.GeoDataFrame(
        {
            number: np.arange(1, len(rows) + 1),
            field: pd.Series([None] * len(rows), dtype="str"),
            mapped: [names.get(int(v), str(int(v))) for v in value[rows]],
            level: np.round(sure[rows], 3),
        },
        geometry=geopandas.points_from_xy(lon[rows], lat[rows]),
        crs="EPSG:4326",
    )
    place_files.write(frame, out)
    return frame


def field_of(card: MapCard) -> str:
    """The column of the labels that a package was taught by."""
    recipe = card.training.get("recipe") or {}
    source = recipe.get("source")
    labels = source.get("labels") if isinstance(source, dict) else None
    first = labels[0] if isinstance(labels, list | tuple) and labels and isinstance(labels[0], dict) else {}
    return str(recipe.get("field") or first.get("field") or "class")


def own_columns(field: str, *names: str) -> list[str]:
    """Names of columns beside that of the labels: ``geoml_NAME`` for one that it has, in whatever case."""
    return [f"geoml_{n}" if n == field.casefold() else n for n in names]


def _width(lon: Floats) -> float:
    """Degrees of longitude from the first to the last of places, around the other side of the widest gap."""
    around = np.sort(lon % FULL_TURN)
    gaps = np.diff(around, append=around[0] + FULL_TURN)
    return float(FULL_TURN - gaps.max())


def spacing(lon: Floats, lat: Floats, places: int) -> float:
    """Metres between so many places that share the ground of candidates evenly."""
    south, north = lat.min(), lat.max()
    high = (north - south) * METRES
    wide = _width(lon) * METRES * np.cos(np.radians((south + north) / 2))
    return float(np.sqrt(max(high * wide, 1.0) / places) / 2)


def spaced(sure: Floats, lon: Floats, lat: Floats, places: int) -> NDArray[np.int64]:
    """Rows of up to ``places`` candidates, the least sure first, none near another: they share the ground evenly."""
    apart = spacing(lon, lat, places)
    free = np.ones(len(sure), np.bool_)
    order = np.argsort(sure, kind="stable")
    chosen: list[int] = []
    for row in order:
        if len(chosen) == places:
            break
        if free[row]:
            chosen.append(int(row))
            free &= 1000 * distance(lon[row], lat[row], lon, lat) >= apart
    return np.array(chosen, np.int64)


def _patches(path: Path) -> Iterator[Floats]:
    """(4, n) how sure, longitude, latitude and class of the patches of one block."""
    layer = next((name for name in CERTAINTY if (path.parent / f"{name}.tif").is_file()), None)
    if layer is None:
        return
    try:
        with local_files(), rasterio.open(path, driver="GTiff") as classes:
            shape = (max(1, classes.height // PATCH), max(1, classes.width // PATCH))
            value = classes.read(1)
            valid = value != classes.nodata
            level, good = _mean(path.parent / f"{layer}.tif", shape)
            if (path.parent / "domain.tif").is_file():
                like, said = _mean(path.parent / "domain.tif", shape)
                good &= ~said | (like >= INSIDE)
            to_crs, crs = classes.transform, classes.crs.to_wkt()
    except rasterio.errors.RasterioError as err:
        raise DataError(f"{path}: not readable ({err})") from err
    least = CERTAINTY[layer]
    sure = np.abs(level - least) / (1 - least)
    rows, columns = np.nonzero(good)
    to_lonlat = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    pixels, found = _near_middles(valid, np.stack([rows, columns]), shape)
    (y, x), rows, columns = pixels[:, found], rows[found], columns[found]
    lon, lat = to_lonlat.transform(*(to_crs * np.stack([x + 0.5, y + 0.5])))
    if len(rows):
        yield _least(np.stack([sure[rows, columns], lon, lat, value[y, x].astype(np.float64)]))


def _near_middles(
    valid: NDArray[np.bool_], patches: NDArray[np.int64], shape: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(2, n) row and column of the valid pixel nearest to the middle of each of (2, n) patches, and whether it has one.

    ``shape`` is the number of patches down and across.
    """
    side = np.array(valid.shape)[:, None] / np.array(shape)[:, None]
    start, stop = (np.floor(n * side).astype(np.int64) for n in (patches, patches + 1))
    pixels = np.floor((patches + 0.5) * side).astype(np.int64)
    middle, found = pixels.copy(), valid[tuple(pixels)]
    reach = int(np.ceil(side.max() / 2))
    for step in sorted(product(range(-reach, reach + 1), repeat=2), key=lambda s: s[0] ** 2 + s[1] ** 2):
        at = middle + np.array(step)[:, None]
        new = ~found & ((at >= start) & (at < stop)).all(0)
        new[new] = valid[tuple(at[:, new])]
        pixels[:, new] = at[:, new]
        found |= new
    return pixels, found


def _least(patches: Floats) -> Floats:
    """The least sure of (4, n) patches."""
    return patches[:, np.argsort(patches[0], kind="stable")[:MOST]]


def _mean(path: Path, shape: tuple[int, int]) -> tuple[Floats, NDArray[np.bool_]]:
    """The mean of a layer in each patch, as its file scales it, and where it has any."""
    with rasterio.open(path, driver="GTiff") as layer:
        found = layer.read(1, out_shape=shape, resampling=Resampling.average, masked=True)
        scale, offset = layer.scales[0], layer.offsets[0]
    values: Floats = found.filled(0).astype(np.float64) * scale + offset
    return values, ~np.ma.getmaskarray(found)
