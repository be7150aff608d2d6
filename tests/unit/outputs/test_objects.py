"""Objects: candidates of raw output, and what a run makes of the candidates of its blocks, however it is cut."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pyproj
import pystac
import pytest
import shapely
import shapely.affinity
import torch
from numpy.typing import NDArray
from rasterio.transform import rowcol

from geoml import testing
from geoml.cube.region import count_inside, inside
from geoml.engine.contract import BlockRun, FinishedRun, OwnedOutput, Pixels, Rows
from geoml.engine.run.plan import Plan, PlannedBlock, Zone
from geoml.errors import DataError, ModelError
from geoml.grid.plane import Block, Plane, Window
from geoml.grid.region import blocks_of
from geoml.io.cards.detection import Detection, FoundClass, Sizes
from geoml.io.report.canvas import canvas
from geoml.nn.objects.centre_heat import HEAT, INDEX, SIDES, render
from geoml.outputs.objects import LOW, MOST, SCORE, Output
from geoml.recipe import PredictRecipe, parse
from geoml.vector.boxes import COLUMNS, edges, suppress

PLANE = Plane("EPSG:32621", 10.0)
WHOLE = Window(-720_000, 60_000, -719_700, 60_400)
"""Of the plane; the region leaves a margin."""
CHIP = 96


def card(**changes: Any) -> Any:
    return testing.card("made", ["red"], ["car", "house"], **{"task": "detection", "chip_size": CHIP, **changes})


def recipe(**changes: Any) -> PredictRecipe:
    query = {"catalog": "c", "bbox": [0, 0, 1, 1], "datetime": "2024"}
    return parse(PredictRecipe, {"model": "m", "query": query, **changes}, "made")


def raw_of(boxes: NDArray[np.float64], shape: tuple[int, int], sure: float = 3.0) -> torch.Tensor:
    """(6, y, x) raw output that has the boxes (n, 5) at their places."""
    rendered = torch.from_numpy(render(boxes, shape))
    peak = torch.stack([(rendered[HEAT] * (rendered[INDEX] == k)) for k in range(2)])
    return torch.cat([peak * (sure + 6) - 6, rendered[SIDES].clamp(min=0.1).log()])


def found(raw: torch.Tensor, origin: Window, known: torch.Tensor | None = None, **made: Any) -> dict[str, Any]:
    output = Output(card(), made.get("recipe"))
    known = torch.ones(raw.shape[1:], dtype=torch.bool) if known is None else known
    return {k: v.numpy() for k, v in output.candidates(raw, origin, known).items()}


def test_it_is_an_output_of_owned_things() -> None:
    assert isinstance(Output(card()), OwnedOutput)
    assert Output(card()).raw == 6


def test_boxes_come_back_in_pixels_of_the_plane() -> None:
    boxes = np.array([[0, 4, 6, 20, 14], [1, 10, 30, 17, 61]], float)
    got = found(raw_of(boxes, (32, 64)), Window(1000, -500, 1032, -436))
    assert (got["y"].tolist(), got["x"].tolist()) == ([1011, 1013], [-491, -455])
    centred = {**got, "y": got["y"] + 0.5, "x": got["x"] + 0.5}
    np.testing.assert_allclose(edges(centred), boxes[:, 1:] + [1000, -500, 1000, -500], atol=1 / 16)
    assert got["class"].tolist() == [0, 1]
    np.testing.assert_allclose(got["score"], 1 / (1 + np.exp(-3)), atol=1e-4)
    assert got["valid"].tolist() == [1, 1]


def test_a_run_wants_more_than_scores_do() -> None:
    boxes = np.array([[0, 4, 6, 20, 14]], float)
    weak = raw_of(boxes, (32, 64), sure=float(np.log(0.2 / 0.8)))
    assert LOW < 0.2 < SCORE
    assert len(found(weak, Window(0, 0, 32, 64))["y"]) == 1
    assert len(found(weak, Window(0, 0, 32, 64), recipe=recipe())["y"]) == 0


def test_no_side_is_farther_than_a_chip_and_none_is_inside_out() -> None:
    raw = raw_of(np.array([[0, 4, 6, 20, 14]], float), (32, 64))
    raw[2:] = torch.tensor([50.0, -50.0, 2.0, 2.0])[:, None, None]
    got = found(raw, Window(0, 0, 32, 64))
    assert (got["north"][0], got["south"][0]) == (CHIP, 0.5)


def test_nothing_is_found_without_data_and_the_share_of_a_box_with_data_is_told() -> None:
    raw = raw_of(np.array([[0, 4, 6, 20, 14], [1, 10, 30, 17, 61]], float), (32, 64))
    known = torch.ones(32, 64, dtype=torch.bool)
    known[:, :8] = False
    known[:, 45] = False
    raw[:, :, :8] = torch.nan  # nobody looks there
    got = found(raw, Window(0, 0, 32, 64), known)
    mine = got["class"] == 0
    assert got["valid"][mine].tolist() == [6 / 8]
    assert 45 not in got["x"]
    raw[3, 2, 20] = torch.inf
    with pytest.raises(ModelError, match="not finite in 1 pixels"):
        found(raw, Window(0, 0, 32, 64), known)


def test_the_answer_has_the_index_of_a_class_and_not_its_value() -> None:
    pairs = zip(card().classes, (7, 3), strict=True)
    changed = card().model_copy(update={"classes": tuple(c.model_copy(update={"value": v}) for c, v in pairs)})
    output, window = Output(changed), Window(0, 0, 32, 64)
    raw = raw_of(np.array([[0, 4, 6, 20, 14], [1, 10, 30, 17, 61]], float), (32, 64))
    columns = output.candidates(raw, window, torch.ones(32, 64, dtype=torch.bool))
    assert columns["class"].tolist() == [7, 3]
    (answer,) = output.answer(Rows(window, {k: v.numpy() for k, v in columns.items()}))
    assert answer.shape == (2, len(COLUMNS))
    assert answer[:, COLUMNS.index("class")].tolist() == [0, 1]
    assert answer[:, COLUMNS.index("y")].tolist() == [11.5, 13.5]
    assert output.answer(Rows(window, {}))[0].shape == (0, len(COLUMNS))


# --- a run, from the candidates of its blocks


def region(margin: int = 20) -> shapely.Polygon:
    """Degrees."""
    to = pyproj.Transformer.from_crs(PLANE.crs, "EPSG:4326", always_xy=True)
    box = shapely.segmentize(shapely.box(*PLANE.bounds(WHOLE.expand(-margin))), 100)
    return shapely.transform(box, lambda c: np.column_stack(to.transform(c[:, 0], c[:, 1])))


def items() -> list[pystac.Item]:
    """Two days side by side, the second of which begins in the middle."""
    west, south, east, north = region(-5).bounds
    parts = {"one": (west, (west + east) / 2 + 1e-4, 1), "two": ((west + east) / 2 - 1e-4, east, 9)}
    return [
        pystac.Item(name, shapely.geometry.mapping(shapely.box(a, south, b, north)), [a, south, b, north],
                    dt.datetime(2024, 5, day, tzinfo=dt.UTC), {})
        for name, (a, b, day) in parts.items()
    ]  # fmt: skip


def crowd(n: int = 900, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Candidates in the order of nobody, that overlap much."""
    rng = np.random.default_rng(seed)
    places = rng.choice(300 * 400, n, replace=False)
    sides = {k: rng.integers(16, 16 * 12, n) / 16 for k in ("north", "south", "west", "east")}
    return {
        "y": places // 400 + WHOLE.y0, "x": places % 400 + WHOLE.x0, **sides,
        "score": rng.integers(3000, 3040, n) / 10_000, "class": rng.integers(0, 2, n), "valid": np.ones(n),
    }  # fmt: skip


