"""What is fuzzed: for each kind of foreign input a strategy, and what a user does with it through geoml's functions."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

import geoml
from geoml import pipeline, testing
from geoml.engine.packages import package
from geoml.engine.run.state import state
from geoml.errors import GeomlError
from geoml.geolocation.pictures import lists as photo_lists
from geoml.io.points.bins import binned
from geoml.io.points.read import read_window
from geoml.io.points.source import open_source
from geoml.io.stores.store import sha256
from tests.fuzz import mutate
from tests.fuzz.guard import Served
from tests.made_clouds import las_bytes, made_points
from tests.made_octrees import write_copc, write_ept

BANDS = ("red", "nir")


class World:
    """A small scene, two models and some pictures, made once; ``out`` is a new folder for each example."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        scene = testing.Scene(id="scene", data=testing.smooth((2, 64, 64)), bands=BANDS)
        self.bbox = scene.bbox(inner=0.2)
        for place in ("local", "remote"):
            testing.write_catalog(self.folder / place, [scene])
        self.item = json.loads((self.folder / "local/scene/item.json").read_text(encoding="utf-8"))
        testing.constant_model(self.folder / "constant", BANDS, ("land", "water"), answer=1)
        testing.threshold_model(self.folder / "program", BANDS, (0.2, 0.4))
        self.pictures = self.folder / "pictures"
        self.pictures.mkdir()
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(self.pictures / "a.jpg")
        self.served = Served(self.folder)
        self._n = 0

    def out(self) -> Path:
        shutil.rmtree(self.folder / f"out{self._n}", ignore_errors=True)
        self._n += 1
        return self.folder / f"out{self._n}"

    def query(self, place: str) -> dict[str, Any]:
        where = (
            f"{self.served.url}/remote/catalog.json" if place == "remote" else str(self.folder / "local/catalog.json")
        )
        return {"catalog": where, "bbox": list(self.bbox), "datetime": ["2020/2026"]}

    def predict(self, place: str, model: Path) -> None:
        recipe = {"model": str(model), "query": self.query(place), "block_size": 64}
        geoml.predict(recipe, self.out())

    def put_item(self, place: str, item: Any) -> None:
        (self.folder / place / "scene/item.json").write_text(mutate.text_of(item), encoding="utf-8")

    def copy(self, model: str) -> Path:
        to = self.folder / "package"
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.folder / model, to)
        return to


@dataclass(frozen=True)
class Target:
    strategy: st.SearchStrategy[Any]
    check: Callable[[Any], None]


PLACES = st.sampled_from(("local", "remote"))


def items(world: World) -> Target:
    """A changed item in a catalog here or on a server: searched for, planned, read, mapped."""

    def check(value: tuple[str, Any]) -> None:
        world.put_item(*value)
        world.predict(value[0], world.folder / "constant")

    return Target(st.tuples(PLACES, mutate.changed(world.item)), check)


def hrefs(world: World) -> Target:
    """An item whose picture lies anywhere."""

    def check(value: tuple[str, str]) -> None:
        place, href = value
        world.put_item(place, world.item | {"assets": {"image": world.item["assets"]["image"] | {"href": href}}})
        world.predict(place, world.folder / "constant")

    return Target(st.tuples(PLACES, mutate.hrefs(world.served.port, world.served.other)), check)


def cards(world: World) -> Target:
    """A package whose card was changed."""
    known = {
        m: json.loads((world.folder / m / "model.json").read_text(encoding="utf-8")) for m in ("constant", "program")
    }

    def check(value: tuple[str, Any]) -> None:
        folder = world.copy(value[0])
        (folder / "model.json").write_text(mutate.text_of(value[1]), encoding="utf-8")
        world.put_item("local", world.item)
        world.predict("local", folder)

    return Target(st.one_of([st.tuples(st.just(m), mutate.changed(card)) for m, card in known.items()]), check)


def archives(world: World) -> Target:
    """A package whose weights were changed, with a card that says their checksum."""
    program, weights = (world.folder / "program/model.pt2").read_bytes(), _weights(world.folder / "constant")

    def check(value: tuple[str, bytes]) -> None:
        folder = world.copy(value[0])
        file = next(p for p in folder.iterdir() if p.suffix in (".pt2", ".safetensors"))
        before = sha256(file)
        file.write_bytes(value[1])
        card = (folder / "model.json").read_text(encoding="utf-8")
        (folder / "model.json").write_text(card.replace(before, sha256(file)), encoding="utf-8")
        package.load(folder)

    size = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + size])

    def packed(value: Any) -> bytes:
        head = mutate.text_of(value).encode()
        return len(head).to_bytes(8, "little") + head + weights[8 + size :]

    return Target(
        st.one_of(
            st.tuples(st.just("program"), mutate.archive(program) | mutate.edited(program)),
            st.tuples(st.just("constant"), mutate.changed(header).map(packed) | mutate.edited(weights)),
        ),
        check,
    )


def _weights(folder: Path) -> bytes:
    return next(folder.glob("*.safetensors")).read_bytes()


