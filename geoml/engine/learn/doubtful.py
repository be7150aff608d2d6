"""Places where a map of classes is least sure, to be corrected and learnt from.

Single unsure pixels are mixed ones at edges, which teach little, so patches are asked about: their mean confidence is
what the overviews hold. What the model was never taught is left out: it may be no class at all.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    """Choose up to ``places`` patches of a map where it is least sure, apart on the ground; write their middle pixels.

    ``.gpkg`` or ``.geojson``: points in EPSG:4326 with an empty column that is called as that of the labels, else
    ``class``, and beside it ``mapped``, what the map says, and ``sure`` from 0 to 1; see `own_columns`. Raises
    InputError for a run without classes and for a seed, for nothing is drawn; NothingFound if nothing can be chosen.
    """
    if seed:
        raise InputError(
            f"seed: {seed}; expected none: the places are those where the map is least sure, none is drawn"
        )
    card = cards.read(run, MapCard)
    if not card.classes:
        raise InputError(f"run: {run} is a map of the task {card.task}; expected one of classes")
    found = np.zeros((4, 0))
    for path in open_map(run).paths:
        found = _least(np.concatenate([found, *_patches(path)], axis=1))
    if not found.size:
        raise NothingFound(f"run: {run} has no place that is like what {card.name} was taught")
    sure, lon, lat, value = found
    rows = spaced(sure, lon, lat, places)
    names = {c.value: c.name for c in card.classes}
    field = field_of(card)
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
            value = classes.read(1, out_shape=shape, resampling=Resampling.mode)
            good = value != classes.nodata
            level, known = _mean(path.parent / f"{layer}.tif", shape)
            good &= known
            if (path.parent / "domain.tif").is_file():
                like, said = _mean(path.parent / "domain.tif", shape)
                good &= ~said | (like >= INSIDE)
            to_crs, side = classes.transform, np.array([classes.width / shape[1], classes.height / shape[0]])
            crs = classes.crs.to_wkt()
    except rasterio.errors.RasterioError as err:
        raise DataError(f"{path}: not readable ({err})") from err
    least = CERTAINTY[layer]
    sure = np.abs(level - least) / (1 - least)
    rows, columns = np.nonzero(good)
    middle = np.floor((np.stack([columns, rows], 1) + 0.5) * side) + 0.5  # of one pixel, and not a corner of four
    x, y = to_crs * middle.T
    lon, lat = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform(x, y)
    if len(rows):
        yield _least(np.stack([sure[rows, columns], lon, lat, value[rows, columns].astype(np.float64)]))


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