def knowing() -> Any:
    """A card that knows what its scores are worth: half of a score above 0.302 for a car; of a house nothing."""
    car = FoundClass(
        threshold=0.302, chosen="f1", calibration="isotonic", knots=((0.05, 0.0), (0.302, 0.2), (0.304, 0.5)),
        candidates=300, matched=100, truth=125, found=160, hits=90, curve=((0.304, 0.9, 0.1), (0.05, 0.3, 0.8)),
        reliability=((0.1, 0.12, 200), (0.5, 0.45, 100)), d_ece=0.03,
        squares=tuple((4.0, 4 + k % 3) for k in range(24)),
    )  # fmt: skip
    house = FoundClass(
        threshold=0.3, chosen="default", calibration=None, candidates=3, matched=1, truth=2, found=0, hits=0
    )
    sizes = Sizes(least=20, most=300, seen=960)
    record = Detection(least=0.05, square=960, sizes=sizes, classes={"car": car, "house": house})
    return card().model_copy(update={"detection": record})


def finished(
    out: Path, size: int, crowd: dict[str, NDArray[Any]], model: Any = None, **changes: Any
) -> tuple[Output, FinishedRun]:
    """A run of blocks of ``size`` whose candidates are ``crowd``, without data in the upper left corner."""
    asked_of = region()
    zone = Zone(crs=PLANE.crs, res=PLANE.res, anchor=0.0, part=asked_of.wkt)
    cut = blocks_of(asked_of, PLANE, size)
    planned = tuple(PlannedBlock(zone=0, iy=b.iy, ix=b.ix, items=(), hash="a") for b in cut)
    zone = zone.model_copy(update={"pixels": count_inside(asked_of, PLANE, cut)})
    asked_for = recipe(block_size=size, **changes)
    plan = Plan(
        recipe=asked_for,
        hash="abc" * 8,
        model_path="m",
        card=model or card(),
        collection="c",
        zones=(zone,),
        blocks=planned,
    )
    output = Output(plan.card, asked_for)
    hole = Window(WHOLE.y0, WHOLE.x0, WHOLE.y0 + 60, WHOLE.x0 + 80)
    for one in planned:
        block = plan.block(one)
        window, count = block.window, np.ones((size, size), np.uint16)
        if not (dark := hole.intersect(window)).empty:
            count[dark.slices(window)] = 0
        pixels = Pixels(np.zeros((1, size, size), np.uint16), count, (1.0,), (0.0,), window)
        part = output.part(BlockRun(plan, one, block, pixels, inside(asked_of, block.geobox), ()))
        for top in range(window.y0, window.y1, 32):
            rows = Window(top, window.x0, min(top + 32, window.y1), window.x1)
            mine = (crowd["y"] >= rows.y0) & (crowd["y"] < rows.y1)
            mine &= (crowd["x"] >= rows.x0) & (crowd["x"] < rows.x1)
            part.add(Rows(rows, {k: v[mine] for k, v in crowd.items()} if mine.any() else {}))
        part.write(out / f"{block.id}.parquet", np.zeros((size, size), bool))

    def parts(read: Callable[[Path], Any]) -> Iterator[tuple[Block, Any]]:
        for one in planned:
            yield plan.block(one), read(out / f"{plan.block(one).id}.parquet")

    sources = items()
    return output, FinishedRun(out, plan, [plan.block(b).id for b in planned], sources, sources, parts)


