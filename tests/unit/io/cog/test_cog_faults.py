"""Files that are broken or hostile, and servers that fail: a typed error that names the item, or the right pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile

from geoml.errors import DataError, InputError, TransientError
from geoml.io.cog import read as cog
from geoml.io.stac.bands import BandSpec
from geoml.settings import settings
from tests.serving import serving

GRID = GeoBox((256, 256), Affine(10, 0, 500_640, 0, -10, 4_999_360), "EPSG:32632")


def tiff(data: np.ndarray, **options) -> bytes:
    """The bytes of a COG with 128-pixel tiles."""
    profile = {"driver": "COG", "blocksize": 128, "compress": "deflate", "crs": "EPSG:32632"}
    profile |= {"transform": Affine(10, 0, 500_000, 0, -10, 5_000_000), **options}
    profile |= {"count": data.shape[0], "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype}
    with MemoryFile() as memory:
        with memory.open(**{k: v for k, v in profile.items() if v is not None}) as file:
            file.write(data)
        return bytes(memory.getbuffer())


DATA = np.random.default_rng(3).integers(1, 9000, (2, 640, 640), dtype=np.uint16)
GOOD = tiff(DATA)


def local(path: Path, content: bytes) -> BandSpec:
    path.write_bytes(content)
    return BandSpec("S2X", "B04", str(path), "red", remote=False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>login</html>", "not a TIFF, it starts with b'<!DOCTYPE"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a TIFF"),
        (b"", "not a TIFF, it starts with b''"),
        (GOOD[: len(GOOD) // 2], "item S2X, asset B04"),
        (GOOD[:600], "item S2X, asset B04"),
        (tiff(DATA, crs=None), "no georeference"),
        (tiff(DATA.astype(np.complex64), resampling="nearest"), "complex"),
    ],
    ids=["html", "lfs", "empty", "cut", "header only", "no crs", "complex"],
)
def test_unusable_files_are_named(tmp_path, content, words) -> None:
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        cog.read([local(tmp_path / "a.tif", content)], GRID)
    assert "window 256 x 256" in str(caught.value)
    assert "EPSG:32632" in str(caught.value)


def test_a_vrt_named_tif_reads_nothing(tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:x:0:0" * 100)
    vrt = f"""<VRTDataset rasterXSize="10" rasterYSize="10"><SRS>EPSG:32632</SRS>
      <GeoTransform>500640, 10, 0, 4999360, 0, -10</GeoTransform>
      <VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">
      <SourceFilename relativetoVRT="0">{secret}</SourceFilename>
      <ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>10</LineOffset></VRTRasterBand></VRTDataset>"""
    with pytest.raises(DataError, match="not a TIFF"):
        cog.read([local(tmp_path / "a.tif", vrt.encode())], GRID)


def test_hrefs_that_are_not_allowed(tmp_path) -> None:
    local(tmp_path / "a.tif", GOOD)
    for href in (str(tmp_path / "a.tif"), "/vsicurl/http://127.0.0.1/a.tif", "http://127.0.0.1:9/a.tif"):
        with pytest.raises(InputError, match="href"):
            cog.read([BandSpec("S2X", "B04", href, "red")], GRID)


def test_sizes_are_refused_before_pixels(tmp_path, monkeypatch) -> None:
    bomb = tmp_path / "bomb.tif"
    layout = {"tiled": True, "blockxsize": 8192, "blockysize": 8192, "compress": "deflate", "sparse_ok": True}
    with rasterio.open(bomb, "w", "GTiff", 8192, 8192, 2, "EPSG:32632", GRID.affine, "uint16", **layout) as file:
        assert file.count == 2
    with pytest.raises(DataError, match="one tile of it decodes to 268435456 bytes"):
        cog.read([BandSpec("S2X", "B04", str(bomb), "red", remote=False)], GRID)
    monkeypatch.setenv("GEOML_MAX_TABLE_BYTES", "100")
    settings.cache_clear()
    with pytest.raises(DataError, match="640 x 640 x 2 in tiles of 128 x 128"):
        cog.read([local(tmp_path / "a.tif", GOOD)], GRID)


def test_a_band_that_is_not_there(tmp_path) -> None:
    path = tmp_path / "a.tif"
    local(path, GOOD)
    for index in (0, 3):
        with pytest.raises(DataError, match=f"band {index} of 'red'.*the file has 2"):
            cog.read([BandSpec("S2X", "B04", str(path), "red", index=index, remote=False)], GRID)


def test_a_tile_of_zeros_is_not_quiet(tmp_path) -> None:
    spec = local(tmp_path / "a.tif", GOOD)
    with rasterio.open(spec.href) as file:
        start, size = (int(file.get_tag_item(f"BLOCK_{key}_1_1", "TIFF", bidx=1)) for key in ("OFFSET", "SIZE"))
    broken = GOOD[:start] + bytes(size) + GOOD[start + size :]
    with pytest.raises(DataError, match="item S2X, asset B04"):
        cog.read([local(tmp_path / "a.tif", broken)], GRID)


# --- servers ---------------------------------------------------------------------------------------------------------


class Site:
    """A range server that follows a script: the fate of each request in turn, then always ``last``."""

    def __init__(self, content: bytes) -> None:
        self.content, self.script, self.last = content, [], "ok"
        self.sent: list[tuple[int, int]] = []
        self.queries: list[str] = []

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        fate = self.script.pop(0) if self.script else self.last
        self.queries.append(request.path)
        if fate.isdigit():
            request.send_response(int(fate))
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body, asked = self.content, re.match(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if fate == "html":
            body, asked = b"<html>please log in</html>" * 9, None
        request.send_response(206 if asked else 200)
        if asked:
            start, stop = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1) + 1
            request.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}")
            self.sent.append((start, stop))
            body = body[start:stop]
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body[: len(body) // 2] if fate == "cut" else body)
            request.close_connection = fate == "cut"


@contextmanager
def served(site: Site) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.handle(self)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            """Quiet."""

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        server.handle_error = lambda *args: None  # clients that hang up are part of the game
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    """A site with the good file; every test reads it under a name of its own, since GDAL remembers names."""
    monkeypatch.setenv("GEOML_PRIVATE_HOSTS", "true")
    monkeypatch.setenv("GEOML_RETRIES", "3")
    monkeypatch.setenv("GEOML_TIMEOUT", "5")
    monkeypatch.setattr("geoml.io.cog.source.time.sleep", lambda seconds: None)
    found = Site(GOOD)
    with served(found) as base:
        found.base = base
        yield found


def remote(site: Site, name: str) -> list[BandSpec]:
    href = f"{site.base}/{name}.tif?sig=secret"
    return [BandSpec("S2X", "B04", href, f"b{i}", index=i) for i in (1, 2)]


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("fine", []),
        ("busy-at-open", ["503"] * 3),
        ("busy-at-data", ["ok", "ok", *["503"] * 3]),
        ("too-many", ["429"] * 3),
        ("cut-short", ["ok", "ok", "cut"]),
    ],
)
def test_a_server_that_recovers(site, name, script) -> None:
    site.script = script
    values, valid = cog.read(remote(site, name), GRID)
    np.testing.assert_array_equal(values, DATA[:, 64:320, 64:320])
    assert valid.all()


@pytest.mark.parametrize(
    ("name", "fate", "error", "words"),
    [
        ("busy", "503", TransientError, "503"),
        ("gone", "404", DataError, "HTTP 404"),
        ("denied", "403", DataError, "HTTP 403"),
        ("login", "html", DataError, "not a TIFF, it starts with b'<html>please"),
    ],
)
def test_a_server_that_never_answers_well(site, name, fate, error, words) -> None:
    site.last = fate
    with pytest.raises(error, match=words) as caught:
        cog.read(remote(site, name), GRID)
    assert "S2X" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(site.queries) < 20


def test_bodies_that_are_always_cut(site, caplog) -> None:
    caplog.set_level("DEBUG")
    site.script = ["ok", "ok"]
    site.last = "cut"
    with pytest.raises((DataError, TransientError), match="S2X") as caught:
        cog.read(remote(site, "cut"), GRID)
    assert "secret" not in str(caught.value)
    said = [r.getMessage() for r in caplog.records]
    assert any("cut.tif" in text for text in said)
    assert not any("secret" in text for text in said)


def test_each_byte_of_a_block_is_fetched_once(site) -> None:
    big = np.random.default_rng(5).integers(0, 65535, (4, 1100, 1000), dtype=np.uint16)
    site.content = tiff(big, interleave="pixel")
    specs = [BandSpec("S2X", "all", f"{site.base}/once.tif", f"b{i}", index=i) for i in (1, 2, 3, 4)]
    target = GeoBox((700, 800), Affine(10, 0, 500_330, 0, -10, 4_999_110), "EPSG:32632")  # cuts through tiles
    values, _ = cog.read(specs, target)
    np.testing.assert_array_equal(values, big[:, 89:789, 33:833])
    wanted = 7 * 7 * 128 * 128 * 8  # tiles touched; noise does not compress
    overlap = sum(max(0, a[1] - b[0]) for a, b in zip(sorted(site.sent), sorted(site.sent)[1:], strict=False))
    assert sum(stop - start for start, stop in site.sent) < 1.15 * wanted
    assert overlap < 0.02 * wanted
