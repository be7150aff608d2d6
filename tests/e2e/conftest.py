"""Models that are made once, and short ways to run geoml on made scenes."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import shapely
import torch
from typer.testing import CliRunner, Result

import geoml
from geoml import pipeline, testing
from geoml.cli import app
from geoml.engine.run.blocks import _loaded
from geoml.io.stac.search import write_items
from geoml.io.stores import signed
from geoml.settings import settings
from tests.e2e.learnt_rectangles import training
from tests.serving import serving

BANDS = ("red", "nir")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Two threads of torch on two busy cores are slower than one."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _full_precision(machine: Callable[..., None]) -> None:
    """Truth is compared digit by digit, and models are made ready under the settings of this test."""
    machine(precision="fp32", device="cpu", threads=2)
    _loaded.cache_clear()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def catalog(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalog ``made`` of the module's ``SCENE``."""
    return testing.write_catalog(tmp_path_factory.mktemp("scene") / "made", [request.module.SCENE])


@pytest.fixture(scope="session")
def constant(models: Path) -> str:
    """Class 1 of 3 everywhere, whatever it sees."""
    testing.constant_model(models / "constant", BANDS, ("land", "water", "ice"), answer=1)
    return str(models / "constant")


THRESHOLDS = (0.20005, 0.40005)
"""Between two numbers that a uint16 of scale 0.0001 can hold."""


@pytest.fixture(scope="session")
def threshold(models: Path) -> str:
    """The number of `THRESHOLDS` below red."""
    testing.threshold_model(models / "threshold", BANDS, THRESHOLDS)
    return str(models / "threshold")


@pytest.fixture(scope="session")
def unet(models: Path) -> str:
    """A U-Net trained for seconds; a chip must hold its receptive field of some sixty pixels on each side."""
    testing.small_unet(models / "unet", BANDS, ("low", "middle", "high"))
    return str(models / "unet")


@pytest.fixture
def predict(tmp_path: Path) -> Callable[..., Path]:
    """``predict(model, catalog, bbox, name="out", **recipe)`` runs a recipe and gives its folder."""

    def run(model: str, catalog: Path | str, bbox: Sequence[float], name: str = "out", **recipe: Any) -> Path:
        query = {"catalog": str(catalog), "bbox": list(bbox), "datetime": ["2020/2026"], **recipe.pop("query", {})}
        geoml.predict({"model": model, "query": query, "block_size": 512, **recipe}, tmp_path / name)
        return tmp_path / name

    return run


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that was trained by the common loop, on digital numbers."""
    root = tmp_path_factory.mktemp("detector")
    settings.cache_clear()
    return geoml.train(training(root), root / "model")


@pytest.fixture
def cli() -> Callable[..., Result]:
    """``cli("predict", "--model", …)`` runs a command in this process."""

    def run(*words: Any) -> Result:
        return CliRunner().invoke(app, [str(w) for w in words])

    return run


SIGNED = testing.Scene(id="scene", data=testing.smooth((2, 64, 128), seed=5), bands=("red", "nir"))


class Days:
    """A server: ``signature`` is that of today, without which nothing below /signed/ is given."""

    signature = "S3CRETofMONDAY"
    url = ""
    folder = Path()

    def query(self, **more: Any) -> dict[str, Any]:
        """What to search, by signed URLs of today."""
        catalog, region = (f"{self.url}/signed/{n}?sig={self.signature}" for n in ("items.parquet", "r.geojson"))
        return {"catalog": catalog, "region": region, "datetime": ["2024"], **more}

    def recipe(self, **more: Any) -> dict[str, Any]:
        model = f"{self.url}/signed/model?sig={self.signature}"
        return {"model": model, "query": self.query(**more), "block_size": 64, "features": False}


@pytest.fixture
def days(tmp_path: Path, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Days]:
    machine(private_hosts=True, scratch=tmp_path / "scratch", retries=0)
    found, given = Days(), tmp_path / "given"
    monkeypatch.setattr(signed, "_remembered", {})
    testing.threshold_model(given / "signed" / "model", SIGNED.bands, (0.2, 0.4))
    testing.write_catalog(given / "made", [SIGNED])
    region = shapely.box(*SIGNED.bbox(inner=0.1))
    (given / "signed" / "r.geojson").write_text(json.dumps(shapely.geometry.mapping(region)))

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = Path(self.translate_path(self.path))
            if "/signed/" in self.path and not self.path.endswith(f"?sig={found.signature}"):
                self.send_error(403)
                return
            if not path.is_file():
                self.send_error(404)
                return
            content, head = path.read_bytes(), {}
            if part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, last = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
                head = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
                content = content[first : last + 1]
            self.send_response(206 if head else 200)
            for name, value in {**head, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    handler = functools.partial(Handler, directory=str(given))
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        found.url, found.folder = f"http://127.0.0.1:{server.server_port}", given
        query = {"catalog": f"{found.url}/made/catalog.json", "bbox": SIGNED.bbox(), "datetime": ["2024"]}
        write_items(pipeline.search(query), given / "signed" / "items.parquet")
        yield found


@pytest.fixture
def kill() -> Callable[..., None]:
    """``kill(words, out)`` runs a command in another process and kills it when three blocks of ``out`` are done."""

    def run(words: Sequence[Any], out: Path, **environment: str) -> None:
        program = [sys.executable, "-c", "from geoml.cli import app; app()", *map(str, words)]
        process = subprocess.Popen(program, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})
        items, ends = out / "items", time.monotonic() + 300
        while len(list(items.glob("*.json")) if items.is_dir() else []) < 3:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < ends
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()

    return run