def tables(out: Path, size: int, **changes: Any) -> dict[str, bytes]:
    out.mkdir()
    output, run = finished(out, size, crowd(), **changes)
    output.collect(run)
    return {name: (out / name).read_bytes() for name in output.tables}


def test_any_blocks_give_the_same_bytes(tmp_path: Path) -> None:
    first = tables(tmp_path / "64", 64)
    assert set(first) == {"features.parquet", "summary.parquet"}
    for size in (96, 128, 512):
        assert tables(tmp_path / str(size), size) == first


def test_what_is_kept_is_what_suppression_of_all_at_once_keeps(tmp_path: Path, conforms: Callable[..., bool]) -> None:
    tables(tmp_path / "out", 64)
    frame = geopandas.read_parquet(tmp_path / "out" / "features.parquet")
    every = crowd()
    in_region = inside(region(), PLANE.geobox(WHOLE))[every["y"] - WHOLE.y0, every["x"] - WHOLE.x0]
    every = {k: v[in_region] for k, v in every.items()}
    kept = suppress({**every, "y": every["y"] + 0.5, "x": every["x"] + 0.5}, 0.5)
    assert 300 < len(frame) == len(kept["y"]) < in_region.sum()
    assert (frame["confidence"] == frame["score"]).all(), "a card without a record knows no better"
    assert frame["heading"].isna().all()
    names = [re.fullmatch(r"32621-10_c(\d)_y(-\d+)_x(\d+)_20240\d0\dT000000", key) for key in frame["id"]]
    assert all(names)
    assert {tuple(map(int, n.groups())) for n in names if n} == {
        (int(c), int(np.floor(y)), int(np.floor(x)))
        for c, y, x in zip(kept["class"], kept["y"], kept["x"], strict=True)
    }
    assert frame["id"].is_unique
    assert conforms(tmp_path / "out" / "features.parquet")


