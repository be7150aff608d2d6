"""``geoml view``: tiles and values of a run at full resolution, for this machine only."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import pytest
import rasterio
from PIL import Image

import geoml
from geoml import testing
from tests.e2e.printed import prints, said, wide
from tests.e2e.test_map import browser, data_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser", "said", "wide"]  # fixtures

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 200, 200), seed=5), bands=("red", "nir"))


@pytest.fixture(scope="module")
def run(catalog: Path, threshold: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("view") / "out"
    query = {"catalog": str(catalog), "bbox": SCENE.bbox(), "datetime": ["2024"]}
    geoml.predict({"model": threshold, "block_size": 128, "query": query}, out)
    return out


@contextlib.contextmanager
def viewed(run: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address that the command prints, and the command, which Ctrl-C ends well."""
    words = [sys.executable, "-m", "geoml.cli", "view", str(run), "--no-open"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "240"}) as command:
        assert command.stdout is not None
        line = command.stdout.readline()
        assert line.startswith(f"The map of {run} is at http://127.0.0.1:")
        yield line.split()[-4], command
        command.send_signal(signal.SIGINT)
        assert command.wait(20) == 0


@pytest.fixture(scope="module")
def served(run: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with viewed(run) as found:
        yield found


def get(address: str, path: str, host: str | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(address + path, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as err:
        with err:
            return err.code, err.read()


def test_a_browser_that_waits_gets_the_page(run: Path, tmp_path: Path) -> None:
    """Such as one of a terminal, which does not return before it has the page."""
    waits, seen = tmp_path / "waits.py", tmp_path / "seen"
    waits.write_text(
        f"""#!{sys.executable}
import pathlib, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=20) as answer:
    pathlib.Path({str(seen)!r}).write_text(str(answer.status))
"""
    )
    waits.chmod(0o755)
    words = [sys.executable, "-m", "geoml.cli", "view", str(run)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, env={**os.environ, "BROWSER": f"{waits} %s"}) as command:
        try:
            until = time.monotonic() + 40
            while not (seen.exists() and seen.read_text()) and time.monotonic() < until and command.poll() is None:
                time.sleep(0.1)
            assert seen.exists()
            assert seen.read_text() == "200"
        finally:
            command.send_signal(signal.SIGINT)
        assert command.wait(20) == 0


@prints("view")
def test_what_cannot_be_shown_is_said(cli: Callable[..., object], tmp_path: Path) -> None:
    result = cli("view", tmp_path, "--no-open")
    assert result.exit_code == 2  # type: ignore[attr-defined]
    assert "holds no map.html; expected a finished run" in result.stderr.replace("\n", " ")  # type: ignore[attr-defined]


def test_a_value_is_the_one_stored(served: tuple[str, object], run: Path) -> None:
    for path in sorted(run.glob("cogs/*/class.tif")):
        with rasterio.open(path) as file, rasterio.open(path.with_name("confidence.tif")) as sure:
            values, other = file.read(1), sure.read(1)
            known = np.argwhere(values != file.nodata)
            if not len(known):
                continue
            row, col = (int(v) for v in known[len(known) // 2])
            to = pyproj.Transformer.from_crs(file.crs, "EPSG:4326", always_xy=True)
            lon, lat = to.transform(*file.xy(row, col))
        status, body = get(served[0], f"point?lon={lon!r}&lat={lat!r}")
        assert status == 200
        assert json.loads(body) == {"class": values[row, col], "confidence": other[row, col], "valid": 1}


def test_tiles_have_the_colours_of_the_values_under_them(served: tuple[str, object], run: Path) -> None:
    west, south, east, north = SCENE.bbox()
    lon, lat, z = (west + east) / 2, (south + north) / 2, 15
    x = int((lon + 180) / 360 * 2**z)
    y = int((1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**z)
    status, body = get(served[0], f"tiles/class/{z}/{x}/{y}.png")
    assert status == 200
    with Image.open(io.BytesIO(body)) as image:
        shown = np.asarray(image.convert("RGBA"))
    assert shown.shape == (256, 256, 4)
    colours = {c[:3]: v for v, c in _colormap(run).items()}
    checked = 0
    for row, col in [(40, 50), (128, 128), (200, 30), (90, 220)]:
        if shown[row, col, 3]:
            at = math.pi * (1 - 2 * (y + (row + 0.5) / 256) / 2**z)
            place = 360 * (x + (col + 0.5) / 256) / 2**z - 180, math.degrees(math.atan(math.sinh(at)))
            found = json.loads(get(served[0], f"point?lon={place[0]!r}&lat={place[1]!r}")[1])
            near = shown[row - 3 : row + 4, col - 3 : col + 4].reshape(-1, 4)
            around = {colours.get(tuple(int(v) for v in c[:3])) for c in near}
            assert found["class"] in around
            checked += 1
    assert checked >= 2
    assert get(served[0], f"tiles/class/{z}/0/0.png") == (204, b"")


def _colormap(run: Path) -> dict[int, tuple[int, ...]]:
    with rasterio.open(next(run.glob("cogs/*/class.tif"))) as file:
        return {value: file.colormap(1)[value] for value in range(3)}


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("", "evil.example", 400),
        ("point?lon=1&lat=2", "evil.example:80", 400),
        ("run.json", None, 404),
        ("cogs/x/class.tif", None, 404),
        ("%2e%2e/%2e%2e/etc/passwd", None, 404),
        ("tiles/..%2f..%2frun/1/1/1.png", None, 404),
        ("tiles/other/1/1/1.png", None, 404),
        ("tiles/class/1/9/9.png", None, 404),
        ("tiles/class/99/1/1.png", None, 404),
        ("point?lon=nan&lat=2", None, 400),
        ("point?lat=2", None, 400),
        ("", "localhost", 200),
        ("report.html", None, 200),
    ],
)
def test_nothing_else_is_served(served: tuple[str, object], path: str, host: str | None, status: int) -> None:
    assert get(served[0], path, host)[0] == status


def test_only_this_machine_is_served(served: tuple[str, subprocess.Popen[str]]) -> None:
    port = int(served[0].rstrip("/").rpartition(":")[2])
    listening = [
        line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"
    ]
    assert [at for at in listening if int(at.rpartition(":")[2], 16) == port] == [f"0100007F:{port:04X}"]
    assert not [at for at in Path("/proc/net/tcp6").read_text().splitlines()[1:] if f":{port:04X}" in at.split()[1]]


def test_a_taken_port_is_said(served: tuple[str, object], run: Path, cli: Callable[..., object]) -> None:
    port = served[0].rstrip("/").rpartition(":")[2]
    result = cli("view", run, "--no-open", "--port", port)
    assert result.exit_code == 2  # type: ignore[attr-defined]
    assert f"port: {port} cannot be had" in result.stderr  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_page_shows_tiles(served: tuple[str, object], browser: object) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})  # type: ignore[attr-defined]
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda r: r.url.startswith(("data:", "blob:", served[0])) or faults.append(r.url))
    page.goto(served[0])
    page.locator("canvas[data-drawn=class]").wait_for(state="attached")  # hidden where tiles are as fine
    closer = page.locator(".leaflet-control-zoom-in")
    for _ in range(30):  # a click while the map still moves is lost on a busy machine
        if page.locator("img.leaflet-tile-loaded").count() or closer.get_attribute("aria-disabled") == "true":
            break
        closer.click()
        page.wait_for_timeout(1000)
    page.locator("img.leaflet-tile-loaded").first.wait_for()
    box = page.locator("#map").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(".answer table").first.wait_for()
    page.close()
    assert faults == []


WIDE = testing.Scene(id="wide", data=testing.smooth((2, 1000, 1000), seed=5), bands=("red", "nir"))
"""More pixels than a screen has, so that the whole of it is farther out than tiles are."""


@pytest.fixture(scope="module")
def wide_run(threshold: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where it is served, and what its map says."""
    root = tmp_path_factory.mktemp("wide")
    catalog = testing.write_catalog(root / "made", [WIDE])
    query = {"catalog": str(catalog), "bbox": WIDE.bbox(), "datetime": ["2024"]}
    geoml.predict({"model": threshold, "block_size": 512, "query": query}, root / "out")
    with viewed(root / "out") as (address, _):
        yield address, data_of(root / "out")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_layers_lie_on_the_image_near_and_far(
    wide_run: tuple[str, dict[str, Any]], browser: Browser, width: int
) -> None:
    """By the pixels of the screen: as the page opens, farther out, and closer where tiles are shown."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(wide_run[0])
    colours = [tuple(int(c[2][k : k + 2], 16) for k in (1, 3, 5)) for c in wide_run[1]["classes"]]
    page.get_by_label("Opacity: class of each pixel", exact=True).evaluate(
        "s => { s.value = 100; s.dispatchEvent(new Event('input')); }"
    )
    assert page.get_by_label("Image", exact=True).is_checked()
    ground = page.locator(".leaflet-image-pane img")

    def classes() -> tuple[float, bool]:
        """The share of the ground on the screen that has the colour of a class, and if all of the ground is there."""
        page.wait_for_timeout(1500)
        box, seen = ground.bounding_box(), page.locator("#map").bounding_box()
        assert box is not None
        assert seen is not None
        near, far = (
            [max(box[k], seen[k]) for k in "xy"],
            [min(box[k] + box[side], seen[k] + seen[side]) for k, side in (("x", "width"), ("y", "height"))],
        )
        with Image.open(io.BytesIO(page.screenshot())) as picture:
            shown = np.asarray(picture.convert("RGB"))[int(near[1]) : int(far[1]), int(near[0]) : int(far[0])]
        right = np.any([(shown == c).all(axis=2) for c in colours], axis=0)
        whole = all(math.isclose(far[k] - near[k], box[s], abs_tol=1) for k, s in ((0, "width"), (1, "height")))
        return float(right.mean()), whole

    share, whole = classes()
    assert share > 0.8
    assert whole
    farther, closer = (page.locator(f".leaflet-control-zoom-{k}") for k in ("out", "in"))
    for button, seen in ((farther, True), (farther, True), (closer, True), (closer, True), *[(closer, False)] * 3):
        assert button.get_attribute("aria-disabled") != "true"
        button.click()
        share, whole = classes()
        assert share > (0.4 if seen else 0.8), "controls cover some of a small one"
        assert whole or not seen
    assert page.locator("img.leaflet-tile-loaded").count()
    page.close()
