"""Objects over time as a table: what is written is read, columns say what they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from geoml import testing
from geoml.errors import DataError, InputError
from geoml.io.tables.sightings import SCHEMA, read_sightings, write_sightings
from geoml.vector.sightings import Sightings

CARD = testing.card("made", ("red",), ("car", "house"), task="detection")
CAR, HOUSE = (c.value for c in CARD.classes)
RECALL = {CAR: 0.75, HOUSE: None}


def made() -> Sightings:
    days = np.datetime64("2024-06-01", "us") + np.arange(3) * np.timedelta64(1, "D")
    never = np.datetime64("NaT", "us")
    counts = (np.array(c, np.int64) for c in ([4, 1, 2], [6, 3, 2], [0, 3, 0]))
    boxes = np.array([shapely.box(x, 50, x + 1e-4, 50.0001) for x in (7.3, 7.2, 7.1)], object)
    x, y = shapely.get_coordinates(shapely.centroid(boxes)).T
    value, length = np.array([CAR, CAR, HOUSE], np.uint8), np.array([4.5, 4.6, 12.0])
    times = (days, days + np.timedelta64(9, "D"), np.array([never, days[2] + np.timedelta64(12, "D"), never]))
    ids = np.array(["a", "b", "c"], object)
    return Sightings(ids, boxes, value, x, y, length, *times[:2], *counts, times[2])


def test_what_is_written_is_read(tmp_path: Path, conforms: Callable[[Path], bool]) -> None:
    rows, path = made(), tmp_path / "tracks.parquet"
    write_sightings(rows, CARD, RECALL, path)
    again = read_sightings(path)
    for f in fields(rows):
        np.testing.assert_array_equal(getattr(again, f.name), getattr(rows, f.name), f.name)
    assert conforms(path)
    other = tmp_path / "other.parquet"
    write_sightings(rows.take(np.array([2, 0, 1])), CARD, RECALL, other)
    assert other.read_bytes() == path.read_bytes(), "the order of rows does not matter"


def test_columns_say_what_they_hold(tmp_path: Path) -> None:
    write_sightings(made(), CARD, RECALL, path := tmp_path / "tracks.parquet")
    assert pq.read_schema(path).equals(SCHEMA)
    frame = geopandas.read_parquet(path).set_index("id").sort_index()
    assert frame["state"].tolist() == ["open", "closed", "open"]
    assert frame["name"].tolist() == ["car", "car", "house"]
    assert frame["missed_chance"].fillna(-1).tolist() == [1.0, 0.25**3, -1.0]
    assert frame["closed"].isna().tolist() == [True, False, True]
    assert str(frame["closed"]["b"]) == "2024-06-15 00:00:00+00:00"


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    write_sightings(Sightings.empty(), CARD, RECALL, path := tmp_path / "tracks.parquet")
    assert len(read_sightings(path)) == 0
    assert pq.read_schema(path).equals(SCHEMA)


def test_what_is_no_table_of_objects_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), other := tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet: not a table of objects, without class"):
        read_sightings(other)
    (damaged := tmp_path / "damaged.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(DataError, match=r"damaged\.parquet: not a table of objects"):
        read_sightings(damaged)
    strange = made()
    strange.value[:] = 99
    with pytest.raises(InputError, match=r"class: \[99\] not in the card of made"):
        write_sightings(strange, CARD, RECALL, tmp_path / "x.parquet")