def test_a_box_is_where_its_pixels_are_and_as_large_as_on_the_ground(tmp_path: Path) -> None:
    tables(tmp_path / "out", 64)
    frame = geopandas.read_parquet(tmp_path / "out" / "features.parquet").set_index("id").sort_index()
    every = crowd()
    shape = edges({**every, "y": every["y"] + 0.5, "x": every["x"] + 0.5})
    geobox = PLANE.geobox(WHOLE)
    row, col = (np.array([int(key.split("_")[k][1:]) for key in frame.index]) for k in (2, 3))
    of = {place: k for k, place in enumerate(zip(every["y"].tolist(), every["x"].tolist(), strict=True))}
    mine = shape[[of[place] for place in zip(row.tolist(), col.tolist(), strict=True)]]
    back = frame.geometry.to_crs(PLANE.crs).bounds.to_numpy()
    for k, (x, y) in enumerate(((0, 3), (2, 1))):  # upper left, lower right corners by rasterio, pixel edges
        rows, cols = rowcol(geobox.affine, back[:, x], back[:, y], op=lambda v: v)
        np.testing.assert_allclose(np.asarray(rows) + WHOLE.y0, mine[:, 2 * k], atol=1e-3)
        np.testing.assert_allclose(np.asarray(cols) + WHOLE.x0, mine[:, 2 * k + 1], atol=1e-3)
    geod = pyproj.Geod(ellps="WGS84")
    exact = [abs(geod.geometry_area_perimeter(g)[0]) for g in frame.geometry]
    np.testing.assert_allclose(frame["area_m2"], exact, rtol=1e-5)
    np.testing.assert_allclose(frame["length_m"] * frame["width_m"], exact, rtol=1e-3)
    assert (frame["length_m"] >= frame["width_m"]).all()
    outline = shapely.points(frame["x"], frame["y"])
    assert shapely.covers(frame.geometry.to_numpy(), outline).all()


def test_oriented_boxes_are_the_same_for_any_blocks_and_have_a_heading(tmp_path: Path) -> None:
    """The oracle turns outlines by shapely and measures the longer side on the ellipsoid."""
    lying = {**crowd(500), "angle": np.round(np.random.default_rng(3).uniform(-1.5, 1.5, 500) * 1024) / 1024}
    written = []
    for size in (64, 96, 512):
        out = tmp_path / str(size)
        out.mkdir()
        output, run = finished(out, size, lying, card().model_copy(update={"config": {"oriented": True}}))
        output.collect(run)
        written.append([(out / name).read_bytes() for name in output.tables])
    assert written[0] == written[1] == written[2]
    frame = geopandas.read_parquet(tmp_path / "64" / "features.parquet")
    of = {(y, x): k for k, (y, x) in enumerate(zip(lying["y"].tolist(), lying["x"].tolist(), strict=True))}
    geod, geobox = pyproj.Geod(ellps="WGS84"), PLANE.geobox(WHOLE)
    degrees = pyproj.Transformer.from_crs(PLANE.crs, "EPSG:4326", always_xy=True)
    assert len(frame) > 100
    for row in frame.itertuples():
        y, x = (int(part[1:]) for part in row.id.split("_")[2:4])
        box = {k: float(lying[k][of[y, x]]) for k in ("north", "south", "west", "east", "angle")}
        px, py = x - WHOLE.x0 + 0.5, y - WHOLE.y0 + 0.5
        upright = shapely.box(px - box["west"], py - box["north"], px + box["east"], py + box["south"])
        turned = shapely.affinity.rotate(upright, box["angle"], origin=(px, py), use_radians=True)
        ground = shapely.transform(turned, lambda c: np.column_stack(geobox.affine @ c.T))
        back = shapely.transform(row.geometry, lambda c: np.column_stack(degrees.transform(*c.T, direction="INVERSE")))
        assert shapely.area(shapely.symmetric_difference(ground, back)) < 1e-3 * ground.area
        a, b, c = (degrees.transform(*p) for p in shapely.get_coordinates(ground)[:3])
        sides = [geod.inv(*a, *b), geod.inv(*b, *c)]
        azimuth, _, length = max(sides, key=lambda side: side[2])
        assert row.length_m == pytest.approx(length, rel=2e-3)
        if abs(sides[0][2] - sides[1][2]) > 1:  # a square has no heading
            assert abs((row.heading - azimuth + 90) % 180 - 90) < 0.2
        assert 0 <= row.heading < 180


