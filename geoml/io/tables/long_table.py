"""Long tables of stations and polygons as arrays on an axis of equal steps. Nothing is filled, moved or repaired.

What lies after ``until`` is cut off before anything of it is looked at but its time, so it can change nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from geoml.errors import DataError, InputError, NothingFound
from geoml.io.tables import vectors
from geoml.io.tables.durations import zone_of
from geoml.io.tables.step_axis import OFF, StepAxis
from geoml.io.tables.table_source import Columns, PlaceFile, TableLayout
from geoml.texts import listed

Floats = NDArray[np.float64]
PARTS = ("year", "month", "day", "hour", "minute")
LONGEST = 2_000_000
"""Steps of an axis; a table of more has a wrong time or a wrong step."""
MOVED = 0.01
"""Degrees, about a kilometre: a place that is further off than before is another one."""


@dataclass(frozen=True, eq=False)
class PlaceTable:
    """Places by id, with a point (n, 2) of degrees and the geometry of each. ``of_table`` is for points that a table
    said, so that another table has to say the same."""

    ids: tuple[str, ...]
    lonlat: Floats
    geometries: NDArray[np.object_]
    of_table: bool = False

    def take(self, ids: Sequence[str]) -> PlaceTable:
        at = {name: k for k, name in enumerate(self.ids)}
        order = [at[name] for name in ids]
        return PlaceTable(tuple(ids), self.lonlat[order], self.geometries[order], self.of_table)


@dataclass(frozen=True, eq=False)
class TimePanel:
    """``values`` (variable, step, place) float64, NaN where not known; the first step has the number ``first``.

    ``left_out`` says what was not used, by reason, with how many rows or which places.
    """

    axis: StepAxis
    first: int
    values: Floats
    places: PlaceTable
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def numbers(self) -> NDArray[np.int64]:
        return np.arange(self.first, self.first + self.values.shape[1])

    def between(self, first: int, last: int) -> TimePanel:
        """From step ``first`` to ``last``, both with; what lies outside of the table is not known."""
        steps = np.arange(first, last + 1) - self.first
        inside = (steps >= 0) & (steps < self.values.shape[1])
        out = np.full((len(self.values), len(steps), self.values.shape[2]), np.nan)
        out[:, inside] = self.values[:, steps[inside]]
        return replace(self, first=first, values=out)

    def of(self, ids: Sequence[str], places: PlaceTable | None = None) -> TimePanel:
        """With these places in this order; one that is not there is not known."""
        at = {name: k for k, name in enumerate(self.places.ids)}
        out = np.full((*self.values.shape[:2], len(ids)), np.nan)
        for k, name in enumerate(ids):
            if name in at:
                out[:, :, k] = self.values[:, :, at[name]]
        return replace(self, values=out, places=places or self.places.take(ids))


def read_panel(
    path: Path, layout: TableLayout, places: PlaceTable | None = None, until: pd.Timestamp | None = None,
    phase: int | None = None,
) -> TimePanel:  # fmt: skip
    """A table with what is known at ``until`` (UTC); ``phase`` is that of the axis, by default the most common.

    Raises InputError for columns that are not there and times without a zone, DataError, naming column and count, for
    times that are none, do not exist or come twice in their zone, or are off the axis; for two rows of a place and
    time, rows out of order, values that are not numbers or infinite, rows without a place, and a place with two
    positions or another one than before; NothingFound without a row.
    """
    frame = _read(path, layout)
    if not len(frame):
        raise NothingFound(f"table: {path} has no row")
    times = _times(frame, layout, path, until)
    if until is not None:
        known = times <= until - _period(layout)
        frame, times = frame[known.to_numpy()], times[known.to_numpy()]
    if not len(frame):
        raise NothingFound(f"table: {path} has no row{'' if until is None else f' at {until.isoformat()} or before'}")
    axis = StepAxis(
        layout.duration, layout.zone or "UTC", layout.label, _phase(times, layout) if phase is None else phase
    )
    number, off = axis.number(pd.DatetimeIndex(times))
    if off:
        raise DataError(
            f"{_named(layout.time)}: {off} rows are off their step of {layout.step} by over {OFF:.0%} of it"
        )
    _check_ids(frame, layout.id)
    ids = _ids(frame, layout.id)
    if places is None:
        places = _own_places(frame, ids, path)
    else:
        _check_still(frame, ids, places)
    left_out = {}
    placed = ids.isin(places.ids).to_numpy()
    if not placed.all():
        lost = sorted(set(ids[~placed]))
        left_out["places without a position"] = f"{len(lost)}: {listed(lost, most=5)}"
        frame, ids, number = frame[placed], ids[placed], number[placed]
    _check_rows(ids, number, layout)
    first, last = (int(v) for v in (number.min(), number.max())) if len(number) else (0, -1)
    if last - first > LONGEST:
        raise DataError(f"{_named(layout.time)}: {last - first} steps of {layout.step}; expected at most {LONGEST}")
    values = np.full((len(layout.variables), last - first + 1, len(places.ids)), np.nan)
    column = pd.Index(places.ids).get_indexer(pd.Index(ids))
    for k, variable in enumerate(layout.variables):
        values[k, number - first, column] = _numbers(frame[variable.column], variable.column, variable.missing)
    return TimePanel(axis, first, values, places, left_out)


def place_columns(path: Path, wanted: Sequence[str], usual: Columns) -> Columns:
    """The columns of a file of places whose ids are among the wanted: ``usual`` where it has these, else the one with
    most of them. Raises InputError if none has any."""
    frame = _places_frame(path)
    names = [c for c in frame.columns if c != "geometry"]
    ways = [*([usual] if set(usual) <= set(names) else []), *((str(c),) for c in names)]
    known = set(wanted)
    count = [len(known & set(_ids(frame, way))) for way in ways]
    if not count or not max(count):
        raise InputError(f"places: no column of {path} has an id of the table or the model; it has {listed(names)}")
    return ways[count.index(max(count))]


def read_places(path: Path, file: PlaceFile) -> PlaceTable:
    """Raises InputError for columns that are not there, DataError for a place that appears twice or has no position."""
    frame = _places_frame(path)
    if missing := [c for c in file.id if c not in frame]:
        raise InputError(f"places: {path} has no column {listed(missing)}; it has {listed(map(str, frame.columns))}")
    _check_ids(frame, file.id)
    ids = _ids(frame, file.id)
    if isinstance(frame, geopandas.GeoDataFrame):
        geometries = np.asarray(frame.geometry.to_numpy(), object)
        if frame.geometry.isna().any() or frame.geometry.is_empty.any():
            raise DataError(f"places: {int((frame.geometry.isna() | frame.geometry.is_empty).sum())} have no geometry")
        inside = shapely.point_on_surface(geometries)
        lonlat = np.column_stack([shapely.get_x(inside), shapely.get_y(inside)])
    else:
        lonlat = _lonlat(frame, file.lon, file.lat, "places")
        geometries = shapely.points(lonlat)
    if (count := ids.duplicated(keep=False)).any():
        moved = frame.assign(_id=ids, _lon=lonlat[:, 0], _lat=lonlat[:, 1])[count.to_numpy()]
        names = sorted(set(moved["_id"]))
        places = moved.drop_duplicates(["_id", "_lon", "_lat"])["_id"].value_counts()
        what = "has two positions" if (places > 1).any() else "appears twice"
        raise DataError(
            f"places: {path}: {len(names)} ids come more than once, {names[0]!r} {what}; expected each once"
        )
    return PlaceTable(tuple(ids), lonlat, geometries)


def ids_of(path: Path, columns: Columns) -> list[str]:
    """Places of a table, each once. Raises InputError for columns that are not there."""
    return [str(name) for name in _ids(_with(path, columns, columns), columns).dropna().unique()]


def columns_of(path: Path) -> list[str]:
    """Names of the columns of a table. Raises InputError."""
    return [str(c) for c in _table(path, {}).columns]


def _read(path: Path, layout: TableLayout) -> pd.DataFrame:
    """The columns that are needed, ids as text."""
    needed = [*layout.id, *layout.time, *(v.column for v in layout.variables)]
    return _with(path, needed, layout.id)


def _with(path: Path, needed: Sequence[str], ids: Columns) -> pd.DataFrame:
    """A table that has the columns that are needed."""
    frame = _table(path, dict.fromkeys(ids, str))
    if missing := [c for c in needed if c not in frame]:
        raise InputError(f"table: {path} has no column {listed(missing)}; it has {listed(map(str, frame.columns))}")
    return frame


def _table(path: Path, types: dict[str, type]) -> pd.DataFrame:
    try:
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            return pd.read_parquet(path)
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline()
        return pd.read_csv(path, sep=max(",;\t", key=first.count), dtype=types, low_memory=False)
    except (OSError, ValueError, pa.ArrowException, pd.errors.ParserError) as err:
        raise InputError(f"table: {path} cannot be read ({str(err)[:200]}); expected CSV or Parquet") from err


def _times(frame: pd.DataFrame, layout: TableLayout, path: Path, until: pd.Timestamp | None) -> pd.Series:
    """UTC."""
    name = _named(layout.time)
    if len(layout.time) > 1 or pd.api.types.is_numeric_dtype(frame[layout.time[0]]):
        given = {part: pd.to_numeric(frame[c], errors="coerce") for part, c in zip(PARTS, layout.time, strict=False)}
        whole = pd.to_datetime(pd.DataFrame({"month": 1, "day": 1} | given, index=frame.index), errors="coerce")
        zoned = pd.Series(whole)
    else:
        zoned = _parsed(frame[layout.time[0]], name)
    if wrong := int(zoned.isna().sum()):
        raise DataError(f"{name}: {wrong} of {len(zoned)} rows have no time in {path}")
    if getattr(zoned.dt, "tz", None) is not None:
        return zoned.dt.tz_convert("UTC")
    if layout.zone is None:
        raise InputError(
            f"zone: {len(zoned)} rows of {name} state none; expected that of the table, such as UTC or +08:00"
        )
    return _localised(zoned, zone_of(layout.zone), layout, until)


def _parsed(column: pd.Series, name: str) -> pd.Series:
    """Times of a column, with a zone if all have one."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return column
    text = column.astype(str)
    whole = pd.to_datetime(text, errors="coerce", utc=True, format="ISO8601")
    if whole.isna().any():
        return whole
    with_zone = text.str.contains(r"(?:Z|[+-]\d\d:?\d\d)\s*$", regex=True)
    if with_zone.any() and not with_zone.all():
        raise DataError(f"{name}: {int(with_zone.sum())} of {len(text)} rows have a time zone; expected all or none")
    return whole if with_zone.any() else pd.to_datetime(text, format="ISO8601")


