"""GeoParquet: areas and shapes against pyproj's geodesics, files against the OGC validator and geopandas."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pyproj
import pytest
import scipy.ndimage
import shapely
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.grid.plane import Block, Plane, blocks_touching
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.io.tables import geoparquet
from geoml.io.tables.features import write_features
from geoml.vector.polygonise import polygonise
from geoml.vector.polygons import Features
from tests import feature_rows
from tests.feature_rows import features_of, rows_of

CARD = MapCard(
    name="demo",
    architecture="unet",
    bands=(Band(name="red"),),
    gsd=10,
    chip_size=256,
    classes=tuple(ClassInfo(value=i, name=n, color="#336699") for i, n in enumerate(("land", "open water", "ice"))),
)
TIMES = dt.datetime(2024, 5, 1, tzinfo=dt.UTC), dt.datetime(2024, 5, 31, 12, tzinfo=dt.UTC)


def smooth(size: int, seed: int = 0, sigma: float = 3) -> NDArray[np.uint8]:
    field = scipy.ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), sigma)
    return np.digitize(field, np.quantile(field, [0.3, 0.7])).astype(np.uint8)


def features(classes: NDArray[np.uint8], block: Block, confidence: int = 200) -> list[Features]:
    """Of which every third column is unlike the training data."""
    unlike = np.zeros(classes.shape, bool)
    unlike[:, ::3] = True
    traced = polygonise(classes, np.full_like(classes, confidence), 255, block.window, unlike)
    return features_of([(block, traced)])


def at(crs: str, x: float, y: float, size: int, res: float = 10.0) -> Block:
    plane = Plane(crs, res)
    return blocks_touching(plane, size, plane.window(x, y, x + res / 2, y + res / 2))[0]


def frame_of(batches: list[Features], **options: float) -> geopandas.GeoDataFrame:
    return feature_rows.frame_of(rows_of(batches, CARD, TIMES, **options))


@pytest.mark.parametrize(
    ("crs", "x", "y"),
    [
        ("EPSG:32621", 300_000.0, 7_200_000.0),
        ("EPSG:32733", 500_000.0, 9_990_000.0),
        ("EPSG:32661", 2_000_000.0, 2_010_000.0),
        ("EPSG:3857", -5_000_000.0, 6_000_000.0),
    ],
)
def test_areas_are_geodesic(crs: str, x: float, y: float) -> None:
    frame = frame_of(features(smooth(200), at(crs, x, y, 200)))
    geod = pyproj.Geod(ellps="WGS84")
    expected = [abs(geod.geometry_area_perimeter(g)[0]) for g in frame.geometry]
    np.testing.assert_allclose(frame["area_m2"], expected, rtol=2e-6)


def test_neighbours_fit_without_gaps_in_degrees() -> None:
    block = at("EPSG:32621", 300_000, 7_200_000, 300)
    frame = frame_of(features(smooth(300), block))
    assert shapely.coverage_is_valid(frame.geometry.array)
    assert not frame.geometry.union_all().interiors


def test_long_edges_follow_the_projection() -> None:
    block = at("EPSG:32621", 220_000, 7_800_000, 4000)
    (shape,) = frame_of(features(np.ones(block.window.shape, np.uint8), block)).geometry
    left, bottom, right, top = block.plane.bounds(block.window)
    to = pyproj.Transformer.from_crs("EPSG:32621", "EPSG:4326", always_xy=True)
    back = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32621", always_xy=True)
    edge = np.column_stack(to.transform(np.linspace(left, right, 5001), np.full(5001, top)))
    near = shapely.get_coordinates(shapely.shortest_line(shapely.points(edge), shape.exterior))[1::2]
    y = back.transform(*near.T)[1]
    assert np.abs(np.asarray(y) - top).max() < 0.1 * block.plane.res
    assert right - left == top - bottom == 40_000  # its straight chord would miss the middle by metres


def test_columns_and_values() -> None:
    classes = np.full((20, 20), 255, np.uint8)
    classes[2:6, 3:8] = 1
    frame = frame_of(features(classes, at("EPSG:32621", 300_000, 7_200_000, 20), confidence=125))
    (row,) = frame.to_dict("records")
    assert frame.crs.to_epsg() == 4326
    assert (row["class"], row["name"], row["model"], row["confidence"]) == (1, "open water", "demo", 0.5)
    assert row["area_m2"] == pytest.approx(20 * 100, rel=2e-3)  # UTM is 0.9996 … 1.001 true
    assert row["blocks"] == ["32621-10_20_y-36001_x1500"]
    assert (row["start_datetime"], row["end_datetime"]) == TIMES
    assert frame["datetime"].isna().all()
    assert row["geometry"].exterior.is_ccw


def test_one_instant_is_a_datetime() -> None:
    batches = features(np.ones((4, 4), np.uint8), at("EPSG:32621", 300_000, 7_200_000, 4))
    frame = feature_rows.frame_of(rows_of(batches, CARD, (TIMES[0], TIMES[0])))
    assert frame["datetime"].tolist() == [TIMES[0]]


def test_small_features_are_left_out_after_merging() -> None:
    plane = Plane("EPSG:32621", 10.0)
    blocks = [Block(plane, 1, -720_000, 30_000 + ix) for ix in range(4)]  # one bar of a pixel in each
    one = np.ones((1, 1), np.uint8)
    found = features_of([(block, polygonise(one, one, 255, block.window)) for block in blocks])
    assert len(frame_of(found, min_area=390)) == 1
    assert len(frame_of(found, min_area=410)) == 0


def test_simplified_neighbours_share_their_borders() -> None:
    batches = features(smooth(200), at("EPSG:32621", 300_000, 7_200_000, 200))
    plain, simple = frame_of(batches), frame_of(batches, simplify=20.0)
    assert simple.geometry.is_valid.all()
    assert shapely.coverage_is_valid(simple.geometry.array)
    assert shapely.get_num_coordinates(simple.geometry).sum() < 0.5 * shapely.get_num_coordinates(plain.geometry).sum()
    assert simple["area_m2"].sum() == pytest.approx(plain["area_m2"].sum(), rel=1e-4)


def test_the_antimeridian_cuts_a_feature_in_two() -> None:
    to = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True)
    block = at("EPSG:32660", *to.transform(180.0, 10.0), 64)
    (shape,) = frame_of(features(np.ones((64, 64), np.uint8), block)).geometry
    west, _, east, _ = shape.bounds
    assert (west, east) == (-180, 180)
    assert [g.geom_type for g in shape.geoms] == ["Polygon", "Polygon"]
    assert shape.area < 0.01  # not a belt around the world


def test_unknown_classes_and_negative_options_are_refused() -> None:
    batches = features(np.full((2, 2), 9, np.uint8), at("EPSG:32621", 300_000, 7_200_000, 2))
    with pytest.raises(InputError, match=r"\[9\] not in the card"):
        frame_of(batches)
    with pytest.raises(InputError, match="zero or more"):
        frame_of(batches, min_area=-1.0)


def test_a_file_conforms_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conforms: Callable[[Path], bool]
) -> None:
    monkeypatch.setattr(geoparquet, "ROW_GROUP", 50)
    frame = frame_of(features(smooth(300, sigma=1.5), at("EPSG:32621", 300_000, 7_200_000, 300)))
    path = tmp_path / "features.parquet"
    write_features(frame, path)
    assert conforms(path)
    back = geopandas.read_parquet(path).sort_values("id", ignore_index=True)
    assert back.columns.tolist() == frame.columns.tolist()
    assert back.crs == frame.crs
    assert (shapely.to_wkb(back.geometry) == shapely.to_wkb(frame.geometry)).all()
    for name in frame.columns.drop(["geometry", "blocks", "datetime"]):
        assert back[name].tolist() == frame[name].tolist(), name
    assert [list(b) for b in back["blocks"]] == frame["blocks"].tolist()
    west, south, east, north = frame.total_bounds
    corner = west, south, west + (east - west) / 5, south + (north - south) / 5
    part = geopandas.read_parquet(path, bbox=corner)
    meets = shapely.intersects(shapely.box(*frame.bounds.to_numpy().T), shapely.box(*corner))
    assert 0 < meets.sum() < len(frame) / 2
    assert sorted(part["id"]) == sorted(frame["id"][meets])


def test_rows_that_are_near_lie_in_one_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geoparquet, "ROW_GROUP", 100)
    frame = frame_of(features(smooth(400, sigma=1.2), at("EPSG:32621", 300_000, 7_200_000, 400)))
    path = tmp_path / "features.parquet"
    write_features(frame, path)
    file = pq.ParquetFile(path)
    assert file.num_row_groups == -(-len(frame) // 100) > 4
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    sizes = []
    for k in range(file.num_row_groups):
        box = file.read_row_group(k, ["bbox"])["bbox"].combine_chunks()
        middle = [
            (box.field(a).to_numpy() + box.field(b).to_numpy()) / 2 for a, b in (("xmin", "xmax"), ("ymin", "ymax"))
        ]
        sizes.append(np.prod([np.ptp(m) for m in middle]))
    whole = frame.geometry.union_all().envelope.area
    assert np.mean(sizes) < 3 * whole / file.num_row_groups


def test_the_same_features_give_the_same_bytes_for_any_blocks(tmp_path: Path) -> None:
    classes = smooth(128)
    plane = Plane("EPSG:32621", 10.0)
    digests = set()
    for size in (32, 128):
        parts = []
        whole = Block(plane, 128, -5600, 250).window
        for block in blocks_touching(plane, size, whole):
            part = np.ascontiguousarray(classes[block.window.slices(whole)])
            parts.append((block, polygonise(part, np.full_like(part, 77), 255, block.window)))
        frame = frame_of(features_of(parts)).drop(columns="blocks")
        write_features(frame, tmp_path / "features.parquet")
        digests.add((tmp_path / "features.parquet").read_bytes())
    assert len(digests) == 1


def test_an_empty_file_conforms(tmp_path: Path, conforms: Callable[[Path], bool]) -> None:
    write_features(frame_of([]), tmp_path / "features.parquet")
    assert conforms(tmp_path / "features.parquet")
    back = geopandas.read_parquet(tmp_path / "features.parquet")
    assert len(back) == 0
    full = frame_of(features(np.ones((2, 2), np.uint8), at("EPSG:32621", 300_000, 7_200_000, 2)))
    write_features(full, tmp_path / "full.parquet")
    names = "features.parquet", "full.parquet"
    empty_schema, full_schema = (pq.read_schema(tmp_path / n).remove_metadata() for n in names)
    assert empty_schema == full_schema


def test_the_bbox_is_declared_as_covering(tmp_path: Path) -> None:
    write_features(frame_of([]), tmp_path / "features.parquet")
    geo = json.loads(pq.read_schema(tmp_path / "features.parquet").metadata[b"geo"])
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert geo["version"] == "1.1.0"


def test_another_crs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected EPSG:4326"):
        write_features(frame_of([]).to_crs("EPSG:3857"), tmp_path / "features.parquet")
