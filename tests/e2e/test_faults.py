"""What a run survives: a kill at every rename, a full disk, files damaged behind its back, odd names and clocks."""

from __future__ import annotations

import functools
import http.server
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import Result

import geoml
from geoml import testing
from geoml.backends.torch import Device
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages.package import Package, load
from geoml.engine.pixels import Pixels
from geoml.errors import DataError, GeomlError, InputError, ModelError, TransientError
from geoml.grid.plane import Plane, Window
from geoml.io.cog import read as cog
from geoml.io.cog.write import CogWriter
from geoml.io.stac.bands import BandSpec
from tests.serving import serving

ORIGIN = (640 * 960.0, 640 * 11000.0)
"""Corner of a block of 64 pixels of 10 m."""
SCENE = testing.Scene(
    id="scene", data=testing.smooth((2, 64, 150), seed=5, cell=8), bands=("red", "nir"), origin=ORIGIN
)
CHANGING = {"run.json", "report.html"}
"""They tell seconds."""


@pytest.fixture
def recipe(unet: str, catalog: Path) -> dict[str, Any]:
    """Three blocks of 64 x 64 pixels."""
    query = {"catalog": str(catalog), "bbox": list(SCENE.bbox(inner=0.05)), "datetime": ["2024"]}
    return {"model": unet, "query": query, "block_size": 64}


def tree(out: Path) -> dict[str, str]:
    """The checksum of every file of a run but its working state; nothing that has no final name."""
    return {k: v for k, v in testing.tree(out).items() if not k.endswith((".part", "lock.json"))}


def same(first: dict[str, str], second: dict[str, str]) -> bool:
    return first.keys() == second.keys() and {k for k in first if first[k] != second[k]} <= CHANGING


def blocks_in(out: Path) -> dict[str, int]:
    return {p.stem: p.stat().st_mtime_ns for p in (out / "items").glob("*.json")}


@pytest.fixture
def whole(recipe: dict[str, Any], tmp_path: Path) -> dict[str, str]:
    """The files of a run that was left alone."""
    geoml.predict(recipe, tmp_path / "runs" / "whole")
    return tree(tmp_path / "runs" / "whole")


FORKER = """
import faulthandler, json, os, sys, traceback
import distributed, geopandas.tools, PIL.PngImagePlugin, pystac.extensions, torch
torch.set_num_threads(1)
import geoml, geoml.errors, geoml.pipeline, geoml.io.report.page
from geoml.engine.packages.package import load
load(sys.argv[1])
for line in sys.stdin:
    code, args = json.loads(line)
    child = os.fork()  # nothing here has started a thread
    if child == 0:
        faulthandler.dump_traceback_later(240, exit=True)
        status = 99
        try:
            exec(code, {"args": args})
            status = 0
        except geoml.errors.GeomlError as err:
            status = err.exit_code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs lines of Python, each in a process of its own, without the seconds that imports take."""