def _localised(naive: pd.Series, zone: dt.tzinfo, layout: TableLayout, until: pd.Timestamp | None) -> pd.Series:
    """Local times as UTC. Those that come twice or never are an error where they may be known at ``until``."""
    name = _named(layout.time)
    nominal = naive.dt.tz_localize(zone, ambiguous=np.ones(len(naive), bool), nonexistent="shift_backward")
    utc: pd.Series = nominal.dt.tz_convert("UTC")
    early = np.ones(len(naive), bool) if until is None else (utc <= until - _period(layout)).to_numpy()
    if layout.duration.seconds and layout.duration.seconds % 86_400:
        for what, words in (("ambiguous", "come twice"), ("nonexistent", "do not exist")):
            how: dict[str, Any] = {"ambiguous": np.ones(len(naive), bool), "nonexistent": "shift_backward"}
            lost = naive.dt.tz_localize(zone, **(how | {what: "NaT"})).isna().to_numpy() & early
            if lost.any():
                raise DataError(
                    f"{name}: {int(lost.sum())} local times {words} in {layout.zone} (first {naive[lost].iloc[0]});"
                    " expected times with their zone"
                )
    return utc


def _period(layout: TableLayout) -> pd.Timedelta | pd.DateOffset:
    """What has to pass after a time until its value is known."""
    if layout.label == "end":
        return pd.Timedelta(0)
    step = layout.duration
    return pd.DateOffset(months=step.months) if step.months else pd.Timedelta(seconds=step.seconds)


