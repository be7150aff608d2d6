"""The map of a run in a browser, as a person uses it: wide and on a phone, with no network at all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import pytest
import rasterio

import geoml
from geoml import testing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = "/usr/bin/chromium"
SCENE = testing.Scene(id="first", data=testing.smooth((2, 220, 260), seed=5), bands=("red", "nir"))
LATER = testing.Scene(
    id="later", data=testing.smooth((2, 220, 260), seed=6), bands=("red", "nir"), datetime="2025-06-01T00:00:00Z"
)
Opened = Callable[..., "Page"]


@pytest.fixture(scope="module")
def runs(threshold: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``one``: classes and confidence; ``two``: what changed between two dates."""
    root = tmp_path_factory.mktemp("maps")
    catalog = testing.write_catalog(root / "made", [SCENE, LATER])
    query = {"catalog": str(catalog), "bbox": SCENE.bbox()}
    geoml.predict({"model": threshold, "block_size": 128, "query": {**query, "datetime": ["2024"]}}, root / "one")
    change = {"model": "ndvi-difference", "max_shift": 0, "query": {**query, "datetime": ["2024", "2025"]}}
    geoml.predict(change, root / "two")
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is not installed (Debian package chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """``opened(path, width)``; at the end nothing was fetched and nothing complained."""
    faults: list[str] = []
    pages = []

    def run(path: Path, width: int = 1280) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 800})
        pages.append(page)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("data:", "blob:", path.as_uri())) or faults.append(r.url))
        page.goto(path.as_uri())
        return page

    yield run
    for page in pages:
        page.close()
    assert faults == []


def data_of(out: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', (out / "map.html").read_text())
    assert found is not None
    value: dict[str, Any] = json.loads(found[1])
    return value


def answer(page: Page, across: float, down: float) -> dict[str, str]:
    """What a click at a share of the picture says: labels and values, ``at`` and ``sources``."""
    box = page.locator(".leaflet-image-layer").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])
    page.locator(".answer").wait_for()
    said = {
        row.locator("td").nth(0).inner_text(): row.locator("td").nth(1).inner_text()
        for row in page.locator(".answer tr").all()
    }
    said["at"] = page.locator(".answer .at").inner_text()
    said["sources"] = "\n".join(page.locator(".answer ul").all_inner_texts())
    return said