def test_rows_say_when_and_from_what_and_whether_they_are_cut(tmp_path: Path) -> None:
    tables(tmp_path / "out", 64)
    frame = geopandas.read_parquet(tmp_path / "out" / "features.parquet")
    middle = sum(region(-5).bounds[::2]) / 2
    one, two = frame["x"] < middle - 2e-4, frame["x"] > middle + 2e-4
    assert {tuple(v) for v in frame.loc[one, "items"]} == {("one",)}
    assert {tuple(v) for v in frame.loc[two, "items"]} == {("two",)}
    assert {str(v) for v in frame.loc[one, "datetime"]} == {"2024-05-01 00:00:00+00:00"}
    both = frame[~one & ~two]
    assert both["datetime"].isna().any() or not len(both)
    cut = ~shapely.covers(region(), frame.geometry.to_numpy())
    assert cut.any()
    assert frame["edge"].tolist() == cut.tolist()
    assert frame["outside"].tolist() == [False] * len(frame)
    assert set(frame["name"]) == {"car", "house"}
    assert frame["confidence"].between(0.3, 0.3041).all()


def test_the_summary_says_how_many_and_how_much_was_searched(tmp_path: Path) -> None:
    tables(tmp_path / "out", 64)
    frame = geopandas.read_parquet(tmp_path / "out" / "features.parquet")
    rows = pq.read_table(tmp_path / "out" / "summary.parquet").to_pylist()
    assert [(r["class"], r["name"], r["count"]) for r in rows] == [
        (k, n, int((frame["class"] == k).sum())) for k, n in enumerate(("car", "house"))
    ]
    exact = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(region())[0] / 1e6
    searched, left = rows[0]["searched_km2"], rows[0]["unsearched_km2"]
    assert searched + left == pytest.approx(exact, abs=1e-5)
    assert left == pytest.approx(40 * 60 * 1e-4, rel=0.02)  # the hole, without the margin


def test_a_run_that_finds_nothing_has_tables_too(tmp_path: Path, conforms: Callable[..., bool]) -> None:
    nothing = {k: v[:0] for k, v in crowd().items()}
    output, run = finished(tmp_path, 128, nothing)
    output.collect(run)
    assert len(geopandas.read_parquet(tmp_path / "features.parquet")) == 0
    assert set(pq.read_schema(tmp_path / "features.parquet").names) >= {"id", "length_m", "edge", "items", "bbox"}
    rows = pq.read_table(tmp_path / "summary.parquet").to_pylist()
    assert [(r["count"], r["confidence"]) for r in rows] == [(0, None), (0, None)]
    assert ("objects", "0") in output.report(tmp_path).facts()
    assert conforms(tmp_path / "features.parquet")


def test_small_ones_are_left_out_when_asked(tmp_path: Path) -> None:
    tables(tmp_path / "all", 128)
    tables(tmp_path / "large", 128, min_area=20_000)
    every, large = (geopandas.read_parquet(tmp_path / k / "features.parquet") for k in ("all", "large"))
    assert 0 < len(large) == (every["area_m2"] >= 20_000).sum() < len(every)


def test_a_damaged_part_is_an_error_of_ours(tmp_path: Path) -> None:
    output, run = finished(tmp_path, 128, crowd())
    next(tmp_path.glob("*.parquet")).write_bytes(b"PAR1")
    with pytest.raises(DataError, match="objects of a block are not readable"):
        output.collect(run)


def low_crowd() -> dict[str, NDArray[Any]]:
    """Scores from 0.05 on, not only about 0.3."""
    every = crowd()
    low = np.random.default_rng(7).random(len(every["y"])) < 0.5
    return {**every, "score": np.where(low, every["score"] / 4, every["score"])}


def test_a_card_with_a_record_counts_what_it_does_not_report(tmp_path: Path) -> None:
    output, run = finished(tmp_path, 64, low_crowd(), knowing())
    assert output.least == 0.05
    output.collect(run)
    frame = geopandas.read_parquet(tmp_path / "features.parquet")
    every = low_crowd()
    in_region = inside(region(), PLANE.geobox(WHOLE))[every["y"] - WHOLE.y0, every["x"] - WHOLE.x0]
    every = {k: v[in_region] for k, v in every.items()}
    kept = suppress({**every, "y": every["y"] + 0.5, "x": every["x"] + 0.5}, 0.5)
    least = np.array([0.302, 0.3])[kept["class"]]
    shown = kept["score"] >= least
    assert 50 < shown.sum() == len(frame) < len(shown) - 50
    car = frame["class"] == 0
    assert frame.loc[car, "score"].min() >= np.float32(0.302)
    np.testing.assert_allclose(
        frame.loc[car, "confidence"], np.interp(frame.loc[car, "score"], [0.302, 0.304], [0.2, 0.5]), atol=1e-4
    )
    assert (frame.loc[~car, "confidence"] == frame.loc[~car, "score"]).all()
    first, second = pq.read_table(tmp_path / "summary.parquet").to_pylist()
    assert (first["count"], second["count"]) == (car.sum(), (~car).sum())
    assert first["confidence"] == pytest.approx(frame.loc[car, "confidence"].mean(), abs=1e-6)
    mine = kept["class"] == 0
    sure = np.interp(kept["score"][mine], [0.05, 0.302, 0.304], [0, 0.2, 0.5])
    assert first["expected"] == pytest.approx(sure.sum() * 120 / 96, abs=1e-3)  # of the squares: 120 true, sums of 96
    assert sure[~shown[mine]].sum() > 1
    assert first["expected_low"] < first["expected"] < first["expected_high"] < 2 * first["expected"]
    assert [second[k] for k in ("expected", "expected_low", "expected_high")] == [None] * 3