def _phase(times: pd.Series, layout: TableLayout) -> int:
    """Seconds that most times are after a multiple of the step."""
    step = layout.duration.seconds
    if not step or step % 86_400 == 0:
        return 0
    seconds = times.dt.tz_localize(None).to_numpy("datetime64[s]").astype(np.int64) % step
    values, counts = np.unique(seconds, return_counts=True)
    return int(values[counts.argmax()])


def _check_rows(ids: pd.Series, number: NDArray[np.int64], layout: TableLayout) -> None:
    """Raise DataError for two rows of one place and time, and for places whose rows neither rise nor fall with time."""
    rows = pd.DataFrame({"id": ids.to_numpy(), "number": number})
    name = _named(layout.time)
    if count := int(rows.duplicated().sum()):
        at = rows[rows.duplicated()].iloc[0]
        raise DataError(f"{name}: {count} rows are of a place and step that another row has, the first of {at['id']!r}")
    step = np.sign(rows.groupby("id", sort=False)["number"].diff())
    mostly = np.sign(step.groupby(rows["id"]).transform("sum"))
    back = (step != mostly) & step.notna()
    if count := int(back.sum()):
        raise DataError(f"{name}: {count} rows are out of order, the first of {rows['id'][back].iloc[0]!r}")


def _numbers(column: pd.Series, name: str, missing: Sequence[float]) -> Floats:
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    strange = int((np.isnan(values) & column.notna().to_numpy()).sum())
    if strange:
        raise DataError(f"{name}: {strange} values are not numbers")
    if infinite := int(np.isinf(values).sum()):
        raise DataError(f"{name}: {infinite} values are infinite")
    return np.where(np.isin(values, missing), np.nan, values)


