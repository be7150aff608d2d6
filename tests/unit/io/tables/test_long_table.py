"""Long tables: read as they are, and refused with field and count where they cannot mean what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from geoml.errors import DataError, GeomlError, InputError, NothingFound
from geoml.io.tables.durations import StepDuration
from geoml.io.tables.long_table import PlaceTable, read_panel, read_places
from geoml.io.tables.step_axis import StepAxis
from geoml.io.tables.table_source import PlaceFile, TableLayout, TableVariable

PLACES = PlaceTable(("a", "b"), np.array([[13.0, 52.0], [13.5, 52.5]]), shapely.points([[13.0, 52.0], [13.5, 52.5]]))


def layout(**changed: Any) -> TableLayout:
    value = {"step": "PT1H", "variables": (TableVariable(column="v", missing=(-999.0,)),)}
    return TableLayout.model_validate({**value, **changed})


def hours(count: int = 48, start: str = "2024-01-01T00:00Z") -> pd.DataFrame:
    times = pd.date_range(start, periods=count, freq="h")
    rows = [pd.DataFrame({"id": n, "time": times, "v": np.arange(count) + 100.0 * k}) for k, n in enumerate("ab")]
    return pd.concat(rows, ignore_index=True)


def saved(frame: pd.DataFrame, path: Path, kind: str = "parquet") -> Path:
    out = path / f"t.{kind}"
    if kind == "csv":
        frame.to_csv(out, index=False)
    else:
        frame.to_parquet(out)
    return out


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_missing_step_stays_missing_and_so_does_a_number_that_means_it(tmp_path: Path, kind: str) -> None:
    frame = hours().drop(index=[5, 6])
    frame.loc[10, "v"] = -999
    panel = read_panel(saved(frame, tmp_path, kind), layout(), PLACES)
    assert panel.values.shape == (1, 48, 2)
    assert np.flatnonzero(np.isnan(panel.values[0, :, 0])).tolist() == [5, 6, 10]
    np.testing.assert_array_equal(panel.values[0, :, 1], np.arange(48) + 100.0)
    assert panel.axis.time(panel.numbers[:1])[0] == pd.Timestamp("2024-01-01T00:00Z")


def changed(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    if what == "twice":
        return pd.concat([frame.iloc[:20], frame.iloc[19:]])
    if what == "order":
        return frame.iloc[[0, 1, 3, 2, *range(4, len(frame))]]
    if what == "infinite":
        return frame.assign(v=frame.v.where(frame.index != 7, np.inf))
    if what == "text":
        return frame.assign(v=frame.v.astype(object).where(frame.index != 7, "n/k"))
    if what == "off":
        return frame.assign(time=frame.time.where(frame.index != 7, frame.time + pd.Timedelta("35min")))
    if what == "no time":
        return frame.assign(time=frame.time.astype(str).where(frame.index != 7, "soon"))
    if what == "no place":
        return frame.assign(id=frame.id.mask(frame.index == 7, None))
    return frame.assign(lon=13.0, lat=np.where(frame.index == 7, 52.1, 52.0))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("twice", "time: 1 rows are of a place and step that another row has"),
        ("order", "time: 1 rows are out of order"),
        ("infinite", "v: 1 values are infinite"),
        ("text", "v: 1 values are not numbers"),
        ("off", "time: 1 rows are off their step of PT1H"),
        ("no time", "time: 1 of 96 rows have no time"),
        ("no place", "id: 1 of 96 rows have no place"),
        ("moved", "lon, lat: 1 places have two positions"),
    ],
)
def test_what_cannot_be_is_refused_with_field_and_count(tmp_path: Path, what: str, says: str) -> None:
    path = saved(changed(hours(), what), tmp_path, "csv")
    with pytest.raises(DataError, match=says):
        read_panel(path, layout(), None if what == "moved" else PLACES)


@pytest.mark.parametrize("what", ["twice", "order", "infinite", "text", "off"])
def test_what_comes_after_the_reference_time_is_not_looked_at(tmp_path: Path, what: str) -> None:
    """Even where it could not be read."""
    clean = hours()
    late = clean.assign(time=clean.time + pd.Timedelta("2D"))
    both = [pd.concat([clean[clean.id == n], changed(late, what)[lambda t, n=n: t.id == n]]) for n in "ab"]
    path = saved(pd.concat(both).reset_index(drop=True), tmp_path, "csv")
    with pytest.raises(DataError):
        read_panel(path, layout(), PLACES)
    until = pd.Timestamp("2024-01-02T23:00Z")
    panel = read_panel(path, layout(), PLACES, until=until)
    np.testing.assert_array_equal(panel.values, read_panel(saved(clean, tmp_path), layout(), PLACES).values)
    with pytest.raises(NothingFound, match="no row at"):
        read_panel(path, layout(), PLACES, until=pd.Timestamp("2023-01-01T00:00Z"))


def test_local_times_need_a_zone_and_are_refused_where_summer_time_makes_them_doubtful(tmp_path: Path) -> None:
    local = hours().assign(time=lambda t: t.time.dt.tz_localize(None))
    with pytest.raises(InputError, match="zone: 96 rows of time state none"):
        read_panel(saved(local, tmp_path), layout(), PLACES)
    panel = read_panel(saved(local, tmp_path), layout(zone="+08:00"), PLACES)
    assert panel.axis.time(panel.numbers[:1])[0] == pd.Timestamp("2023-12-31T16:00Z")
    autumn = hours(48, "2024-10-26T00:00").assign(id="a").drop_duplicates("time")
    with pytest.raises(DataError, match="time: 1 local times come twice in Europe/Berlin"):
        read_panel(saved(autumn, tmp_path), layout(zone="Europe/Berlin"), PLACES)
    spring = hours(48, "2024-03-30T00:00").assign(id="a").drop_duplicates("time")
    with pytest.raises(DataError, match="time: 1 local times do not exist in Europe/Berlin"):
        read_panel(saved(spring, tmp_path), layout(zone="Europe/Berlin"), PLACES)
    before = read_panel(
        saved(autumn, tmp_path), layout(zone="Europe/Berlin"), PLACES, until=pd.Timestamp("2024-10-26T20:00Z")
    )
    assert before.values.shape[1] == 23
    with pytest.raises(ValueError, match="zone"):
        layout(zone="Berlin")


def test_a_time_at_the_start_of_its_hour_is_known_at_the_end(tmp_path: Path) -> None:
    path = saved(hours(), tmp_path)
    until = pd.Timestamp("2024-01-01T10:00Z")
    ends = read_panel(path, layout(), PLACES, until=until)
    starts = read_panel(path, layout(label="start"), PLACES, until=until)
    assert ends.values[0, -1, 0] == 10
    assert starts.values[0, -1, 0] == 9
    assert starts.axis.time(starts.numbers[-1:])[0] == until
    assert starts.axis.last_known(until) == starts.numbers[-1]
    with pytest.raises(InputError, match=r"between steps of PT1H, try 2024-01-01T10:00:00Z"):
        starts.axis.last_known(pd.Timestamp("2024-01-01T10:20Z"))


def test_years_and_days_are_steps_of_the_calendar(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["a"] * 3, "year": [2012, 2011, 2009], "v": [3.0, 2.0, 0.0]})
    yearly = layout(step="P1Y", time="year", zone="UTC", label="start", variables=(TableVariable(column="v"),))
    panel = read_panel(saved(frame, tmp_path, "csv"), yearly, PLACES)
    np.testing.assert_array_equal(panel.values[0, :, 0], [0.0, np.nan, 2.0, 3.0])
    assert panel.axis.time(panel.numbers)[-1] == pd.Timestamp("2013-01-01T00:00Z")
    days = StepAxis(StepDuration.parse("P1D"), "Europe/Berlin")
    times = pd.DatetimeIndex(["2024-03-31T12:00Z", "2024-10-27T12:00Z"])
    number, _ = days.number(times)
    assert [t.hour for t in days.time(number)] == [23, 22]  # midnight of days of 23 and 25 hours


@pytest.mark.parametrize("text", ["PT15M", "PT1H", "PT1H30M", "P1D", "P3M", "P1Y", "P1Y6M"])
def test_durations_come_back_as_they_are(text: str) -> None:
    assert str(StepDuration.parse(text)) == text


@pytest.mark.parametrize("text", ["", "P", "PT", "1H", "P1M1D", "PT0S", "P1H"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="duration"):
        StepDuration.parse(text)


def test_places_are_points_or_polygons_and_stand_once(tmp_path: Path) -> None:
    squares = [shapely.box(13, 52, 14, 53), shapely.box(0, 0, 1, 1)]
    frame = geopandas.GeoDataFrame({"code": ["b", "a"]}, geometry=squares, crs=4326)
    frame.to_parquet(tmp_path / "p.parquet")
    found = read_places(tmp_path / "p.parquet", PlaceFile(path="p", id="code"))
    assert found.ids == ("b", "a")
    assert all(shapely.contains_xy(s, *xy) for s, xy in zip(squares, found.lonlat, strict=True))
    for lons, what in (("13,13", "appears twice"), ("13,13.5", "has two positions")):
        rows = [f"b,{lon},52" for lon in lons.split(",")]
        (tmp_path / "p.csv").write_text("\n".join(["id,lon,lat", *rows]))
        with pytest.raises(DataError, match=f"'b' {what}"):
            read_places(tmp_path / "p.csv", PlaceFile(path="p"))
    (tmp_path / "p.csv").write_text("id,lon,lat\na,200,52\n")
    with pytest.raises(DataError, match="1 positions are not longitude"):
        read_places(tmp_path / "p.csv", PlaceFile(path="p"))
    with pytest.raises(InputError, match="no column key"):
        read_places(tmp_path / "p.csv", PlaceFile(path="p", id="key"))


def test_a_file_of_places_is_what_its_name_says(tmp_path: Path) -> None:
    (tmp_path / "p.kml").write_text("<gpx><kml/></gpx>", encoding="utf-8")
    with pytest.raises(DataError, match="root of its XML is gpx"):
        read_places(tmp_path / "p.kml", PlaceFile(path="p"))


def test_a_place_that_moved_is_refused_by_what_the_table_says(tmp_path: Path) -> None:
    """Also where positions come from elsewhere; where they came from a table, another table has to say the same."""
    moved = changed(hours(), "moved")
    with pytest.raises(DataError, match=r"lon, lat: 1 places lie elsewhere than before, the first 'a'"):
        read_panel(saved(moved, tmp_path), layout(), PLACES)
    before = pd.Timestamp("2024-01-01T06:00Z")
    assert read_panel(saved(moved, tmp_path), layout(), PLACES, until=before).values.shape == (1, 7, 2)
    still = saved(hours().assign(lon=14.0, lat=52.0), tmp_path)
    assert read_panel(still, layout(), PLACES).values.shape == (1, 48, 2)
    with pytest.raises(DataError, match=r"lon, lat: 2 places lie elsewhere than before, the first 'a'"):
        read_panel(still, layout(), replace(PLACES, of_table=True))


def test_a_place_without_a_position_is_left_out_and_counted(tmp_path: Path) -> None:
    frame = pd.concat([hours(), hours().assign(id="c")]).drop_duplicates(["id", "time"])
    panel = read_panel(saved(frame, tmp_path), layout(), PLACES)
    assert panel.left_out == {"places without a position": "1: c"}
    assert panel.values.shape[2] == 2


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"no table")
    (tmp_path / "e.csv").write_text("id,time,v\n")
    for name, says in (("t.parquet", "cannot be read"), ("x.csv", "cannot be read"), ("e.csv", "has no row")):
        path = tmp_path / name
        with pytest.raises(GeomlError, match=says):
            read_panel(path, layout(), PLACES)
    with pytest.raises(InputError, match="no column w"):
        read_panel(saved(hours(), tmp_path), layout(variables=(TableVariable(column="w"),)), PLACES)
