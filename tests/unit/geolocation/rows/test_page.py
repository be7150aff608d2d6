"""The map of answers: nothing from elsewhere, hostile names stay text, and its script runs (in node, on a stub)."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import geoml.geolocation.rows.page as module
from geoml.errors import InputError
from geoml.geolocation.rows.page import photo_map, thumbnail

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;.jpg"
VENDOR = Path(module.__file__).parent / "vendor"


def row(key: str = "a.jpg", **changes: Any) -> dict[str, Any]:
    return {"image_id": key, "status": "ok", "lon": 16.4, "lat": 48.2, "radius_90_km": 80.0, **changes}


class Page(HTMLParser):
    """Elements with their attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and data.strip():
            self.scripts[-1] += data


def rows_of(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(page.scripts[0])["rows"]
    return found


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = photo_map([row()], thumbnails=lambda r: thumbnail(np.zeros((300, 200, 3), np.uint8)))
    names = set(re.findall(r"[a-z]+://[^\s\"'<>)]+", text))
    assert names == {"http://www.w3.org/2000/svg"}  # the name of a vocabulary, which nobody fetches
    page = Page(text)
    for tag, attrs in page.elements:
        assert tag not in ("link", "iframe", "object", "base")
        assert all((attrs.get(k) or "data:").startswith("data:") for k in ("src", "href"))
    policy = next(a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert not re.findall(r"url\((?!#)", text)


def test_hostile_names_are_text() -> None:
    wild = row(HOSTILE, reason=HOSTILE, topk=[{"lon": 1.0, "lat": 2.0, "p": 0.5, "name": HOSTILE}])
    plain, page = Page(photo_map([row()])), Page(photo_map([wild], title=HOSTILE))
    assert [t for t, _ in page.elements] == [t for t, _ in plain.elements]
    assert (rows_of(page)[0]["id"], rows_of(page)[0]["reason"]) == (HOSTILE, HOSTILE)
    assert rows_of(page)[0]["topk"][0]["name"] == HOSTILE
    script = (Path(module.__file__).parent / "photo_map.js").read_text()
    assert "innerHTML" not in script
    assert "insertAdjacentHTML" not in script


def test_rows_with_and_without_an_answer() -> None:
    rows = [row(exif_flag="suspicious", exif_error_km=812.4), row("b", lon=179.9, lat=-17.0, radius_90_km=300.0),
            {"image_id": "c", "status": "abstained", "reason": "flat"}]  # fmt: skip
    text = photo_map(rows)
    assert "3 pictures: 2 ok, 1 abstained." in text
    assert "GeoNames" not in text
    named = [{"lon": 1.0, "lat": 2.0, "p": 0.5, "name": "Vienna"}]
    assert "GeoNames, CC BY 4.0" in photo_map([row(topk=named)])
    one, two, three = rows_of(Page(text))
    assert one["exif"] == "suspicious, 812 km away"
    assert (len(one["outline"]), len(two["outline"])) == (1, 2)  # cut at the antimeridian
    ring = np.array(one["outline"][0][0])
    assert abs(ring[:, 0] - 48.2).max() == pytest.approx(80 / 111.195, rel=0.01)
    assert (three["lat"], three["outline"], three["reason"]) == (None, [], "flat")


def test_a_long_list_is_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    text = photo_map(row(str(k)) for k in range(5))
    assert "5 pictures: 5 ok. Only the first 3 are shown." in text
    assert len(rows_of(Page(text))) == 3


def test_thumbnails_are_small_and_say_nothing() -> None:
    data = thumbnail(np.random.default_rng(0).integers(0, 255, (400, 900, 3), np.uint8))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (160, 71)
        assert not image.getexif()
    assert len(data) < 12_000
    shown = rows_of(Page(photo_map([row()], thumbnails=lambda r: data)))[0]["thumbnail"]
    assert base64.b64decode(shown.partition(",")[2]) == data


@pytest.mark.parametrize("wrong", [{"status": "fine"}, {"image_id": None}, {"lon": float("nan")}])
def test_wrong_rows_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        photo_map([{**row(), **wrong}])


def test_what_others_made_is_as_it_came() -> None:
    assert (VENDOR / "blue-marble.jpg").stat().st_size < 100_000
    with Image.open(VENDOR / "blue-marble.jpg") as image:
        assert image.size == (1024, 512)
        red, green, blue = image.convert("RGB").getpixel((int((23 + 180) / 360 * 1024), int((90 - 23) / 180 * 512)))
    assert red > green > blue  # the Sahara is where it belongs


STUB = """
const fs = require("fs"), vm = require("vm");
const [data, script] = JSON.parse(fs.readFileSync(0, "utf8"));
const log = { polygons: 0, markers: [], cards: [], listed: [] };
function node(name) {
  return { name: name, children: [], attributes: {}, own: "", className: "",
    set textContent(t) { this.own = t; },
    get textContent() { return this.own + this.children.map(c => c.textContent).join("|"); },
    set innerHTML(t) { throw new Error("innerHTML"); },
    appendChild(c) { this.children.push(c); return c; }, replaceChildren() { this.children = []; },
    setAttribute(k, v) { this.attributes[k] = v; }, getAttribute(k) { return this.attributes[k] || ""; },
    addEventListener(kind, f) { this.click = f; } };
}
const known = { data: node("script"), world: node("img"), list: node("ul"), shown: node("div") };
known.data.own = data;
const layer = () => ({ addTo() { return this; }, bindPopup(f) { this.popup = f; return this; },
  openPopup() { log.cards.push(this.popup().textContent); } });
const map = { setMaxBounds() {}, fitBounds() {}, setView() {}, getZoom: () => 1 };
const L = { CRS: { EPSG4326: {} }, map: () => map, imageOverlay: layer,
  polygon: (p) => { log.polygons += 1; return layer(); },
  circleMarker: (at) => { log.markers.push(at); return layer(); } };
const document = { getElementById: (id) => known[id], createElement: node };
vm.runInNewContext(script, { document, L, JSON, Math, String });
known.list.children.forEach(li => { log.listed.push(li.textContent); li.children[0].click(); });
log.shown = known.shown.textContent;
console.log(JSON.stringify(log));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node: not installed")
def test_the_script_draws_points_circles_and_the_list() -> None:
    page = Page(
        photo_map(
            [
                row(HOSTILE, topk=[{"lon": 16.4, "lat": 48.2, "p": 0.75, "name": "Vienna", "country": "AT"}]),
                row("no radius", radius_90_km=None),
                {"image_id": "c", "status": "unreadable", "reason": "empty: it has no bytes"},
            ]
        )
    )
    given = json.dumps([page.scripts[0], page.scripts[-1]])
    done = subprocess.run(["node", "-e", STUB], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    log = json.loads(done.stdout)
    assert (log["polygons"], log["markers"]) == (1, [[48.2, 16.4], [48.2, 16.4]])
    assert HOSTILE in log["cards"][0]
    assert "Vienna, AT – 75 %" in log["cards"][0]
    assert "unreadable: empty: it has no bytes" in log["listed"][2]
    assert "empty: it has no bytes" in log["shown"]