def _ids(frame: pd.DataFrame, columns: Columns) -> pd.Series:
    parts = [frame[c].astype(str).str.strip() for c in columns]
    out = parts[0]
    for part in parts[1:]:
        out = out + "-" + part
    return out


def _check_ids(frame: pd.DataFrame, columns: Columns) -> None:
    """Raise DataError for rows that do not say their place."""
    if lost := int(frame[list(columns)].isna().any(axis=1).sum()):
        raise DataError(f"{_named(columns)}: {lost} of {len(frame)} rows have no place")


def _check_still(frame: pd.DataFrame, ids: pd.Series, places: PlaceTable) -> None:
    """Raise DataError for places that lie elsewhere by the table's own positions, if it has any, than at first."""
    if not {"lon", "lat"} <= set(frame.columns):
        return
    where = pd.DataFrame({"id": ids, **{c: pd.to_numeric(frame[c], errors="coerce") for c in ("lon", "lat")}})
    where = where.dropna().drop_duplicates().set_index("id")
    first = where[~where.index.duplicated()]
    if places.of_table:
        first = pd.DataFrame(places.lonlat, pd.Index(places.ids), columns=["lon", "lat"])
    away = (where - first.reindex(where.index)).abs().max(axis=1)
    if moved := sorted(set(away.index[away > MOVED])):
        raise DataError(f"lon, lat: {len(moved)} places lie elsewhere than before, the first {moved[0]!r}; a station"
                        " that moved is another one")  # fmt: skip


def _own_places(frame: pd.DataFrame, ids: pd.Series, path: Path) -> PlaceTable:
    """Positions that stand in the table itself."""
    if not {"lon", "lat"} <= set(frame.columns):
        raise InputError(f"places: {path} has no columns lon and lat; expected a file of places")
    where = pd.DataFrame({"id": ids, "lon": frame["lon"], "lat": frame["lat"]}).drop_duplicates()
    moved = where["id"][where["id"].duplicated()]
    if len(moved):
        raise DataError(f"lon, lat: {moved.nunique()} places have two positions, the first {moved.iloc[0]!r}")
    where = where.sort_values("id")
    lonlat = _lonlat(where, "lon", "lat", "table")
    return PlaceTable(tuple(where["id"]), lonlat, shapely.points(lonlat), of_table=True)


def _places_frame(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            frame = geopandas.read_parquet(path)
        elif path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8-sig") as file:
                separator = max(",;\t", key=file.readline().count)
            return pd.read_csv(path, sep=separator, dtype=str)
        else:
            frame = vectors.read(path, field="places")
        placed: pd.DataFrame = frame.to_crs(4326) if frame.crs is not None else frame.set_crs(4326)
        return placed
    except (OSError, ValueError, RuntimeError, pa.ArrowException, pd.errors.ParserError) as err:
        why = str(err)[:200]
        raise InputError(
            f"places: {path} cannot be read ({why}); expected CSV, GeoParquet, GeoPackage or GeoJSON"
        ) from err


def _lonlat(frame: pd.DataFrame, lon: str, lat: str, what: str) -> Floats:
    if missing := [c for c in (lon, lat) if c not in frame]:
        raise InputError(f"{what}: no column {listed(missing)}; it has {listed(map(str, frame.columns))}")
    out = np.column_stack([pd.to_numeric(frame[c], errors="coerce").to_numpy(np.float64) for c in (lon, lat)])
    wrong = ~(np.isfinite(out).all(1) & (np.abs(out[:, 0]) <= 180) & (np.abs(out[:, 1]) <= 90))
    if wrong.any():
        raise DataError(f"{what}: {int(wrong.sum())} positions are not longitude and latitude in degrees")
    return out


def _named(columns: Columns) -> str:
    return ", ".join(columns)