def locks(world: World) -> Target:
    """A run whose lock somebody else wrote, as any kind of file: looked at, and taken over or not."""
    when = "2024-06-01T12:00:00+00:00"
    good = {"host": "elsewhere", "pid": 4711, "started": when, "renewed": when,
            "token": "t", "machine": "boot/pid:[1]", "born": "99"}  # fmt: skip
    kinds = ("file", "file", "file", "file", "fifo", "folder", "socket", "link", "dangling", "device", "large")

    def check(value: tuple[str, bytes]) -> None:
        kind, body = value
        out = world.out()
        path = out / ".geoml/lock.json"
        path.parent.mkdir(parents=True)
        _make(path, kind, body)
        for action in (lambda: state(out), lambda: _hold(out)):
            try:
                action()
            except GeomlError:
                continue

    body = st.one_of(mutate.changed(good).map(mutate.text_of), mutate.odd().map(mutate.text_of)).map(str.encode)
    return Target(st.tuples(st.sampled_from(kinds), body | st.binary(max_size=200)), check)


def _hold(out: Path) -> None:
    with pipeline.locked(out):
        pass


def _make(path: Path, kind: str, body: bytes) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(path.parent)  # the names of sockets are short
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(path.name)
        finally:
            os.chdir(here)
    elif kind in ("link", "dangling", "device"):
        path.symlink_to({"link": "/etc/hostname", "dangling": "nowhere", "device": "/dev/zero"}[kind])
    elif kind == "large":
        path.write_bytes(body)
        os.truncate(path, 10 * 2**30)  # sparse
    else:
        path.write_bytes(body)


def lists(world: World) -> Target:
    """A list of pictures: CSV, GeoJSON of STAC items; what it names is read where that is allowed."""
    names = ("file", "path", "url", "lon", "lat", "longitude", "latitude", "datetime", "id", "href", "image", "")
    cell = st.one_of(
        st.sampled_from(("a.jpg", "pictures/a.jpg", "../pictures/a.jpg", "b.jpg", "12.5", "12,5", "-91", "1e999")),
        mutate.hrefs(world.served.port, world.served.other),
        st.sampled_from(mutate.TEXTS),
    )
    row = st.lists(cell, max_size=6)
    head = st.lists(st.sampled_from(names) | st.text(max_size=8), min_size=1, max_size=6)
    delimiter = st.sampled_from((",", ";", "\t"))
    item = {**world.item, "assets": {"image": {"href": "./a.jpg", "type": "image/jpeg", "roles": ["data"]}}}
    many = {"type": "FeatureCollection", "features": [item, {**item, "id": "second"}]}

    def check(value: tuple[str, bytes]) -> None:
        path = world.pictures / f"list{value[0]}"
        path.write_bytes(value[1])
        try:
            for n, reference in enumerate(photo_lists.pictures([path])):
                if n == 20:
                    break
                try:
                    photo_lists.load(reference, 8)
                except GeomlError:
                    continue
        finally:
            path.unlink()

    tables = st.builds(_csv, head, st.lists(row, max_size=5), delimiter).map(lambda b: (".csv", b))
    items_ = mutate.changed(many).map(lambda d: (".geojson", mutate.text_of(d).encode()))
    return Target(
        st.one_of(tables, tables.flatmap(lambda t: mutate.edited(t[1]).map(lambda b: (".csv", b))), items_), check
    )


def clouds(world: World) -> Target:
    """A LAS, LAZ or COPC file with changed bytes, or an EPT with a changed document or page."""
    folder = world.folder / "clouds"
    folder.mkdir(exist_ok=True)
    files = {
        "old.laz": las_bytes(made_points(300), "1.2", 1, crs=None),
        "new.laz": las_bytes(made_points(300), point_format=8),
        "flat.las": las_bytes(made_points(300), compressed=False),
    }
    (folder / "whole.laz").write_bytes(files["new.laz"])
    write_copc(folder / "whole.copc.laz", folder / "whole.laz", per_node=50, levels=3, pages=True)
    files["a.copc.laz"] = (folder / "whole.copc.laz").read_bytes()
    document = write_ept(folder / "tiles", made_points(300), per_node=50)
    page = document.parent / "ept-hierarchy" / "0-0-0-0.json"
    texts = {path: path.read_text(encoding="utf-8") for path in (document, page)}

    def check(value: tuple[str | Path, bytes]) -> None:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        path = folder / value[0]
        path.write_bytes(value[1])
        source = open_source(str(document if path in texts else path), "EPSG:32632")
        read_window([source], (499_000, 4_999_000, 501_000, 5_001_000))
        binned([source], folder / "squares")

    edits = [mutate.edited(las).map(lambda b, n=name: (n, b)) for name, las in files.items()]  # type: ignore[misc]
    pages = [
        mutate.changed(json.loads(text)).map(lambda v, p=path: (p, mutate.text_of(v).encode("utf-8", "surrogatepass")))  # type: ignore[misc]
        for path, text in texts.items()
    ]
    return Target(st.one_of(*edits, *pages), check)


def _csv(head: list[str], rows: list[list[str]], delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    for row in (head, *rows):
        writer.writerow([c.replace("\0", "") for c in row])
    return text.getvalue().encode("utf-8", "surrogatepass")


TARGETS: dict[str, Callable[[World], Target]] = {
    "items": items, "cards": cards, "hrefs": hrefs, "archives": archives, "locks": locks, "lists": lists,
    "clouds": clouds,
}  # fmt: skip


def world() -> World:
    return World(Path(tempfile.mkdtemp(prefix="geoml-fuzz-")))
