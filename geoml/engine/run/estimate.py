"""How much of a map is right, and the areas of its classes with confidence intervals, from places that people checked.

Two steps: `sample_places` picks places in every class of a finished run; someone looks at each without knowing what
the map says and writes down what is there; `estimate` reads the map at these places and corrects its areas.
Olofsson et al. 2014, https://doi.org/10.1016/j.rse.2014.02.015.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoml.engine.packages import cards
from geoml.errors import DataError, InputError, limits
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.classmap import open_map
from geoml.io.tables import parquet_geometry, place_files
from geoml.nn import area
from geoml.texts import counted, listed

LEAST = 50
"""Places in a class, however small it is (Olofsson et al. 2014, section 5.1); the rest by area."""
COLUMN = "reference"
NUMBER = "id"
"""Column of the places that `sample_places` numbers them in."""


@limits("area")
def sample_places(run: str | Path, places: int, out: Path, seed: int = 0) -> geopandas.GeoDataFrame:
    """Draw about ``places`` pixels of a run, stratified by its classes, and write them to ``out`` to be filled in.

    ``.gpkg`` or ``.geojson``; rows in random order with ``id``, an empty ``reference`` and a point in EPSG:4326; what
    the map says is left out on purpose. Each class of the map gets at least 50 places (all its pixels, if it has
    fewer), or an equal share where ``places`` is too small for that; the rest go by area. Raises InputError,
    also for an ``out`` in which places are filled in.
    """
    out = Path(out)
    place_files.check(out, COLUMN)
    card, class_map = cards.read(run, MapCard), open_map(run)
    pixels, areas = class_map.count()
    values = [c.value for c in card.classes if pixels[:, c.value].any()]
    check_places(places, len(values))
    rng = np.random.default_rng(seed)
    numbers = _allocate(areas.sum(0)[values], pixels.sum(0)[values], places)
    parts = []
    for value, number in zip(values, numbers, strict=True):
        counts = pixels[:, value]
        chosen = np.sort(rng.choice(counts.sum(), number, replace=False))
        ends = np.cumsum(counts)
        ranks = [chosen[(chosen >= end - n) & (chosen < end)] - (end - n) for end, n in zip(ends, counts, strict=True)]
        parts.append(np.stack(class_map.places(value, ranks)))
    lon, lat = rng.permutation(np.concatenate(parts, axis=1), axis=1)
    frame = geopandas.GeoDataFrame(
        {NUMBER: np.arange(1, len(lon) + 1), COLUMN: pd.Series([None] * len(lon), dtype="str")},
        geometry=geopandas.points_from_xy(lon, lat),
        crs="EPSG:4326",
    )
    place_files.write(frame, out)
    return frame


def check_places(places: int, classes: int) -> None:
    """Raise InputError for fewer places than an error can be estimated from."""
    if places < 2 * classes:
        raise InputError(f"places: {places}; expected at least two for each of {counted(classes, 'class', 'classes')}")


def _allocate(areas: NDArray[np.float64], pixels: NDArray[np.int64], places: int) -> NDArray[np.int64]:
    """Places for each class."""
    least = np.minimum(pixels, min(LEAST, places // len(areas)))
    rest = max(places - int(least.sum()), 0)
    numbers: NDArray[np.int64] = np.minimum(pixels, least + np.floor(rest * areas / areas.sum()).astype(np.int64))
    return numbers


@limits("area")
def estimate(run: str | Path, reference: str | Path, column: str = COLUMN) -> dict[str, Any]:
    """Areas (m²) of the classes of a run with 95 % intervals, and accuracies, by checked places in a vector file.

    ``column`` holds names or values of classes; places without one, and those off the map, are counted and left out.
    The places must be a random sample within each class of this map, as `sample_places` makes it; ``warnings`` name
    the classes whose places are too few or too right for an interval. Raises InputError, naming what is wrong, and for
    a class of the map with fewer than two places.
    """
    card = cards.read(run, MapCard)
    frame = _read(Path(reference), column)
    by_name = {c.name: k for k, c in enumerate(card.classes)} | {str(c.value): k for k, c in enumerate(card.classes)}
    observed = frame[column].map(lambda v: None if pd.isna(v) or not str(v).strip() else _word(v))
    if strange := {v: n for v, n in observed.value_counts().sort_index().items() if v not in by_name}:
        raise InputError(
            f"{column}: {listed((f'{v} in {n}' for v, n in strange.items()), most=3)} of {counted(len(frame), 'row')};"
            f" expected {listed(c.name for c in card.classes)}"
        )
    _check_once(frame, column)
    class_map = open_map(run)
    pixels, areas = class_map.count()
    index = np.full(257, -1)
    index[[c.value for c in card.classes]] = np.arange(len(card.classes))
    mapped = index[class_map.at(frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy())]  # -1 stays -1
    checked, on_map = observed.notna().to_numpy(), mapped >= 0
    both = checked & on_map
    if not both.any():
        raise InputError(
            f"{column}: none of {len(frame)} places in {reference} is filled in and on the map; expected the class of"
            " each, as it is seen there"
        )
    counts = np.zeros((len(card.classes),) * 2, np.int64)
    np.add.at(counts, (mapped[both], observed[both].map(by_name).to_numpy(np.int64)), 1)
    square_metres, available = (v.sum(0)[[c.value for c in card.classes]] for v in (areas, pixels))
    names = [c.name for c in card.classes]
    return {
        **area.estimate(counts, square_metres, names).as_json(names),
        "mapped": dict(zip(names, square_metres.tolist(), strict=True)),
        "counts": counts.tolist(),
        "places": int(both.sum()),
        "left_out": {"without_reference": int((~checked).sum()), "off_the_map": int((checked & ~on_map).sum())},
        "warnings": _doubts(counts, available, names),
    }


def _doubts(counts: NDArray[np.int64], pixels: NDArray[np.int64], names: Sequence[str]) -> list[str]:
    """Why intervals are too narrow: the equations take what few places show for all of a class, and no error for none.

    A class of which every pixel was checked has nothing left to be wrong about.
    """
    checked = counts.sum(1)
    drawn = checked < pixels
    few = [f"{n} {k}" for n, k, left in zip(names, checked, drawn, strict=True) if left and k < LEAST]
    right = [n for n, k, r, left in zip(names, checked, np.diag(counts), drawn, strict=True) if left and k == r]
    too_narrow = "the intervals are too narrow to believe"
    said = []
    if few:
        have = "have" if len(few) > 1 else "has"
        said.append(
            f"{len(few)} of {counted(len(names), 'class', 'classes')} {have} fewer than {LEAST} checked places"
            f" ({listed(few)}): {too_narrow}; check more"
        )
    if right:
        have, count = ("have", "count") if len(right) > 1 else ("has", "counts")
        said.append(
            f"{len(right)} of {counted(len(names), 'class', 'classes')} {have} no wrong place ({listed(right)}) and"
            f" {count} as mapped without an error: {too_narrow}"
        )
    return said


def _check_once(frame: geopandas.GeoDataFrame, column: str) -> None:
    """Refuse places that are in the file twice, which would count twice."""
    if NUMBER not in frame or column == NUMBER:
        return
    often = frame[NUMBER].value_counts()
    if len(twice := often[often > 1].sort_index()):
        said = listed(f"{_word(k)} in {n} rows" for k, n in twice.items())
        raise InputError(f"{NUMBER}: {counted(len(twice), 'place')} more than once ({said}); expected one row for each")


def _word(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _read(path: Path, column: str) -> geopandas.GeoDataFrame:
    if not path.is_file():
        raise InputError(f"reference: {path} is not a file")
    try:
        read = parquet_geometry.read if path.suffix.lower() in (".parquet", ".geoparquet") else geopandas.read_file
        frame = read(path)
        placed = frame if frame.crs is None else frame.to_crs("EPSG:4326")
    except Exception as err:  # GDAL, pyarrow and pyproj each have their own
        raise DataError(f"{path}: not readable ({err})") from err
    if column not in frame or frame.crs is None or not (frame.geometry.geom_type == "Point").all():
        raise InputError(f"reference: {path}; expected points with a CRS and a column {column}")
    return placed