def test_a_card_with_a_record_gives_the_same_bytes_for_any_blocks(tmp_path: Path) -> None:
    found = []
    for size in (64, 96, 512):
        (tmp_path / str(size)).mkdir()
        output, run = finished(tmp_path / str(size), size, low_crowd(), knowing())
        output.collect(run)
        found.append({name: (tmp_path / str(size) / name).read_bytes() for name in output.tables})
    assert found[0] == found[1] == found[2]


def test_what_is_too_small_is_not_expected_either(tmp_path: Path) -> None:
    expected = []
    for name, area in (("all", 0.0), ("large", 20_000.0)):
        (tmp_path / name).mkdir()
        output, run = finished(tmp_path / name, 128, low_crowd(), knowing(), min_area=area)
        output.collect(run)
        expected.append(pq.read_table(tmp_path / name / "summary.parquet").to_pylist()[0]["expected"])
    assert 0 < expected[1] < 0.9 * expected[0]


def test_a_million_candidates_of_one_chip_are_an_error_of_the_model() -> None:
    """A network that says 0.5 everywhere, each second pixel a little more; scores look at it all the same."""
    raw = torch.zeros(6, 1448, 1448)
    raw[:, ::2, ::2] = 0.01
    with pytest.raises(ModelError, match=r"1,048,352 candidates of a score of 0.3 or more in one chip of 1448 x 1448"):
        found(raw, Window(0, 0, 1448, 1448), recipe=recipe())
    assert len(found(raw, Window(0, 0, 1448, 1448))["y"]) > MOST


def test_the_page_says_what_scores_are_worth(tmp_path: Path) -> None:
    output, run = finished(tmp_path, 128, low_crowd(), knowing())
    output.collect(run)
    page = str(output.report(tmp_path).section(None))
    row = pq.read_table(tmp_path / "summary.parquet").to_pylist()[0]
    for words in (
        f"{row['expected']:,.1f}", f"{row['expected_low']:,} to {row['expected_high']:,}", "Precision and recall",
        "Reliability", "objects of 20 to 300 m", "smaller and larger ones are not found", "0.562 (90 of 160)",
        "0.720 (90 of 125)", "<polyline",
    ):  # fmt: skip
        assert words in page, words
    assert "not calibrated" not in page
    output, run = finished(tmp_path, 128, crowd())
    output.collect(run)
    page = str(output.report(tmp_path).section(None))
    assert "boxes of a score of 0.3 or more are shown, confidence is not calibrated" in page
    assert "<polyline" not in page


def test_the_page_draws_the_boxes_and_counts_them(tmp_path: Path) -> None:
    output, run = finished(tmp_path, 128, crowd())
    output.collect(run)
    part = output.report(tmp_path)
    part.add({})
    assert part.known(77) == 77
    frame = geopandas.read_parquet(tmp_path / "features.parquet")
    facts = dict(part.facts())
    assert facts["objects"] == f"{len(frame):,}"
    sheet = canvas([region()], [PLANE.crs], 10.0)
    (drawing,) = part.drawings({}, sheet)
    assert drawing.colours.shape == (*sheet.shape, 4)
    drawn = drawing.colours[..., 3] > 0
    assert 0.1 < drawn.mean() < 0.9
    colours = {tuple(c) for c in drawing.colours[drawn][:, :3].tolist()}
    assert colours == {tuple(int(c.color[k : k + 2], 16) for k in (1, 3, 5)) for c in card().classes}
    assert f"{(frame['class'] == 0).sum():,} car" in drawing.alt
    section = part.section(None)
    assert "was not searched" in section
    assert f"{(frame['class'] == 1).sum():,}" in section
