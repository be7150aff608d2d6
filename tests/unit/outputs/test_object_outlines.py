"""Objects with outlines: the rows of a run, however it is cut, and what they say of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
import torch
from numpy.typing import NDArray

from geoml.engine.contract import Rows
from geoml.grid.plane import Window
from geoml.nn.objects.mask_head import words_of
from geoml.outputs.objects import Output
from geoml.vector.boxes import count, edges, suppress, take
from geoml.vector.masks import MASK, SIDE, WORDS, outlines, packed
from tests.unit.outputs.test_objects import PLANE, card, crowd, finished, raw_of

MODEL = card().model_copy(update={"config": {"masks": True}})


def outlined(n: int = 500) -> dict[str, NDArray[Any]]:
    """Candidates with masks: angles, rings and blots; every tenth is empty."""
    random = np.random.default_rng(5)
    cells = np.zeros((n, SIDE, SIDE), np.bool_)
    for k in range(n):
        a, b = random.integers(6, 22, 2)
        cells[k, a:], cells[k, :, :b] = True, True
        if k % 3 == 0:
            cells[k, a + 1 : a + 4, b:] = False
    cells[::10] = False
    return {**crowd(n), MASK: packed(cells)}


def tables(out: Path, size: int, **changes: Any) -> list[bytes]:
    out.mkdir()
    output, run = finished(out, size, outlined(), MODEL, **changes)
    output.collect(run)
    return [(out / name).read_bytes() for name in output.tables]


def of_rows(frame: geopandas.GeoDataFrame) -> dict[str, NDArray[Any]]:
    """The candidates of rows, by the pixel of their centre."""
    every = outlined()
    of = {place: k for k, place in enumerate(zip(every["y"].tolist(), every["x"].tolist(), strict=True))}
    mine = np.array([of[tuple(int(part[1:]) for part in key.split("_")[2:4])] for key in frame["id"]])
    found = take(every, mine)
    return {**found, "y": found["y"] + 0.5, "x": found["x"] + 0.5}


def test_any_blocks_give_the_same_outlines(tmp_path: Path) -> None:
    first = tables(tmp_path / "64", 64)
    for size in (96, 512):
        assert tables(tmp_path / str(size), size) == first


def test_rows_have_the_outline_its_area_and_the_sides_of_the_smallest_rectangle(tmp_path: Path) -> None:
    tables(tmp_path / "out", 64)
    frame = geopandas.read_parquet(tmp_path / "out" / "features.parquet")
    boxes = of_rows(frame)
    degrees = pyproj.Transformer.from_crs(PLANE.crs, "EPSG:4326", always_xy=True)
    geod = pyproj.Geod(ellps="WGS84")
    shapes = outlines(boxes[MASK], edges(boxes))
    assert 50 < (shapely.area(shapes) < 0.99 * shapely.area(shapely.envelope(shapes))).sum() < len(frame)
    for row, shape in zip(frame.itertuples(), shapes, strict=True):
        assert row.geometry.geom_type == "Polygon"
        assert row.geometry.is_valid
        ground = shapely.transform(shape, lambda c: c * [PLANE.res, -PLANE.res])
        back = shapely.transform(row.geometry, lambda c: np.column_stack(degrees.transform(*c.T, direction="INVERSE")))
        assert shapely.area(shapely.symmetric_difference(ground, back)) < 1e-3 * ground.area
        assert row.area_m2 == pytest.approx(abs(geod.geometry_area_perimeter(row.geometry)[0]), rel=1e-5)
        a, b, c = (degrees.transform(*p) for p in shapely.get_coordinates(shapely.oriented_envelope(ground))[:3])
        sides = sorted([geod.inv(*a, *b)[2], geod.inv(*b, *c)[2]])
        assert (row.width_m, row.length_m) == (pytest.approx(sides[0], rel=2e-3), pytest.approx(sides[1], rel=2e-3))
        assert 0 <= row.heading < 180
    top, left, bottom, right = edges(boxes).T
    lon, lat = degrees.transform(PLANE.res * (left + right) / 2, -PLANE.res * (top + bottom) / 2)
    np.testing.assert_allclose(frame[["x", "y"]].to_numpy(), np.column_stack([lon, lat]), atol=1e-9)


def test_boxes_alone_suppress_and_the_smallest_area_is_that_of_outlines(tmp_path: Path) -> None:
    tables(tmp_path / "all", 64)
    tables(tmp_path / "large", 96, min_area=8000)
    every, large = (geopandas.read_parquet(tmp_path / name / "features.parquet") for name in ("all", "large"))
    assert len(suppress(of_rows(every), 0.5)["y"]) == len(every)
    assert 10 < len(large) < len(every) - 10
    assert set(large["id"]) == set(every["id"][every["area_m2"] >= 8000])


def test_a_mask_comes_back_from_raw_output() -> None:
    """As a network gives it, in the pixels that hold the centre."""
    boxes = np.array([[0, 4, 6, 20, 14], [1, 10, 30, 17, 61]], float)
    cells = np.random.default_rng(0).random((2, SIDE, SIDE)) < 0.6
    raw = torch.cat([raw_of(boxes, (32, 64)), torch.zeros(WORDS, 32, 64)])
    output, window = Output(MODEL), Window(100, 200, 132, 264)
    assert output.raw == len(raw)
    for (row, col), words in zip(((11, 9), (13, 45)), words_of(torch.from_numpy(cells)), strict=True):
        raw[6:, row, col] = words
    known = torch.ones(32, 64, dtype=torch.bool)
    columns = {k: v.numpy() for k, v in output.candidates(raw, window, known).items()}
    assert count(columns) == 2
    assert (columns[MASK] == packed(cells)).all()
    (answer,) = output.answer(Rows(window, columns))
    assert answer.shape == (2, 8 + WORDS)
    assert (answer[:, 8:] == packed(cells)).all()
    assert output.answer(Rows(window, {}))[0].shape == (0, 8 + WORDS)
