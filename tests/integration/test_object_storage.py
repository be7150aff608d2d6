"""Runs whose inputs and outputs lie in a bucket, on a real S3 server: the same files, nothing lost, no one twice."""

from __future__ import annotations

import importlib.util
import itertools
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

import geoml
from geoml import pipeline, testing
from geoml.cli import app
from geoml.engine.packages import cards
from geoml.engine.run.blocks import run_blocks
from geoml.engine.run.state import state
from geoml.errors import DataError, InputError, TransientError
from geoml.io.stac.search import read_items, search
from geoml.io.stores import bucket as buckets
from geoml.io.stores import ranges
from geoml.io.stores.bucket import Bucket
from geoml.io.stores.remote import run_store
from geoml.io.tables.regions import load_region
from geoml.io.webmap.server import app as view
from geoml.io.webmap.tiles import RunTiles
from geoml.recipe import Query
from geoml.settings import settings

pytestmark = pytest.mark.integration

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 400, 500), seed=5), bands=("red", "nir"))
THRESHOLDS = (0.20005, 0.40005)
CHANGING = {"run.json", "report.html"}
"""They tell seconds."""
LOCK = ".geoml/lock.json"
numbers = itertools.count()


@pytest.fixture(autouse=True)
def env(s3: Any, machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    ranges._bucket.cache_clear()  # it keeps the endpoint of the first run
    machine(precision="fp32", device="cpu", threads=2, scratch=tmp_path / "scratch", retries=1, timeout=10)


@pytest.fixture(scope="module")
def inputs(s3: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A catalog with its COGs, a model and a region in the bucket; the URL of their folder."""
    folder = tmp_path_factory.mktemp("inputs")
    testing.write_catalog(folder / "made", [SCENE])
    testing.threshold_model(folder / "model", ("red", "nir"), THRESHOLDS)
    west, south, east, north = SCENE.bbox()
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    (folder / "region.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    s3.upload({f"in/{p.relative_to(folder)}": p for p in folder.rglob("*") if p.is_file()})
    return f"s3://{s3.bucket}/in"


@pytest.fixture
def url(s3: Any) -> str:
    return f"s3://{s3.bucket}/runs/{next(numbers)}"


def recipe(inputs: str, **changes: Any) -> dict[str, Any]:
    query = {"catalog": f"{inputs}/made/catalog.json", "bbox": SCENE.bbox(), "datetime": ["2024"]}
    return {"model": f"{inputs}/model", "query": query, "block_size": 128, **changes}


def objects(url: str) -> dict[str, bytes]:
    where = Bucket(url)
    return {name: where.get(name, 2**30)[0] for name in where.list()}  # type: ignore[index]


def files(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def stamps(url: str) -> dict[str, Any]:
    import obstore

    store = Bucket(url)._store
    return {m["path"]: (m["e_tag"], m["last_modified"]) for page in obstore.list(store) for m in page}


def assert_same(found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    assert found.keys() == wanted.keys()
    assert {k for k in wanted if found[k] != wanted[k]} <= CHANGING


def empty_scratch() -> None:
    shutil.rmtree(settings().scratch or "/nowhere")


def start(recipe: dict[str, Any], out: str, **env: str) -> subprocess.Popen[str]:
    """A process that is ready, and predicts as soon as it is told to."""
    program = (
        "import json, sys\n"
        "import geoml, geoml.pipeline, geoml.engine.workers.drive\n"
        "recipe, out = json.loads(sys.argv[1]), sys.argv[2]\n"
        "print('ready', flush=True); input()\n"
        "try:\n    geoml.predict(recipe, out)\n"
        "except geoml.GeomlError as err:\n    print(err, file=sys.stderr); sys.exit(err.exit_code)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(recipe), out],
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return process


def go(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.fixture(scope="module")
def whole(inputs: str, s3: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run of the same recipe on this machine's disk."""
    folder = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.env.items():
            patch.setenv(name, value)
        for name, value in {"SCRATCH": str(folder / "scratch"), "PRECISION": "fp32", "DEVICE": "cpu"}.items():
            patch.setenv(f"GEOML_{name}", value)
        settings.cache_clear()
        geoml.predict(recipe(inputs), folder / "out")
    settings.cache_clear()
    return files(folder / "out")


def test_a_run_in_a_bucket_has_the_same_bytes(
    inputs: str, url: str, whole: dict[str, bytes], s3: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "stac_geoparquet")  # its own message does not fit its arguments
    west, south, east, north = map(repr, SCENE.bbox())
    words = ["predict", "--model", f"{inputs}/model", "--catalog", f"{inputs}/made/catalog.json"]
    words += ["--bbox", west, south, east, north, "--datetime", "2024", "--out", url, "--block-size", "128"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "features.parquet" in result.output
    assert "0.00 MB │ COGs" not in result.output
    found = objects(url)
    assert_same(found, whole)
    secret = s3.env["AWS_SECRET_ACCESS_KEY"]
    assert not [name for name, body in found.items() if secret.encode() in body]
    assert secret not in result.output + caplog.text
    scratch = settings().scratch or tmp_path
    kept = {p for p in scratch.rglob("*") if p.is_file()}
    assert not [p for p in kept if secret.encode() in p.read_bytes()]
    assert not [p for p in kept if p.suffix == ".tif"], "COGs of a finished run go"
    before = stamps(url)
    assert CliRunner().invoke(app, words).exit_code == 0
    empty_scratch()
    assert CliRunner().invoke(app, words).exit_code == 0
    assert stamps(url) == before, "a finished run changes nothing, also from another machine"
    now = state(url)
    assert (now.status, now.done) == ("finished", now.planned)


@pytest.mark.slow
def test_killed_and_resumed_from_an_empty_scratch(inputs: str, url: str, whole: dict[str, bytes]) -> None:
    process = start(recipe(inputs), url)
    go(process)
    where, ends = Bucket(url), time.monotonic() + 120
    while len(where.list("items/")) < 3:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < ends
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert LOCK in where.list(), "a killed holder leaves its lock"
    before = stamps(url)
    done = {name for name in before if name.startswith("items/")}
    assert "run.json" not in before
    empty_scratch()
    begun, asked = time.monotonic(), []
    pipeline.predict(recipe(inputs), url, started=lambda _plan, left: asked.extend(left))
    assert time.monotonic() - begun < settings().lease, "nobody waits for a process that is known to be dead"
    assert {f"items/{key}.json" for key in asked}.isdisjoint(done)
    after = stamps(url)
    assert {k: after[k] for k in done} == {k: before[k] for k in done}
    assert_same(objects(url), whole)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_two_drivers_at_once(place: str, inputs: str, url: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    out = url if place == "bucket" else str(tmp_path / "out")
    both = [start(recipe(inputs), out, GEOML_SCRATCH=str(tmp_path / f"scratch{k}")) for k in range(2)]
    go(*both)
    told = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(p.returncode for p in both) == [0, TransientError.exit_code], told
    winner = next(p for p in both if p.returncode == 0)
    assert f"is being worked on by pid {winner.pid} on" in next(
        t for t, p in zip(told, both, strict=True) if p is not winner
    )
    assert_same(objects(url) if place == "bucket" else files(Path(out)), whole)


def test_a_lock_object_that_says_anything(url: str, machine: Callable[..., None]) -> None:
    """One of a clock that is ahead is watched, one that is none is taken over, and looking at it raises nothing."""
    machine(lease=0.2)
    old = "2020-01-01T00:00:00+00:00"
    now = {"host": "other", "started": old, "token": "t", "machine": "x", "born": "1"}
    odd = [
        ("9000-01-01T00:00:00+00:00", "1"),
        ("no time", "1"),
        (7, "1"),
        *((old, p) for p in ("1e400", "NaN", "-1", "[]")),
    ]
    for renewed, pid in odd:
        body = json.dumps({**now, "renewed": renewed})[:-1] + f', "pid": {pid}}}'
        assert Bucket(url).put(LOCK, body.encode(), None)
        found = run_store(url).holder()
        assert found is None or not found.alive
        with run_store(url).lock() as me:
            found = run_store(url).holder()
            assert found is not None
            assert found.token == me.token
        assert run_store(url).holder() is None


def test_workers_elsewhere_need_the_url_alone(
    inputs: str, url: str, whole: dict[str, bytes], machine: Any, tmp_path: Path
) -> None:
    """Three machines, each with a scratch folder of its own: one plans, two work, the first one collects."""
    with pipeline.locked(url) as store:
        made = pipeline.plan(geoml.recipe.PredictRecipe.model_validate(recipe(inputs)), url)
        ids = pipeline.todo(url)
        assert len(ids) == len(made.blocks)
        for k, part in enumerate([ids[::2], ids[1::2]]):
            machine(scratch=tmp_path / f"worker{k}")
            tally = run_blocks(url, part)
            assert sorted(tally.done) == sorted(part)
        machine(scratch=tmp_path / "scratch")
        assert pipeline.todo(url) == []
        assert not list(store.local.glob("cogs/*/*"))
        run = pipeline.collect(url, [tally])
        assert run["blocks"]["done"] == ids
        assert not list(store.local.glob("cogs/*/*.tif")), "COGs that came for the report go again"
    assert_same(objects(url), whole)


def damaged_pixels(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + np.random.default_rng(0).bytes(4000) + body[middle + 4000 :]


def test_a_failed_block_is_noted_in_the_bucket_and_done_later(inputs: str, url: str, s3: Any) -> None:
    good = bytes(s3.store.get("in/made/scene/image.tif").bytes())
    words = recipe(inputs, block_size=512)
    s3.store.put("in/made/scene/image.tif", damaged_pixels(good))
    try:
        with pytest.raises(DataError, match="blocks failed"):
            geoml.predict(words, url)
        failed = {n for n in Bucket(url).list() if n.startswith(".geoml/failed/")}
        assert failed
        assert state(url).failed
        empty_scratch()
        with pytest.raises(DataError, match="scene"):
            pipeline.collect(url, [])
    finally:
        s3.store.put("in/made/scene/image.tif", good)
    geoml.predict(words, url)
    assert not [n for n in Bucket(url).list() if n.startswith(".geoml/failed/")]


# ---- puts


@pytest.fixture
def proxy(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    path = Path(__file__).with_name("cutting_proxy.py")  # it is not a package
    spec = importlib.util.spec_from_file_location("cutting_proxy", path)
    assert spec
    assert spec.loader
    module = sys.modules["cutting_proxy"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.cutting_proxy(s3.url) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        yield made


@pytest.mark.slow
@pytest.mark.parametrize(("harm", "what"), [("cut", "/class.tif"), ("503", "/items/")])
def test_a_put_that_fails_leaves_nothing_and_the_run_goes_on_later(
    harm: str,
    what: str,
    inputs: str,
    url: str,
    whole: dict[str, bytes],
    proxy: Any,
    s3: Any,
) -> None:
    """Fault 35: a file of the second block never comes through, however often it is tried.

    When it is the item, all else of the block is published, and the item lies in the working copy: not done.
    """
    victims: list[str] = []

    def cut(method: str, path: str) -> bool:
        if method == "PUT" and "/runs/" in path and what in path and len(victims) < 2:
            victims.append(path) if path not in victims else None
        return method == "PUT" and path == victims[-1] if len(victims) == 2 else False

    proxy.cut, proxy.status = cut, 503 if harm == "503" else None
    with pytest.raises(TransientError, match=what) as told:
        geoml.predict(recipe(inputs), url)
    assert s3.env["AWS_SECRET_ACCESS_KEY"] not in str(told.value)
    assert sum(was_cut for *_, was_cut in proxy.seen) == 1 + settings().retries, "it was tried again"
    proxy.cut = lambda *_: False
    key = victims[-1].partition(f"/{s3.bucket}/")[2]
    left = Bucket(f"s3://{s3.bucket}").list(url.partition(f"{s3.bucket}/")[2])
    assert key not in left
    block = Path(key).stem if what == "/items/" else key.split("/")[-2]
    assert not [k for k in left if k.endswith(f"items/{block}.json")], "no item names what is not there"
    assert not [k for k in left if k.endswith(LOCK)], "the run was left in order"
    asked: list[str] = []
    pipeline.predict(recipe(inputs), url, started=lambda _plan, todo: asked.extend(todo))
    assert block in asked
    assert len(asked) < len([k for k in whole if k.startswith("items/")]), "the first block is done"
    assert_same(objects(url), whole)


def test_a_multipart_upload_that_fails_is_given_up(
    url: str, proxy: Any, s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(buckets, "PIECE", 10 * 2**20)
    path = tmp_path / "large.bin"
    path.write_bytes(np.random.default_rng(0).bytes(13 * 2**20))
    where = Bucket(url)
    proxy.cut = lambda method, path: method == "PUT" and "partNumber=2" in path
    with pytest.raises(TransientError):
        where.upload(path, "large.bin")
    assert where.list() == {}
    assert [m for m, p, _ in proxy.seen if m == "DELETE" and "uploadId" in p], "its parts cost nothing"
    proxy.cut = lambda *_: False
    where.upload(path, "large.bin")
    assert len([1 for m, p, _ in proxy.seen if m == "PUT" and "partNumber" in p]) >= 3
    found = where.download("large.bin", tmp_path / "back.bin", 2**30)  # in pieces, each under If-Match
    assert found is not None
    assert (tmp_path / "back.bin").read_bytes() == path.read_bytes()


def test_of_concurrent_creates_one_wins(url: str) -> None:
    places = [Bucket(url) for _ in range(8)]
    gate = threading.Barrier(len(places))

    def create(k: int) -> Any:
        gate.wait()
        return places[k].put("one.json", f"{k}".encode(), None)

    with ThreadPoolExecutor(len(places)) as pool:
        told = list(pool.map(create, range(len(places))))
    winners = [k for k, found in enumerate(told) if found is not None]
    assert len(winners) == 1
    body, now = places[0].get("one.json", 100) or (b"", None)
    assert body == f"{winners[0]}".encode()
    new = places[0].put("one.json", b"next", now)
    assert new is not None
    assert places[1].put("one.json", b"late", now) is None, "it has changed meanwhile"
    assert (places[1].get("one.json", 100) or [b""])[0] == b"next"


# ---- inputs


def test_a_run_in_a_bucket_is_a_catalog(inputs: str, url: str) -> None:
    """Its own items, by collection.json and by items.parquet, with hrefs that can be read; and its sources."""
    run = geoml.predict(recipe(inputs, features=False), url)
    classes = run.classes  # by GDAL, which is told of the server that obstore knows
    col, row = (round(v) for v in ~classes.odc.geobox.affine @ SCENE.origin)
    assert (classes[row : row + 400, col : col + 500].values == testing.levels(SCENE.data, THRESHOLDS)).all()
    region = load_region(f"{inputs}/region.geojson")
    found = {}
    for name in ("collection.json", "items.parquet", "sources.parquet"):
        catalog = geoml.io.stac.search.open_catalog(f"{url}/{name}")
        query = Query(catalog=f"{url}/{name}", datetime=("2024",), region=f"{inputs}/region.geojson")
        found[name] = search(catalog, query, region, "2024")
    maps = [{i.id: i.assets["class"].href for i in found[k]} for k in ("collection.json", "items.parquet")]
    assert maps[0] == maps[1]
    assert all(href == f"{url}/cogs/{key}/class.tif" for key, href in maps[0].items())
    assert [i.assets["image"].href for i in found["sources.parquet"]] == [f"{inputs}/made/scene/image.tif"]
    assert read_items(run_store(url).local / "sources.parquet")[0].get_self_href() == f"{inputs}/made/scene/item.json"


def test_a_run_in_a_bucket_is_viewed_and_loses_what_is_asked_for_no_more(inputs: str, url: str) -> None:
    geoml.predict(recipe(inputs, features_format=["parquet", "gpkg"]), url)
    store = run_store(url)
    assert {"features.gpkg", "map.html"} <= store.sizes().keys()
    client = TestClient(view(RunTiles.of(store)), base_url="http://127.0.0.1")
    to_degrees = pyproj.Transformer.from_crs(SCENE.crs, "OGC:CRS84", always_xy=True)
    lon, lat = to_degrees.transform(SCENE.origin[0] + 10 * 200.5, SCENE.origin[1] - 10 * 100.5)
    truth = testing.levels(SCENE.data, THRESHOLDS)[100, 200]
    assert client.get("/point", params={"lon": lon, "lat": lat}).json()["class"] == truth
    x, y = (lon + 180) / 360, (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2
    tile = client.get(f"/tiles/class/14/{int(x * 2**14)}/{int(y * 2**14)}.png")
    assert (tile.status_code, tile.content[:4]) == (200, b"\x89PNG")
    assert "<h1>" in client.get("/map.html").text
    store.remove(next(name for name in store.sizes() if name.endswith("/class.tif")))  # so there is something to do
    geoml.predict(recipe(inputs, map=False), url)
    left = run_store(url).sizes().keys()
    assert "map.html" not in left
    assert {"features.parquet", "features.gpkg"} <= left


def test_what_is_not_there_or_not_allowed(
    inputs: str, url: str, s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("in/nothing", "in/made"):
        with pytest.raises(InputError, match=rf"model: s3://{s3.bucket}/{name}/model\.json: not found"):
            geoml.predict(recipe(inputs, model=f"s3://{s3.bucket}/{name}"), tmp_path / "out")
    query = {**recipe(inputs)["query"], "catalog": f"{inputs}/made/nothing.json"}
    with pytest.raises(InputError, match=r"catalog: .*not found"):
        geoml.predict(recipe(inputs, query=query), tmp_path / "out")
    with pytest.raises(InputError, match=r"region: .*not found"):
        load_region(f"{inputs}/nothing.geojson")
    Bucket(url).put("letter.txt", b"mine", None)
    with pytest.raises(InputError, match="other files"):
        geoml.predict(recipe(inputs), url)
    assert objects(url) == {"letter.txt": b"mine"}
    geoml.predict(recipe(inputs), f"{url}-b")
    with pytest.raises(InputError, match="a different recipe"):
        geoml.predict(recipe(inputs, tta=True), f"{url}-b")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    for wrong in (lambda: geoml.predict(recipe(inputs), f"{url}-c"), lambda: cards.read_any(f"{inputs}/model")):
        with pytest.raises(InputError, match="access refused") as told:
            wrong()
        assert "a-wrong-secret" not in str(told.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(TransientError, match="after 1 retries"):
        run_store(url).sizes()
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(InputError, match="AWS_ALLOW_HTTP"):
        run_store(url).sizes()