@pytest.fixture(scope="module")
def forked(unet: str) -> Iterator[Callable[..., int]]:
    """``forked(code, *args)`` runs Python code in a new process with ``args``; its exit code."""
    words, machine = [sys.executable, "-c", FORKER, unet], {"DEVICE": "cpu", "PRECISION": "fp32", "THREADS": "2"}
    env = {**os.environ, **{f"GEOML_{k}": v for k, v in machine.items()}, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(code: str, *args: Any) -> int:
            process.stdin.write(json.dumps([code, args]) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield run


KILLED = """
import os
import geoml
real, left = os.replace, args[0]
def replace(*given, **more):
    global left
    left -= 1
    if left == 0:
        os._exit(86)  # no handler runs, nothing is flushed: what a SIGKILL leaves
    return real(*given, **more)
os.replace = replace
geoml.predict(args[1], args[2])
"""


@pytest.mark.slow
def test_killed_at_every_rename_and_resumed(forked: Callable[..., int], recipe: dict[str, Any], tmp_path: Path) -> None:
    """Whatever has its final name is whole, and the next run ends with the files of a run that was left alone."""
    west, south, east, north = SCENE.bbox(inner=0.05)
    recipe["query"]["bbox"] = [west, south, west + 0.4 * (east - west), north]
    geoml.predict(recipe, tmp_path / "whole")
    whole = tree(tmp_path / "whole")
    for n in range(1, 200):
        out = tmp_path / f"killed-{n}"
        code = forked(KILLED, n, recipe, str(out))
        seen = tree(out)
        if code == 0:
            break
        assert code == 86, f"rename {n}: exit code {code}"
        assert {k for k, v in seen.items() if k not in CHANGING and v != whole[k]} == set(), f"rename {n}: not whole"
        if "run.json" in seen:
            json.loads((out / "run.json").read_text())
        done = blocks_in(out)
        assert forked(KILLED, -1, recipe, str(out)) == 0, f"rename {n}"
        assert same(tree(out), whole), f"rename {n}"
        assert blocks_in(out).items() >= done.items(), f"rename {n}: a block was done twice"
        shutil.rmtree(out)
    assert code == 0
    assert n > len(whole), "every file that has a final name got it by a rename"


FULL = """
import ctypes, errno, json, os, resource, shutil, subprocess
from pathlib import Path
import geoml
from geoml.errors import DataError
recipe, folder, result = args[0], Path(args[1]), Path(args[2])
libc = ctypes.CDLL(None, use_errno=True)
user, mounts = 0x10000000, 0x00020000  # namespaces of unshare(2): nobody else sees the mount
mount = libc.unshare(mounts if os.getuid() == 0 else user | mounts) == 0 and subprocess.run(
    "mount --make-rprivate / && mount -t tmpfs -o size=80m tmpfs " + str(folder), shell=True, check=False
).returncode == 0
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
ballast, seen, said = folder / "ballast", [], None
def fill(block, pixels):
    seen.append(block)
    if len(set(seen)) < 3 or ballast.exists():
        return
    if not mount:
        ballast.touch()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        return
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as err:
            assert err.errno == errno.ENOSPC
try:
    geoml.predict(recipe, folder / "out", progress=fill)
except DataError as err:
    said = str(err)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
shutil.copytree(folder / "out", result / "full")
ballast.unlink()
geoml.predict(recipe, folder / "out")
shutil.copytree(folder / "out", result / "after")
(result / "said.json").write_text(json.dumps([mount, said]))
"""


def test_a_full_disk_in_the_middle(
    forked: Callable[..., int], recipe: dict[str, Any], whole: dict[str, str], tmp_path: Path
) -> None:
    """A real file system without a free byte (a limit on file sizes where mounting is not allowed).

    The run ends with a DataError, what was published stays, nothing is half there, and with space it goes on.
    """
    folder, result = tmp_path / "disk", tmp_path / "result"
    folder.mkdir()
    assert forked(FULL, recipe, str(folder), str(result)) == 0
    _, said = json.loads((result / "said.json").read_text())
    assert "not written" in said
    assert str(folder) in said
    full = tree(result / "full")
    assert not {"run.json", "collection.json"} & full.keys()
    assert {k for k, v in full.items() if v != whole[k]} == set()
    assert not list((result / "full").rglob("*.part"))
    assert 1 <= len(blocks_in(result / "full")) < len(blocks_in(result / "after"))
    assert same(tree(result / "after"), whole)


def hundred(folder: Path) -> list[testing.Scene]:
    """Scenes of one block each (without its edge, which a curved outline would cross), nothing between them."""
    x, y = ORIGIN[0] + 20, ORIGIN[1] - 20
    step = 2 * 640.0
    scenes = [
        testing.Scene(
            id=f"s{k:02}",
            data=testing.smooth((2, 60, 60), seed=k, cell=8),
            bands=("red", "nir"),
            origin=(x + step * (k % 10), y - step * (k // 10)),
        )
        for k in range(100)
    ]
    testing.write_catalog(folder, scenes)
    return scenes


@pytest.mark.slow
def test_one_corrupt_file_among_a_hundred(cli: Callable[..., Result], threshold: str, tmp_path: Path) -> None:
    scenes, out = hundred(tmp_path / "made"), tmp_path / "out"
    bad = tmp_path / "made" / "s42" / "image.tif"
    good = bad.read_bytes()
    bad.write_bytes(good[: len(good) // 2])
    corners = np.array([s.bbox(inner=0.05) for s in scenes])
    box = (*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))
    words = ["predict", "--model", threshold, "--catalog", tmp_path / "made" / "catalog.json", "--bbox", *box]
    words += ["--datetime", "2024", "--out", out, "--block-size", "64"]
    result = cli(*words)
    assert result.exit_code == DataError.exit_code, result.output
    assert "s42" in result.stderr
    assert "1 of 100 blocks failed" in result.stderr
    blocks = json.loads((out / "run.json").read_text())["blocks"]
    (failed,) = blocks["failed"]
    assert "image.tif" in blocks["failed"][failed]
    assert len(blocks["done"]) == len(blocks_in(out)) == 99
    assert {"collection.json", "features.parquet", "items.parquet", "report.html"} <= {p.name for p in out.iterdir()}
    before = blocks_in(out)
    bad.write_bytes(good)
    result = cli(*words)
    assert result.exit_code == 0, result.output
    after = blocks_in(out)
    assert after.keys() - before.keys() == {failed}
    assert {k: after[k] for k in before} == before
    run = json.loads((out / "run.json").read_text())
    assert run["blocks"]["failed"] == {}
    found = testing.read_map(out)[SCENE.crs]
    for scene in scenes[::11]:
        expected = testing.levels(scene.data, (0.20005, 0.40005))
        inner = found.part(scene.window)[0]
        assert (inner == expected)[inner != 255].all()


@pytest.mark.parametrize("harm", ["deleted", "cut short", "folder deleted"])
def test_a_published_file_that_went_away_is_made_again(
    harm: str, recipe: dict[str, Any], whole: dict[str, str], tmp_path: Path
) -> None:
    """The item is still there, but its word is compared with what lies on the disk; other blocks are left alone."""
    out = tmp_path / "runs" / "whole"
    before = blocks_in(out)
    key = sorted(before)[1]
    path = out / "cogs" / key / "class.tif"
    if harm == "deleted":
        path.unlink()
    elif harm == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        shutil.rmtree(path.parent)
    geoml.predict(recipe, out)
    assert same(tree(out), whole)
    after = blocks_in(out)
    assert {k for k in after if after[k] != before[k]} == {key}


def test_damaged_polygons_of_a_block_are_made_again(
    recipe: dict[str, Any], whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "whole"
    path = min((out / ".geoml" / "parts").iterdir())
    path.write_bytes(path.read_bytes()[:-20])
    (out / "run.json").unlink()
    with pytest.raises(DataError, match="the next run does the block again"):
        geoml.predict(recipe, out)
    geoml.predict(recipe, out)
    assert same(tree(out), whole)


FUZZED = (".geoml/plan.json", "run.json", "sources.parquet", "items/*", ".geoml/parts/*", "cogs/*/*")


def test_flipped_bytes_never_crash_a_resumed_run(recipe: dict[str, Any], whole: dict[str, str], tmp_path: Path) -> None:
    """Every file that geoml reads back, with flipped bits or cut short: it works, or a GeomlError says why not."""
    good, out = tmp_path / "runs" / "whole", tmp_path / "runs" / "copy"
    random_, said = random.Random(7), []
    ends, tries = time.monotonic() + 30, 0
    while time.monotonic() < ends and tries < 60:
        tries += 1
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(good, out)
        path = random_.choice(sorted(out.glob(random_.choice(FUZZED))))
        path.write_bytes(flipped(path.read_bytes(), random_))
        if path.name != "run.json" and random_.random() < 0.7:
            (out / "run.json").unlink()  # so that everything is read again
        try:
            geoml.predict(recipe, out)
        except GeomlError as err:
            said.append(str(err))
        except Exception as err:
            raise AssertionError(f"{path.relative_to(out)} with flipped bytes: {err!r}") from err
    assert tries > 5
    assert all(said)


def flipped(content: bytes, random_: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random_.choice((1, 1, 1, 4))):
        changed[random_.randrange(len(changed))] ^= 1 << random_.randrange(8)
    return bytes(changed[: random_.randrange(len(changed))] if random_.random() < 0.15 else changed)


def test_flipped_bytes_of_a_cog_give_an_error_or_the_same_pixels(tmp_path: Path) -> None:
    """Heights of a tile times a power of two: every tile has a checksum that any GDAL checks."""
    original, corner = tmp_path / "whole.tif", SCENE.window
    data = testing.smooth((1, 512, 512), seed=1).astype(np.uint8)
    box = Plane(SCENE.crs, 10.0).geobox(Window(corner.y0, corner.x0, corner.y0 + 512, corner.x0 + 512))
    with CogWriter(original, box, "uint8", nodata=255) as writer:
        writer.write(data)
    good, path, random_ = original.read_bytes(), tmp_path / "flipped.tif", random.Random(3)
    tiles = good.index(b"\x28\xb5\x2f\xfd")  # the first Zstandard frame
    outcomes = {"error": 0, "same": 0}
    for _ in range(150):
        changed = bytearray(good)
        changed[random_.randrange(tiles, len(good))] ^= 1 << random_.randrange(8)
        path.write_bytes(changed)
        spec = BandSpec("item", "image", str(path), "red", remote=False, root=str(tmp_path))
        try:
            values, valid = cog.read([spec], box)
        except DataError:
            outcomes["error"] += 1
            continue
        assert (values == np.where(data == 255, 0, data)).all()
        assert (valid == (data != 255)).all()
        outcomes["same"] += 1  # in an overview, or in the leader of a tile
    assert outcomes["error"] > 50


def test_flipped_bytes_of_a_model_are_found(threshold: str, unet: str, tmp_path: Path) -> None:
    random_ = random.Random(11)
    for name in (unet, threshold):
        for _ in range(25):
            folder = tmp_path / "model"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(name, folder)
            path = random_.choice(sorted(folder.iterdir()))
            path.write_bytes(flipped(path.read_bytes(), random_))
            try:
                load(folder)
            except GeomlError:
                continue
            assert path.name == "model.json", "weights have a checksum"


class Hungry(nn.Module):
    """Asks the allocator of torch for seventy terabytes when it sees more than ``most`` pixels."""

    stride = 1

    def __init__(self, inner: nn.Module, most: int) -> None:
        super().__init__()
        self.inner, self.most, self.seen = inner, most, []

    def forward(self, x: Tensor) -> Tensor:
        pixels = len(x) * x.shape[-2] * x.shape[-1]
        self.seen.append(pixels)
        if pixels > self.most:
            torch.empty(2**46, dtype=torch.uint8)
        return self.inner(x)


def rows_of(package: Package, batch: int, join: str = "auto") -> tuple[np.ndarray, Predictor]:
    """Classes of a made scene of 256 x 640 pixels."""
    predictor = Predictor(package, join=join, device=Device(torch.device("cpu"), bf16=False, batch=batch))
    window = Window(0, 0, 256, 640)
    origin = predictor.needed(window)
    data = testing.smooth((2, *origin.shape), seed=3)
    pixels = Pixels(data, np.ones(origin.shape, np.uint16), (1e-4,) * 2, (0.0,) * 2, origin)
    return np.concatenate([r["class"][0] for r in predictor.rows(pixels, window)]), predictor


@pytest.mark.parametrize("join", ["exact", "blend"])
def test_what_does_not_fit_into_memory_is_halved(join: str, threshold: str, caplog: pytest.LogCaptureFixture) -> None:
    """At first the batch, then (where the answer does not depend on it) the chip; a single small one is an error."""
    plain = load(threshold)
    card = plain.card.model_copy(update={"chip_size": 64, "overlap": 16})
    expected, _ = rows_of(Package(plain.module, card, plain.path), 1, join)
    hungry = Hungry(plain.module, 64)
    package = Package(hungry, card, plain.path)
    with pytest.raises(TransientError, match="not enough memory for a single chip"):
        rows_of(package, 8, join)
    hungry.most, hungry.seen = 3 * 64 * 64, []
    found, predictor = rows_of(package, 8, join)
    assert (found == expected).all()
    backend = predictor.backend
    assert max(backend.side, 64) ** 2 * backend.batch <= 2 * hungry.most
    assert bool(backend.side) == (join == "exact")
    failed = len([n for n in hungry.seen if n > hungry.most])
    assert 1 <= failed <= 8 < len(hungry.seen), "what was halved stays so for the rest of the run"
    assert f"continuing with chips of {backend.side or 64} pixels, {backend.batch} at once" in caplog.text


def test_an_output_that_is_not_finite_ends_the_run(cli: Callable[..., Result], catalog: Path, tmp_path: Path) -> None:
    """Weights that pass every check (finite) but overflow on real numbers."""
    testing.threshold_model(tmp_path / "wild", ("red", "nir"), (0.2, 0.4), steepness=3e38)
    words = ["predict", "--model", tmp_path / "wild", "--catalog", catalog, "--bbox", *SCENE.bbox(inner=0.05)]
    result = cli(*words, "--datetime", "2024", "--out", tmp_path / "out", "--block-size", "64")
    assert result.exit_code == ModelError.exit_code, result.output
    assert "not finite" in result.stderr
    assert not (tmp_path / "out" / "run.json").exists()
    for key in blocks_in(tmp_path / "out"):  # a corner of the region where there is nothing to see
        item = json.loads((tmp_path / "out" / "items" / f"{key}.json").read_text())
        assert item["properties"]["geoml:valid_pixels"] == 0


def test_a_file_that_is_not_on_the_server_fails_its_blocks(
    machine: Callable[..., None], cli: Callable[..., Result], threshold: str, tmp_path: Path
) -> None:
    """404 for one asset of three: named, never tried again, and the others are published."""
    x, y = ORIGIN[0] + 20, ORIGIN[1] - 20
    parts = [
        testing.Scene(
            id=f"s{k}",
            data=testing.smooth((2, 60, 60), seed=k, cell=8),
            bands=("red", "nir"),
            origin=(x + 1280.0 * k, y),
        )
        for k in range(3)
    ]
    catalog = testing.write_catalog(tmp_path / "made", parts)
    asked: list[str] = []
    west, south, _, north = parts[0].bbox()
    with served(catalog.parent.parent, asked, gone="s1/image.tif") as url:
        machine(private_hosts=True, device="cpu", precision="fp32", retries=2)
        words = ["predict", "--model", threshold, "--catalog", f"{url}/made/catalog.json", "--bbox"]
        words += [west, south, parts[2].bbox()[2], north, "--datetime", "2024", "--out", tmp_path / "out"]
        result = cli(*words, "--block-size", "64")
    assert result.exit_code == DataError.exit_code, result.output
    assert "1 of 3 blocks failed" in result.stderr
    assert "s1" in result.stderr
    assert "404" in result.stderr
    assert len(blocks_in(tmp_path / "out")) == 2
    assert len([path for path in asked if "s1/image.tif" in path]) <= 4, "what is not there is not asked for again"


@contextmanager
def served(folder: Path, asked: list[str], gone: str) -> Iterator[str]:
    """A folder over HTTP on a free port, with ranges; ``asked`` collects the paths, ``gone`` is answered with 404."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            path = Path(self.translate_path(self.path))
            if gone in self.path or not path.is_file():
                self.send_error(404)
                return
            content, first, status = path.read_bytes(), 0, 200
            total = len(content)
            if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, status = int(wanted[1]), 206
                content = content[first : int(wanted[2]) + 1 if wanted[2] else None]
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{first + len(content) - 1}/{total}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    handler = functools.partial(Handler, directory=str(folder))
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


LOCALE = """
import locale, os, tempfile
os.environ.update(LOCPATH=args[2], LC_ALL="de_DE.UTF-8", TMPDIR=args[3])
tempfile.tempdir = None
locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
assert locale.localeconv()["decimal_point"] == "," and tempfile.gettempdir() == args[3]
import geoml
geoml.predict(args[0], args[1])
"""


def test_decimal_commas_and_temporary_files_elsewhere(
    forked: Callable[..., int], recipe: dict[str, Any], whole: dict[str, str], tmp_path: Path
) -> None:
    """A German locale and a TMPDIR on another file system, where a rename would not be atomic: the same files."""
    words = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")]
    if not shutil.which("localedef") or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("locales: not installed")
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        elsewhere = tmp_path
    with tempfile.TemporaryDirectory(dir=elsewhere) as temporary:
        assert forked(LOCALE, recipe, str(tmp_path / "runs" / "comma"), str(tmp_path), temporary) == 0
        assert list(Path(temporary).iterdir()) == []
    assert same(tree(tmp_path / "runs" / "comma"), whole)


def test_names_that_are_not_ascii_and_names_that_are_not_text(
    recipe: dict[str, Any], whole: dict[str, str], catalog: Path, unet: str, tmp_path: Path
) -> None:
    folder = tmp_path / "Wälder 森 #1 % 'x'"
    shutil.copytree(catalog.parent, folder / catalog.parent.name)
    shutil.copytree(unet, folder / "modèle")
    query = {**recipe["query"], "catalog": str(folder / catalog.parent.name / "catalog.json")}
    geoml.predict({**recipe, "query": query, "model": str(folder / "modèle")}, folder / "out")
    found, cogs = tree(folder / "out"), {k for k in whole if k.startswith("cogs/")}
    assert {k: found[k] for k in cogs} == {k: whole[k] for k in cogs}
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    shutil.copytree(catalog.parent, odd / "made")
    shutil.copytree(unet, odd / "unet")
    query["catalog"] = str(odd / "made" / "catalog.json")
    for given, out, field in (
        (recipe, odd / "out", "out"),
        ({**recipe, "query": query}, tmp_path / "out", "recipe"),
        ({**recipe, "model": str(odd / "unet")}, tmp_path / "out", "recipe"),
    ):
        with pytest.raises(InputError, match=rf"{field}: .*caf.*not UTF-8"):
            geoml.predict(given, out)
        assert not out.exists()


@pytest.mark.parametrize("year", [1980, 2090])
def test_clocks_that_are_wrong_change_nothing(
    year: int, recipe: dict[str, Any], whole: dict[str, str], tmp_path: Path
) -> None:
    """Half of a run from a machine whose clock was decades off: what is done stays, the rest is added."""
    out = tmp_path / "runs" / "whole"
    lost = sorted(blocks_in(out))[0]
    (out / "items" / f"{lost}.json").unlink()
    (out / "run.json").unlink()
    when = (year - 1970) * 365.25 * 86400
    for path in sorted(out.rglob("*"), reverse=True):
        os.utime(path, (when, when))
    before = blocks_in(out)
    geoml.predict(recipe, out)
    assert same(tree(out), whole)
    assert blocks_in(out).items() >= before.items()