def stored(out: Path, layer: str, at: str) -> set[int]:
    """The values of a layer within two metres of a place, by rasterio."""
    lat, lon = (float(v) for v in re.findall(r"-?[\d.]+", at))
    found = set()
    for path in out.glob(f"cogs/*/{layer}.tif"):
        with rasterio.open(path) as file:
            to = pyproj.Transformer.from_crs("EPSG:4326", file.crs, always_xy=True)
            x, y = to.transform(lon, lat)
            around = [(x + dx, y + dy) for dx in (-2, 0, 2) for dy in (-2, 0, 2)]
            found |= {int(v[0]) for v in file.sample(around) if v[0] != file.nodata}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_click_says_what_is_stored_there(runs: Path, opened: Opened, width: int) -> None:
    out = runs / "one"
    page = opened(out / "map.html", width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    titles = {layer["key"]: layer["title"] for layer in data_of(out)["layers"]}
    seen = set()
    for across, down in [(0.1, 0.9), (0.5, 0.5), (0.86, 0.33), (0.3, 0.12), (0.7, 0.8)]:
        said = answer(page, across, down)
        assert said[titles["class"]].rpartition("-")[2] in {str(v) for v in stored(out, "class", said["at"])}
        sure = {f"{v * 0.004:.5g}" for v in stored(out, "confidence", said["at"])}
        assert f"{float(said[titles['confidence']]):.5g}" in sure
        assert "first" in said["sources"]
        seen.add(said[titles["class"]])
        page.reload()  # the map moved to make room for the answer
    assert len(seen) > 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_layers_and_opacity(runs: Path, opened: Opened, width: int) -> None:
    page = opened(runs / "one" / "map.html", width)
    panel = page.locator("#panel")
    assert panel.is_visible() == (width > 700)
    if width < 700:
        page.click("#toggle")
    first = page.locator("canvas.leaflet-image-layer[data-drawn=class]")
    first.wait_for()
    slider = page.get_by_label("Opacity: class of each pixel")
    slider.fill("25")
    assert float(first.evaluate("c => getComputedStyle(c).opacity")) == 0.25
    boxes = panel.locator("input[type=checkbox]")
    boxes.nth(0).uncheck()
    first.wait_for(state="detached")
    boxes.nth(1).check()
    page.locator("canvas[data-drawn=confidence]").wait_for()
    assert panel.locator(".legend li").all_inner_texts() == ["level-0", "level-1", "level-2"]
    assert "In view: " in panel.locator(".in-view").inner_text()
    page.locator(".leaflet-control-scale-line").wait_for()


@pytest.mark.slow
def test_colours_are_those_of_the_card(runs: Path, opened: Opened) -> None:
    page = opened(runs / "one" / "map.html")
    canvas = page.locator("canvas[data-drawn=class]")
    canvas.wait_for()
    shown = np.array(
        canvas.evaluate("c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"), np.uint8
    ).reshape(*data_of(runs / "one")["size"], 4)
    card = json.loads((runs / "one" / "model.json").read_text())
    assert card["type"] == "Feature"
    colours = {c[2].lower() for c in data_of(runs / "one")["classes"]}
    known = shown[shown[..., 3] == 255][:, :3]
    assert {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.unique(known, axis=0)} == colours
    share = [(known == [int(c[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=1).mean() for c in sorted(colours)]
    count = testing.read_map(runs / "one", "class")[SCENE.crs].data
    by_class = {c[2].lower(): (count == c[0]).sum() / (count != 255).sum() for c in data_of(runs / "one")["classes"]}
    assert share == pytest.approx([by_class[c] for c in sorted(colours)], abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_two_dates_are_swiped(runs: Path, opened: Opened, width: int) -> None:
    page = opened(runs / "two" / "map.html", width)
    divider, before = page.locator("#divider"), page.locator(".leaflet-before-pane")
    divider.wait_for()
    box = page.locator("#map").bounding_box()
    assert box is not None

    def edge() -> float:
        """Where the first date ends, as a share of the map."""
        sides = [float(v) for v in re.findall(r"-?[\d.]+(?=px)", before.evaluate("e => e.style.clip"))]
        return sides[1] / box["width"]

    assert edge() == pytest.approx(0.5, abs=0.01)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 100, steps=4)
    page.mouse.up()
    assert edge() == pytest.approx(0.8, abs=0.02)
    divider.focus()
    page.keyboard.press("ArrowLeft")
    assert edge() == pytest.approx(0.78, abs=0.02)
    said = answer(page, 0.2, 0.4)
    assert "first" in said["sources"]
    assert "later" in said["sources"]
    if width < 700:
        page.click("#toggle")
    page.locator("#swipe").uncheck()
    assert before.evaluate("e => e.style.clip") in ("", "auto")


@pytest.mark.slow
def test_the_report_leads_to_the_map_and_its_pictures_enlarge(runs: Path, opened: Opened) -> None:
    page = opened(runs / "one" / "report.html")
    assert page.get_by_role("link", name="Open the map").get_attribute("href") == "map.html"
    picture = page.locator(".zoom img").first
    small = picture.bounding_box()
    picture.click()
    large, size = picture.bounding_box(), picture.evaluate("i => i.naturalWidth")
    assert small is not None
    assert large is not None
    assert large["width"] >= max(size, 2 * small["width"])
    picture.click()
    again = picture.bounding_box()
    assert again is not None
    assert again["width"] == small["width"]


def test_no_map(threshold: str, catalog: Path, predict: Callable[..., Path]) -> None:
    out = predict(threshold, catalog, SCENE.bbox(), map=False)
    assert not (out / "map.html").exists()
    assert "map.html" not in (out / "report.html").read_text()
    done = (out / "features.parquet").stat().st_mtime_ns
    assert predict(threshold, catalog, SCENE.bbox(), map=True) == out
    assert (out / "map.html").exists(), "asked for later, of a run that is finished"
    assert json.loads((out / "run.json").read_text())["seconds"]["map"] > 0
    written = (out / "map.html").stat().st_mtime_ns
    assert written > done
    predict(threshold, catalog, SCENE.bbox(), map=True)
    assert (out / "map.html").stat().st_mtime_ns == written


def test_what_is_made_no_more_does_not_stay(threshold: str, catalog: Path, predict: Callable[..., Path]) -> None:
    out = predict(threshold, catalog, SCENE.bbox(), map=True, features_format=["parquet", "gpkg"])
    assert (out / "map.html").exists()
    block = next(out.glob("cogs/*/class.tif"))
    block.unlink()  # so that there is something to do
    predict(threshold, catalog, SCENE.bbox(), map=False, features_format=["parquet"])
    run = json.loads((out / "run.json").read_text())
    assert block.exists()
    assert not (out / "map.html").exists()
    assert "map.html" not in run["files"]
    assert (out / "features.gpkg").exists(), "a copy of the polygons stays"
    assert "map" not in run["seconds"]
    predict(threshold, catalog, SCENE.bbox(), map=True, features_format=["parquet"])
    assert (out / "map.html").exists()
    assert json.loads((out / "run.json").read_text())["seconds"]["map"] > 0


def test_blocks_do_not_show(threshold: str, catalog: Path, predict: Callable[..., Path]) -> None:
    one, two = (data_of(predict(threshold, catalog, SCENE.bbox(), f"b{n}", block_size=n)) for n in (64, 200))
    assert one["layers"] == two["layers"]
    assert one["bounds"] == two["bounds"]
    assert one["outlines"] == two["outlines"]
    assert one["sources"] == two["sources"]
