"""The polygons or objects of a run beside those that somebody else published of the same ground.

What two models agree on is not what is right: the shares say how much of the one the other has, no more.
Of Satlas (https://github.com/allenai/satlas/blob/main/GeospatialDataProducts.md) a file over all months says from when
to when a feature was there, in ``start`` and ``end`` as YYYY-MM; those of other months than the run's are left out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geoml.engine.results.run import Run
from geoml.errors import InputError, limits
from geoml.io.tables import vectors
from geoml.nn.objects.box_matching import Pairs, nearest
from geoml.texts import listed

START, END = "start", "end"
MONTH = r"\d{4}-\d{2}"
_GEOD = pyproj.Geod(ellps="WGS84")


@dataclass(frozen=True)
class RunComparison:
    """Counts of features on the ground of the run. ``both`` are paired one to one, ``median_m`` apart; null without a
    pair. ``off_the_ground``, ``other_months`` and those ``without_geometry`` of the file are left out."""

    in_run: int
    in_file: int
    both: int
    median_m: float | None
    off_the_ground: int
    other_months: int
    without_geometry: int

    @property
    def as_json(self) -> dict[str, Any]:
        """Plain values, with the shares of the run and of the file that the other has; null of nothing."""
        shares = {"of_run": self.both / self.in_run if self.in_run else None}
        return asdict(self) | shares | {"of_file": self.both / self.in_file if self.in_file else None}


@limits("compare")
def compare(
    run: Run,
    file: str,
    *,
    name: str | None = None,
    field: str | None = None,
    value: str | None = None,
    within: float = 50.0,
) -> RunComparison:
    """Features of ``run`` of the class ``name`` (None: all) beside those of a vector file whose ``field`` is ``value``.

    Two features are one where they touch, or lie at most ``within`` metres apart, by a point inside of each; each has
    one partner, as many as can be. The ground is that of the run's blocks, as their items outline it. Raises
    InputError, naming the option, and what reading the file raises.
    """
    if not within >= 0:
        raise InputError(f"within: {within}; expected metres, 0 or more")
    if field is not None and value is None:
        raise InputError(f"value: missing; expected a value of {field}")
    if "features" not in run.tables:
        raise InputError("run: it has no polygons or objects; expected a run with features.parquet")
    ours = _only(run.polygons, "name", name, "class")
    asked = _only(_in_degrees(file), field, value, "value")
    shaped = asked[~(asked.geometry.is_empty | asked.geometry.isna())]
    theirs, months = _of_the_months(shaped, run)
    ground = shapely.union_all(shapely.make_valid([shapely.geometry.shape(i.geometry) for i in run.items]))
    inside = shapely.intersects(ground, theirs.geometry.to_numpy())
    pairs = _pairs(ours.geometry.to_numpy(), theirs.geometry.to_numpy()[inside], within)
    count = int(inside.sum())
    chosen = nearest(pairs, len(ours), count)
    median = float(np.median(chosen.value)) if len(chosen.value) else None
    left_out = int((~inside).sum()), months, len(asked) - len(shaped)
    return RunComparison(len(ours), count, len(chosen.value), median, *left_out)


def _only(frame: gpd.GeoDataFrame, column: str | None, value: str | None, option: str) -> gpd.GeoDataFrame:
    """Rows with a value in a column; all where none is asked for."""
    if value is None:
        return frame
    if column is None or column not in frame.columns:
        has = listed(str(c) for c in frame.columns if c != frame.geometry.name)
        raise InputError(f"field: {column!r} is no column; expected one of {has}")
    known = frame[column].astype(str)
    if not (known == value).any():
        raise InputError(f"{option}: no {column} is {value!r}; expected one of {listed(sorted(set(known)), most=8)}")
    return frame[known == value]


def _in_degrees(file: str) -> gpd.GeoDataFrame:
    frame = vectors.read(file, field="file")
    if frame.crs is None:
        raise InputError(f"file: {file} has no CRS; expected one, such as EPSG:4326")
    return frame.to_crs("EPSG:4326")


def _of_the_months(frame: gpd.GeoDataFrame, run: Run) -> tuple[gpd.GeoDataFrame, int]:
    """What was there in a month of the run, and how many were not; all of a file that says no months."""
    if not {START, END} <= set(frame.columns):
        return frame, 0
    first, last = (str(t)[:7] for t in run["datetime"])
    start, end = (frame[c].astype("string").str.extract(f"^({MONTH})")[0] for c in (START, END))
    there = ((start <= last) | start.isna()) & ((end >= first) | end.isna())
    return frame[there.to_numpy(bool)], int((~there).sum())


def _pairs(ours: NDArray[np.object_], theirs: NDArray[np.object_], within: float) -> Pairs:
    """All that may be one, with the metres between them, 0 where they touch."""
    from scipy.spatial import cKDTree

    if not len(ours) or not len(theirs):
        return Pairs(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))
    points = [shapely.get_coordinates(shapely.point_on_surface(g)) for g in (ours, theirs)]
    space = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    trees = [cKDTree(np.column_stack(space.transform(p[:, 0], p[:, 1], np.zeros(len(p))))) for p in points]
    near = trees[0].sparse_distance_matrix(trees[1], within, output_type="coo_matrix")
    touching = shapely.STRtree(theirs).query(ours, predicate="intersects")
    i, j = np.unique(np.column_stack([[near.row, near.col], touching]), axis=1).astype(np.intp)
    metres = np.array(_GEOD.inv(*points[0][i].T, *points[1][j].T)[2])
    metres[shapely.intersects(ours[i], theirs[j])] = 0.0
    return Pairs(i, j, metres).where(metres <= within)
