"""Changes and tracks as GeoParquet: what they were made of, and that files conform and come back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyproj
import pystac
import pytest
import shapely
from shapely.geometry import mapping

from geoml.errors import DataError, InputError
from geoml.grid.plane import Plane, blocks_touching
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.io.tables.changes import SCHEMA, ChangeRows, read_tracks, tracks_frame, write_changes
from geoml.io.tables.features import write_features
from geoml.vector.polygonise import polygonise
from geoml.vector.polygons import Features
from geoml.vector.tracks import Tracks, follow
from tests.feature_rows import features_of, frame_of, rows_of

CARD = MapCard(
    name="pairs",
    architecture="unet",
    task="change",
    dates=2,
    bands=(Band(name="red"),),
    gsd=10,
    chip_size=256,
    classes=(
        ClassInfo(value=0, name="unchanged", color="#000000"),
        ClassInfo(value=1, name="loss", color="#ff0000", before="trees", after="bare"),
        ClassInfo(value=2, name="other change", color="#0000ff"),
    ),
)


def at(day: int, hour: int = 12) -> dt.datetime:
    return dt.datetime(2024, 5, day, hour, tzinfo=dt.UTC)


def found() -> list[Features]:
    """Two changes, west (class 1) and east (class 2), in what did not change."""
    plane = Plane("EPSG:32621", 10.0)
    (block,) = blocks_touching(plane, 256, plane.window(300_000, 7_200_000, 300_005, 7_200_005))
    classes = np.zeros(block.window.shape, np.uint8)
    classes[20:40, 10:40] = 1
    classes[20:40, 200:240] = 2
    return features_of([(block, polygonise(classes, np.full_like(classes, 200), 255, block.window))])


def frame() -> geopandas.GeoDataFrame:
    """They and what did not change."""
    return frame_of(rows_of(found(), CARD, (at(1), at(9))))


def changes_frame(before: list[pystac.Item], after: list[pystac.Item], card: MapCard = CARD) -> geopandas.GeoDataFrame:
    return frame_of(rows_of(found(), CARD, (at(1), at(9)), rows=ChangeRows(card, before, after)))


def item(id: str, when: dt.datetime | None, area: Any, **span: dt.datetime) -> pystac.Item:
    geometry = None if area is None else mapping(area)
    bbox = None if area is None else list(area.bounds)
    return pystac.Item(id, geometry, bbox, when, {}, span.get("start"), span.get("end"))


@pytest.fixture
def sources() -> tuple[list[pystac.Item], list[pystac.Item]]:
    west, east = sorted(frame().query("`class` > 0").geometry, key=lambda g: g.bounds[0])
    both = shapely.box(*shapely.union_all([west, east]).buffer(0.01).bounds)
    before = [item("b2", at(2), both), item("b1", at(1), west.buffer(1e-4))]
    after = [item("a1", None, east.buffer(1e-4), start=at(7), end=at(9)), item("a2", at(8), both)]
    return before, after


def test_a_row_says_what_it_was_made_of(sources) -> None:
    made = changes_frame(*sources)
    assert made.columns.tolist() == [n for n in SCHEMA.names if n != "bbox"]
    assert made.crs.to_epsg() == 4326
    west, east = (made[made["class"] == k].to_dict("records")[0] for k in (1, 2))
    assert len(made) == 2  # what did not change is no row
    assert (west["name"], west["from"], west["to"]) == ("loss", "trees", "bare")
    assert (east["name"], east["from"], east["to"]) == ("other change", None, None)
    assert (west["before_items"], west["after_items"]) == (["b1", "b2"], ["a2"])
    assert (east["before_items"], east["after_items"]) == (["b2"], ["a1", "a2"])
    assert (west["before_start"], west["before_end"]) == (at(1), at(2))
    assert (west["after_start"], west["after_end"]) == (at(8), at(8))
    assert (east["before_start"], east["after_start"], east["after_end"]) == (at(2), at(7), at(9))
    assert west["confidence"] == pytest.approx(0.8)
    assert west["area_m2"] == pytest.approx(600 * 100, rel=2e-3)
    assert set(made["id"]) < set(frame()["id"])


def test_footprints_that_are_near_or_unknown() -> None:
    features = frame()
    west, south, east, north = features.total_bounds
    away = shapely.box(west, south + 5, east, north + 5)
    inner, outer = (shapely.box(west - d, south - d, east + d, north + d) for d in (0.005, 0.5))
    near = outer - inner  # a frame around all of them
    made = changes_frame([item("near", at(1), near), item("away", at(2), away)], [])
    assert made["before_items"].tolist() == [["near"]] * 2
    assert made["after_items"].tolist() == [[], []]
    assert made["after_start"].isna().all()
    anywhere = changes_frame([item("anywhere", at(3), None)], [item("away", at(4), away)])
    assert anywhere["before_items"].tolist() == [["anywhere"]] * 2
    assert anywhere["after_items"].tolist() == [[], []]


def test_a_naive_time_is_utc_and_one_with_an_offset_is_moved(sources) -> None:
    area = sources[0][0].geometry
    offset = dt.datetime(2024, 5, 3, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    made = changes_frame(
        [item("naive", dt.datetime(2024, 5, 3, 12), shapely.geometry.shape(area))],
        [item("offset", offset, shapely.geometry.shape(area))],
    )
    assert made["before_start"].tolist() == [at(3)] * 2
    assert made["after_start"].tolist() == [at(3, 10)] * 2


def test_an_unknown_class_or_an_item_without_a_time(sources) -> None:
    with pytest.raises(InputError, match=r"\[2\] not in the card"):
        changes_frame(*sources, CARD.model_copy(update={"classes": CARD.classes[:2]}))
    timeless = item("timeless", at(1), shapely.box(0, 0, 1, 1))
    timeless.datetime = None
    with pytest.raises(DataError, match="timeless"):
        changes_frame([timeless], [])


def test_changes_conform_and_come_back(sources, tmp_path: Path, conforms: Callable[[Path], bool]) -> None:
    made = changes_frame(*sources)
    path = tmp_path / "features.parquet"
    write_changes(made, path)
    assert conforms(path)
    back = geopandas.read_parquet(path).sort_values("id", ignore_index=True)
    assert back.columns.tolist() == [n for n in SCHEMA.names if n != "bbox"]
    assert (shapely.to_wkb(back.geometry) == shapely.to_wkb(made.geometry)).all()
    for name in ("before_items", "after_items", "blocks"):
        assert [list(v) for v in back[name]] == made[name].tolist()
    for name in ("id", "class", "name", "area_m2", "confidence", "model", "before_start", "after_end"):
        assert back[name].tolist() == made[name].tolist()
    assert back["from"].replace({np.nan: None}).tolist() == made["from"].tolist()


def test_no_change_has_the_same_columns(sources, tmp_path: Path, conforms: Callable[[Path], bool]) -> None:
    write_changes(changes_frame(*sources).iloc[:0], tmp_path / "empty.parquet")
    write_changes(changes_frame(*sources), tmp_path / "full.parquet")
    assert conforms(tmp_path / "empty.parquet")
    empty, full = (pq.read_schema(tmp_path / f"{n}.parquet").remove_metadata() for n in ("empty", "full"))
    assert empty == full


def history() -> Tracks:
    made = frame().query("`class` > 0").sort_values("class")
    looked, kinds = np.asarray(made.geometry.array, object), made["class"].to_numpy()
    world = shapely.box(-180, -90, 180, 90)
    days = [np.datetime64(f"2024-05-0{k}T12:00:00", "us") for k in (1, 2)]
    tracks, _ = follow(Tracks.empty(), looked, kinds, days[0], world)
    return follow(tracks, looked[:1], kinds[:1], days[1], world)[0]


def test_tracks_conform_and_come_back(tmp_path: Path, conforms: Callable[[Path], bool]) -> None:
    tracks, path = history(), tmp_path / "tracks.parquet"
    write_changes(tracks_frame(tracks, CARD), path)
    assert conforms(path)
    back = read_tracks(path)
    for name in ("id", "value", "first_seen", "last_seen"):
        assert getattr(back, name).dtype == getattr(tracks, name).dtype
        assert getattr(back, name).tolist() == getattr(tracks, name).tolist()
    np.testing.assert_array_equal(back.closed, tracks.closed)
    assert shapely.equals_exact(shapely.normalize(back.geometry), shapely.normalize(tracks.geometry)).all()
    table = geopandas.read_parquet(path)
    assert " ".join(table) == "id class name from to area_m2 first_seen last_seen closed geometry"
    row = table[table["class"] == 2].to_dict("records")[0]
    assert (row["first_seen"], row["last_seen"], row["closed"]) == (at(1), at(1), at(2))
    assert table[table["class"] == 1]["closed"].isna().all()
    geod = pyproj.Geod(ellps="WGS84")
    assert row["area_m2"] == pytest.approx(abs(geod.geometry_area_perimeter(row["geometry"])[0]))
    assert row["area_m2"] == pytest.approx(800 * 100, rel=2e-3)


def test_no_tracks_yet(tmp_path: Path, conforms: Callable[[Path], bool]) -> None:
    assert len(read_tracks(tmp_path / "none.parquet")) == 0
    write_changes(tracks_frame(Tracks.empty(), CARD), tmp_path / "tracks.parquet")
    write_changes(tracks_frame(history(), CARD), tmp_path / "full.parquet")
    assert conforms(tmp_path / "tracks.parquet")
    back = read_tracks(tmp_path / "tracks.parquet")
    assert len(back) == 0
    assert back.closed.dtype == np.dtype("datetime64[us]")
    empty, full = (pq.read_schema(tmp_path / f"{n}.parquet").remove_metadata() for n in ("tracks", "full"))
    assert empty == full


def test_what_is_no_table_of_tracks(sources, tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("nothing")
    with pytest.raises(DataError, match="not a table of tracks"):
        read_tracks(tmp_path / "text.parquet")
    write_changes(changes_frame(*sources), tmp_path / "changes.parquet")
    with pytest.raises(DataError, match="without closed, first_seen, last_seen"):
        read_tracks(tmp_path / "changes.parquet")


def test_types_of_other_columns(tmp_path: Path) -> None:
    """Only what write_features is told has a type when there are no rows."""
    extra = frame().iloc[:0].assign(closed=pd.Series([], dtype=object))
    write_features(extra, tmp_path / "plain.parquet")
    write_changes(extra, tmp_path / "typed.parquet")
    plain, typed = (str(pq.read_schema(tmp_path / f"{n}.parquet").field("closed").type) for n in ("plain", "typed"))
    assert (plain, typed) == ("null", "timestamp[us, tz=UTC]")
