"""Reports of small run folders whose every pixel is known: numbers, pictures, gaps, hostile text, same bytes."""

from __future__ import annotations

import base64
import datetime as dt
import io
import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pystac
import pytest
import shapely
from numpy.typing import NDArray
from PIL import Image

from geoml.grid.plane import Block, Plane
from geoml.grid.region import blocks_of, from_bbox, plane_of, zones
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.io.cog.write import CogWriter
from geoml.io.report import page as pages
from geoml.io.report.canvas import SIDE, canvas
from geoml.io.report.page import area, evaluation_report
from geoml.io.stac.items import AssetInfo, block_footprint, block_item, write_item
from geoml.io.stac.search import write_items
from geoml.outputs.classes import Output
from geoml.texts import percent

WATER, LAND = 1, 0
PLANE = Plane("EPSG:32621", 30.0, 0.5)
TIMES = (dt.datetime(2020, 5, 18, 13, 30, tzinfo=dt.UTC), dt.datetime(2020, 6, 3, 13, 30, tzinfo=dt.UTC))

Pixels = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
"""Class, confidence and valid count."""


class Page(HTMLParser):
    """What a page holds: tags with attributes, visible text, pictures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "style":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.text += data + " "

    def pictures(self) -> list[NDArray[np.uint8]]:
        """RGBA of every image."""
        sources = [str(a["src"]).partition(",")[2] for t, a in self.tags if t == "img"]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(s))).convert("RGBA")) for s in sources]


def card(**changes: Any) -> MapCard:
    classes = (
        ClassInfo(value=LAND, name="land", color="#cdbb8c"),
        ClassInfo(value=WATER, name="water", color="#1f6fb4"),
    )
    bands = tuple(Band(name=n) for n in ("blue", "green", "red"))
    given = {"name": "water-map", "architecture": "unet", "bands": bands, "gsd": 30.0, "anchor": 0.5, "chip_size": 64}
    return MapCard(**{**given, "classes": classes, **changes})


CARD = card()


def map_report(out: Path, run: dict[str, Any], made: MapCard) -> str:
    """The page with what classes show."""
    return pages.map_report(out, run, made, Output(made).report(out))


def half_water(block: Block) -> Pixels:
    """Water in the upper half (confidence 0.9), land below (0.6), the last row without data."""
    shape = block.window.shape
    classes = np.full(shape, LAND, np.uint8)
    classes[: shape[0] // 2] = WATER
    confidence = np.where(classes == WATER, np.uint8(225), np.uint8(150))
    valid = np.ones(shape, np.uint8)
    classes[-1], confidence[-1], valid[-1] = 255, 255, 0
    return classes, confidence, valid


def write_block(out: Path, block: Block, pixels: Pixels, card: MapCard, sources: Iterable[pystac.Item] = ()) -> None:
    """The files and the item of a block, as a run leaves them."""
    folder = out / "cogs" / block.id
    for name, layer, nodata in zip(("class", "confidence", "valid"), pixels, (card.nodata, 255, 255), strict=True):
        how = "average" if name == "confidence" else "nearest"
        with CogWriter(folder / f"{name}.tif", block.geobox, "uint8", nodata=nodata, overview=how, tile=64) as cog:  # type: ignore[arg-type]
            cog.write(layer)
    step = -(-block.size // 64)
    seen = (pixels[2] != 255) & (pixels[2] > 0)
    picture = np.dstack([np.where(pixels[0] == WATER, v, 200) for v in (20, 60, 120)] + [np.where(seen, 255, 0)])
    Image.fromarray(picture.astype(np.uint8)[::step, ::step]).save(folder / "preview.png")
    keys = {"class": "class.tif", "confidence": "confidence.tif", "valid": "valid.tif", "thumbnail": "preview.png"}
    item = block_item(
        block,
        collection="run",
        footprint=block_footprint(block, seen),
        datetime_range=TIMES,
        assets={k: AssetInfo(folder / name, k) for k, name in keys.items()},
        card=card,
        sources=list(sources),
        recipe_hash="abc",
    )
    write_item(item, out / "items" / f"{block.id}.json")


def source(name: str) -> pystac.Item:
    shape = shapely.box(-55, -26, -54, -25)
    return pystac.Item(name, shapely.geometry.mapping(shape), list(shape.bounds), TIMES[0], {"eo:cloud_cover": 3.2})


def fake_run(
    out: Path,
    blocks: Iterable[Block],
    paint: Callable[[Block], Pixels] = half_water,
    card: MapCard = CARD,
    **run: Any,
) -> dict[str, Any]:
    """Write a run folder and return what run.json would say."""
    blocks = list(blocks)
    sources = [source("LC08_224078_20200518")]
    for block in blocks:
        write_block(out, block, paint(block), card, sources)
    write_items(sources, out / "sources.parquet")
    planes = sorted({b.plane for b in blocks})
    return {
        "title": "Water",
        "recipe": {"model": "water-map", "query": {"catalog": "demo", "datetime": ["2020"]}},
        "hash": "abc",
        "datetime": [t.isoformat() for t in TIMES],
        "zones": [{"crs": p.crs, "res": p.res, "anchor": p.anchor} for p in planes],
        "blocks": {"planned": len(blocks), "done": [b.id for b in blocks], "failed": {}},
        "seconds": {"read": 2.0, "model": 4.0},
        "bytes": {"read": 3_000_000},
        "pixels": 8_000_000,
        **run,
    }


def square(n: int = 2, size: int = 96, plane: Plane = PLANE) -> list[Block]:
    return [Block(plane, size, -880 + y, 240 + x) for y in range(n) for x in range(n)]


def colours(picture: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    return {tuple(c) for c in np.unique(picture.reshape(-1, 4), axis=0).tolist()}


def test_whole_run_reads_as_complete_with_exact_numbers(tmp_path: Path) -> None:
    blocks = square()
    page = Page(map_report(tmp_path, fake_run(tmp_path, blocks), card()))
    assert "The map is complete" in page.text
    assert f"All 4 blocks are done and {percent(95 / 96)} of the region has data." in page.text
    water, land = 4 * 96 * 48, 4 * 96 * 47
    assert f"{water:,}" in page.text
    assert f"{land:,}" in page.text
    assert f"mean confidence {(water * 0.9 + land * 0.6) / (water + land):.2f}" in page.text
    to = pyproj.Transformer.from_crs(PLANE.crs, "EPSG:4326", always_xy=True)
    total = 0.0  # an oracle that knows nothing of projections' scale: geodesic polygons
    for block in blocks:
        outline = shapely.segmentize(shapely.box(*PLANE.bounds(block.window)), 30.0)
        lonlat = shapely.transform(outline, lambda c: np.column_stack(to.transform(c[:, 0], c[:, 1])))
        total += abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(lonlat)[0]) * 48 / 96
    assert f"water {area(total)}" in page.text


def test_pictures_show_classes_and_image_side_by_side_on_one_grid(tmp_path: Path) -> None:
    page = Page(map_report(tmp_path, fake_run(tmp_path, square()), card()))
    image, classes, confidence = page.pictures()
    assert image.shape == classes.shape == confidence.shape == (191, 192, 4)  # the last row has no data: cut away
    assert colours(classes[:48]) == {(0x1F, 0x6F, 0xB4, 255)}
    assert colours(classes[48:95]) == {(0xCD, 0xBB, 0x8C, 255)}
    assert colours(classes[95:96]) == {(208, 212, 218, 255)}, "no data inside the region is grey"
    assert colours(image[:40]) == {(20, 60, 120, 255)}
    assert len(colours(confidence)) == 3
    assert all(a.get("alt") for t, a in page.tags if t == "img")


def test_a_block_that_hardly_touches_the_region_is_drawn_as_sharp_as_the_others(tmp_path: Path) -> None:
    def stripes(block: Block) -> Pixels:
        classes, confidence, valid = (
            np.full((96, 96), LAND, np.uint8),
            np.full((96, 96), 200, np.uint8),
            np.ones((96, 96)),
        )
        classes[:, ::2] = WATER
        valid = valid.astype(np.uint8)
        if block.ix == 240:
            classes[:, :88], confidence[:, :88], valid[:, :88] = 255, 255, 255
        return classes, confidence, valid

    page = Page(map_report(tmp_path, fake_run(tmp_path, square()[:2], stripes), card()))
    classes = page.pictures()[1]
    assert classes.shape == (96, 8 + 96, 4)
    assert colours(classes[:, ::2]) == {(0x1F, 0x6F, 0xB4, 255)}
    assert colours(classes[:, 1::2]) == {(0xCD, 0xBB, 0x8C, 255)}


def test_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    html = map_report(tmp_path, fake_run(tmp_path, square(1)), card())
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "embed"} & {t for t, _ in page.tags}
    loaded = [str(a[k]) for _, a in page.tags for k in ("src", "srcset", "data", "xlink:href") if k in a]
    assert loaded
    assert all(v.startswith("data:image/png;base64,") for v in loaded)
    assert not re.search(r"url\(|@import|https?://", html)
    assert not [a for _, a in page.tags if any(k.startswith("on") for k in a)]


def test_same_inputs_same_bytes(tmp_path: Path) -> None:
    run = fake_run(tmp_path, square())
    turned = dict(reversed(run.items()))
    turned["recipe"] = dict(reversed(run["recipe"].items()))
    turned["seconds"] = dict(reversed(run["seconds"].items()))
    assert map_report(tmp_path, run, card()) == map_report(tmp_path, turned, card())


def test_failed_blocks_are_in_the_headline_the_table_and_the_map(tmp_path: Path) -> None:
    *blocks, lost = square()
    run = fake_run(tmp_path, blocks)
    run["blocks"] |= {"planned": 5, "failed": {lost.id: "item X, asset red: https://host/a.tif?sig=SECRET truncated"}}
    html = map_report(tmp_path, run, card())
    page = Page(html)
    assert "The map has gaps: 1 of 5 blocks failed, 1 of 5 blocks were not run" in page.text
    assert f"{lost.id} failed: item X, asset red: https://host/a.tif truncated" in page.text
    assert "SECRET" not in html
    classes = page.pictures()[1]
    assert classes.shape[:2] == (192, 192)
    assert colours(classes[96:, 96:]) == {(185, 28, 28, 255), (254, 226, 226, 255)}
    assert (185, 28, 28, 255) not in colours(classes[:96])


def test_text_from_outside_is_escaped(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script><img src=x onerror='alert(2)'>\"'&"
    write_block(tmp_path, block := square(1)[0], half_water(block), card())
    write_items([source(bad)], tmp_path / "sources.parquet")
    run = {
        "title": bad,
        "collection": bad,
        "hash": bad,
        "recipe": {"model": bad, bad: bad},
        "blocks": {"planned": 2, "done": [block.id], "failed": {bad: bad}},
        "files": {f"{bad}.tif": bad},
        "seconds": {bad: 1.0},
        "versions": {bad: bad},
        "datetime": [bad, bad],
    }
    named = (ClassInfo(value=0, name=bad, color="#ffffff"), ClassInfo(value=1, name="b", color="#000000"))
    html = map_report(tmp_path, run, card(name=bad, description=bad, classes=named, training={bad: [bad]}))
    page = Page(html)
    assert "script" not in {t for t, _ in page.tags}
    assert not [a for _, a in page.tags if "onerror" in a]
    assert page.text.count("alert(1)") > 8


def test_a_damaged_file_is_named_and_the_report_still_comes(tmp_path: Path) -> None:
    first, second = square()[:2]
    run = fake_run(tmp_path, [first, second])
    path = tmp_path / "cogs" / second.id / "confidence.tif"
    path.write_bytes(path.read_bytes()[:300])
    (tmp_path / "sources.parquet").write_bytes(b"PAR1 not really")
    html = map_report(tmp_path, run, card())
    text = Page(html).text
    assert "The map has gaps: 2 files cannot be read" in text
    assert f"{second.id} cannot be read" in text
    assert f"{96 * 48:,}" in text
    assert str(tmp_path) not in html, "no path of the machine"


def test_an_asset_outside_the_run_is_not_opened(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", [block := square(1)[0]])
    (tmp_path / "secret.tif").write_bytes((tmp_path / "run/cogs" / block.id / "class.tif").read_bytes())
    path = tmp_path / "run/items" / f"{block.id}.json"
    path.write_text(path.read_text().replace(f"../cogs/{block.id}/class.tif", "../../secret.tif"))
    text = Page(map_report(tmp_path / "run", run, card())).text
    assert "outside the folder of the run" in text
    assert "The map is empty" in text


@pytest.mark.parametrize("run", [{}, {"blocks": {"planned": 3, "done": [], "failed": {"a": "b"}}}])
def test_nothing_done_is_said_plainly(tmp_path: Path, run: dict[str, Any]) -> None:
    text = Page(map_report(tmp_path, run, card())).text
    assert "There is no map No block could be finished." in text


def test_no_valid_pixel_is_an_empty_map(tmp_path: Path) -> None:
    def nothing(block: Block) -> Pixels:
        return np.full((96, 96), 255, np.uint8), np.full((96, 96), 255, np.uint8), np.zeros((96, 96), np.uint8)

    text = Page(map_report(tmp_path, fake_run(tmp_path, square(1), nothing), card())).text
    assert "The map is empty No pixel of the region has data." in text
    assert "mean confidence –" in text


def test_a_run_folder_alone_is_enough(tmp_path: Path) -> None:
    fake_run(tmp_path, square())
    text = Page(map_report(tmp_path, {}, card())).text
    assert "All 4 blocks are done" in text


def test_share_is_of_the_region_and_weighs_pixels(tmp_path: Path) -> None:
    """One block lies in the region with one row, of which half has data; the other whole."""

    def paint(block: Block) -> Pixels:
        classes, confidence, valid = (layer.copy() for layer in half_water(block))
        if block.ix == 240:
            classes[1:], confidence[1:], valid[1:] = 255, 255, 255
            classes[0, :48], confidence[0, :48], valid[0, :48] = 255, 255, 0
        return classes, confidence, valid

    text = Page(map_report(tmp_path, fake_run(tmp_path, square()[:2], paint), card())).text
    assert f"{percent((48 + 95 * 96) / (96 + 96 * 96))} of the region has data" in text


def test_observations_are_shown_when_they_vary(tmp_path: Path) -> None:
    def paint(block: Block) -> Pixels:
        classes, confidence, valid = half_water(block)
        valid[:24] = 3
        return classes, confidence, valid

    page = Page(map_report(tmp_path, fake_run(tmp_path, square(1), paint), card()))
    assert "Valid observations" in page.text
    assert len(page.pictures()) == 4
    assert "0 1.0 % 1 74.0 % 3 25.0 %" in page.text


def test_class_areas_in_degrees_follow_the_latitude(tmp_path: Path) -> None:
    plane = Plane("EPSG:4326", 0.05)
    blocks = [Block(plane, 96, -13, 2)]
    page = Page(map_report(tmp_path, fake_run(tmp_path, blocks, card=card(gsd=5566.0, anchor=0.0)), card(gsd=5566.0)))
    west, _, east, north = plane.bounds(blocks[0].window)
    assert north > 60

    def band(south: float, top: float) -> float:
        """m² between two parallels: the closed formula of the ellipsoid."""
        geod = pyproj.Geod(ellps="WGS84")

        def q(lat: float) -> float:
            e, s = np.sqrt(geod.es), np.sin(np.radians(lat))
            return float(s / (1 - geod.es * s * s) + np.arctanh(e * s) / e)

        return geod.b**2 / 2 * float(np.radians(east - west)) * (q(top) - q(south))

    match = re.search(r"water ([\d,.]+) km²", page.text)
    assert match
    assert float(match[1].replace(",", "")) == pytest.approx(band(north - 48 * 0.05, north) / 1e6, rel=2e-4)


def test_zones_on_both_sides_of_the_antimeridian_share_a_small_canvas(tmp_path: Path) -> None:
    region = from_bbox(179.9, -16.6, -179.9, -16.4)
    blocks = [b for crs, part in zones(region).items() for b in blocks_of(part, plane_of(crs, 60.0), 192)]
    fiji = card(gsd=60.0, anchor=0.0)
    assert len({b.plane.crs for b in blocks}) == 2
    page = Page(map_report(tmp_path, fake_run(tmp_path, blocks, card=fiji), fiji))
    _, classes, _ = page.pictures()
    assert max(classes.shape) <= 1000
    seen = classes[..., 3] > 0
    assert seen.mean() > 0.5, "the blocks fill the sheet, there is no world between them"
    assert "179" in page.text
    assert "180.0°" in page.text


def test_web_mercator_over_the_antimeridian_is_not_drawn_in_web_mercator(tmp_path: Path) -> None:
    outlines = [shapely.box(179.9, 59.9, 180, 60), shapely.box(-180, 59.9, -179.9, 60)]
    sheet = canvas(outlines, ["EPSG:3857"], 30.0)
    assert max(sheet.shape) < 500
    share, text = sheet.scale_bar()
    metres = float(text.split()[0].replace(",", "")) * (1000 if "km" in text else 1)
    assert metres / share == pytest.approx(sheet.shape[1] * 30.0, rel=1e-3)


def test_large_runs_are_drawn_small() -> None:
    sheet = canvas([shapely.box(-58, -26, -54, -24)], ["EPSG:32721"], 10.0)
    assert max(sheet.shape) <= SIDE
    assert sheet.box.crs.to_epsg() == 32721
    assert abs(sheet.north()) < 2
    lon, lat = sheet.ticks()
    assert [t.text for t in lon] == ["57° W", "56° W", "55° W"]
    assert [t.text for t in lat] == ["24.0° S", "24.5° S", "25.0° S", "25.5° S", "26.0° S"][1:-1] or lat


def test_the_whole_world_has_a_canvas() -> None:
    sheet = canvas([shapely.segmentize(shapely.box(-180, -80, 180, 80), 1.0)], ["EPSG:4326"], 1000.0)
    assert max(sheet.shape) <= SIDE
    assert sheet.shape[1] > 1.5 * sheet.shape[0]


SCORES = {
    "model": "water-map",
    "sha256": "f" * 64,
    "recipe": "e" * 64,
    "split": "test",
    "pixels": 1000,
    "overall_accuracy": 0.95,
    "miou": 0.88,
    "mean_f1": 0.93,
    "iou": {"land": 0.94, "water": None},
    "f1": {"land": 0.97, "water": None},
    "precision": {"land": 0.96, "water": None},
    "recall": {"land": 0.98, "water": None},
    "confusion": [[784, 16], [34, 166]],
    "ece": 0.021,
    "calibration": [
        {"from": 0.0, "to": 0.1, "pixels": 0, "confidence": None, "accuracy": None},
        {"from": 0.2, "to": 0.3, "pixels": 1, "confidence": 0.287, "accuracy": 0.0},
        {"from": 0.9, "to": 1.0, "pixels": 1000, "confidence": 0.97, "accuracy": 0.95},
    ],
    "baseline": {"class": "land", "overall_accuracy": 0.8, "miou": 0.4},
    "scenes": 2,
}


def test_scores_page_and_scores_in_the_map_page(tmp_path: Path) -> None:
    text = Page(evaluation_report(SCORES)).text
    assert "Mean IoU 0.880 on the test split" in text
    assert "A map that is land everywhere would reach 0.400." in text
    assert "land 98.0 % 784 2.0 % 16 water 17.0 % 34 83.0 % 166" in text
    assert "water – – – – 200" in text
    assert "confidence 0.287, right 0.000, 1 pixel<" in evaluation_report(SCORES)
    run = fake_run(tmp_path, square(1))
    both = Page(map_report(tmp_path, run, card(scores=SCORES))).text
    assert "Held-out scores of the model" in both
    assert "off by 2.1 percentage points" in both


def test_a_model_that_is_no_better_than_one_class_is_called_so() -> None:
    assert "no better than one class" in Page(evaluation_report({**SCORES, "miou": 0.4})).text
    assert "Nothing was scored" in Page(evaluation_report({})).text


def test_a_few_pixels_are_not_a_thousandth_of_the_map(tmp_path: Path) -> None:
    """4 pixels of 300 x 300 are no 0.1 %, and the others are not all."""
    part = Output(CARD).report(tmp_path)
    pixels = [300 * 300 - 4, 4]
    counted = {"pixels": pixels, "area": [900.0 * n for n in pixels], "sure": [0, 0], "sums": [0, 0]}
    part.add({"classes": {"values": [LAND, WATER], **counted, "tenths": [0] * 10}})
    text = Page(str(part.section(None))).text
    assert "land 81.00 km² >99.9 % 89,996" in text
    assert "water 0.003600 km² <0.1 % 4" in text


@pytest.mark.parametrize(
    ("value", "text"), [(1_234_567_890.0, "1,235 km²"), (12_345_678.0, "12.35 km²"), (900.0, "0.0009000 km²")]
)
def test_area_keeps_four_digits(value: float, text: str) -> None:
    assert area(value) == text
