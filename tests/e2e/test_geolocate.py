"""``geoml geolocate`` and its subcommands, as typed: rows for good and bad pictures, exit codes, a map, an index."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image
from typer.testing import Result

from geoml.cli.demos.geolocate import answers_and_truth
from geoml.testing import pictures as made
from tests import geolocation_rows

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    made.made_locator(folder)
    return str(folder)


@pytest.fixture
def shared(model: str, cli: Cli) -> Iterator[Path]:
    """A folder with the model where no one is root: root may read everything, so another user looks then."""
    with tempfile.TemporaryDirectory() as name:  # other users cannot reach the folders of pytest
        folder, root = Path(name), os.geteuid() == 0
        folder.chmod(0o777)
        shutil.copytree(model, folder / "model")
        (folder / "model").chmod(0o755)
        made.folder(folder / "warm", 1)  # what is imported on first use lies where root installed it
        assert cli("geolocate", folder / "warm", "--model", model, "--out", folder / "warm.parquet").exit_code == 0
        if root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)


def bad(folder: Path) -> dict[str, tuple[str, str]]:
    """Every bad input that was thought of: name to status (``seen``: ok or abstained) and what the reason says."""
    good = made.picture(1, 9)
    made.write(folder / "good.jpg", good)
    data = (folder / "good.jpg").read_bytes()
    (folder / "corrupt.jpg").write_bytes(data[:20] + bytes(300))
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("this is not a picture")
    huge = bytearray((made.write(folder / "huge.png", good)).read_bytes())
    huge[16:24] = (60000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(bytes(huge[12:29])).to_bytes(4, "big")
    (folder / "huge.png").write_bytes(huge)
    frames = [Image.fromarray(made.picture(k, k)) for k in range(3)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(good).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16).save(folder / "sixteen.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    made.write(folder / "turned.jpg", good, exif=turned)
    nowhere = made.gps(0.0, 0.0)
    made.write(folder / "zero.jpg", good, exif=nowhere)
    far = Image.Exif()
    far.get_ifd(0x8825).update({1: "N", 2: (123.0, 0.0, 0.0), 3: "E", 4: (500.0, 0.0, 0.0)})
    made.write(folder / "far.jpg", good, exif=far)
    locked = made.write(folder / "locked.jpg", made.picture(2, 8))
    locked.chmod(0)
    (folder / "gone.jpg").symlink_to(folder / "nothing.jpg")
    return {
        "good.jpg": ("seen", ""), "corrupt.jpg": ("unreadable", "damaged"), "cut.jpg": ("unreadable", "truncated"),
        "empty.jpg": ("unreadable", "empty"), "text.jpg": ("unreadable", "not_a_picture"),
        "huge.png": ("unreadable", "too_many_pixels"), "animated.gif": ("seen", "several_frames"),
        "cmyk.jpg": ("seen", "cmyk"), "sixteen.png": ("seen", "16_bit"), "turned.jpg": ("seen", ""),
        "zero.jpg": ("seen", "gps_zero"), "far.jpg": ("seen", "gps_out_of_range"),
        "locked.jpg": ("unreadable", "permission"), "gone.jpg": ("unreadable", "missing"),
    }  # fmt: skip


def test_bad_pictures_are_rows_and_never_a_stop(cli: Cli, shared: Path) -> None:
    (shared / "in").mkdir()
    expected = bad(shared / "in")
    result = cli("geolocate", shared / "in", "--model", shared / "model", "--out", shared / "out.parquet", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    found = {r["image_id"]: r for r in geolocation_rows.read(shared / "out.parquet")}
    assert found.keys() == expected.keys()
    assert told["pictures"] == len(expected)
    for name, (status, reason) in expected.items():
        row = found[name]
        assert (row["status"] in ("ok", "abstained")) == (status == "seen"), row
        assert status == "seen" or row["status"] == status
        assert reason in (row["reason"] or ""), row
        assert row["exif_lon"] is None
        assert (row["lon"] is None) == (row["status"] != "ok")
    assert found["turned.jpg"]["lon"] == pytest.approx(found["good.jpg"]["lon"], abs=0.5)


def test_a_run_a_second_run_and_a_map(model: str, cli: Cli, tmp_path: Path) -> None:
    made.folder(tmp_path / "in", 9)
    words = ("geolocate", "--model", model, tmp_path / "in", "--out", tmp_path / "out.parquet")
    first = cli(*words, "--map", tmp_path / "map.html")
    assert first.exit_code == 0, first.output
    assert "9 computed now; places exact" in " ".join(first.output.split())
    page = (tmp_path / "map.html").read_text()
    assert "00000-0.jpg" in page
    assert page.count("data:image/jpeg;base64,") >= 9
    before = (tmp_path / "out.parquet").read_bytes()
    second = cli(*words)
    assert "0 computed now" in " ".join(second.output.split())
    assert (tmp_path / "out.parquet").read_bytes() == before
    import geopandas

    frame = geopandas.read_parquet(tmp_path / "out.parquet")
    assert frame.crs.to_string() == "OGC:CRS84"
    placed = frame[frame.status == "ok"]
    assert shapely.get_x(placed.geometry).tolist() == placed.lon.tolist()
    rounded = cli(*words, "--precision", "100")
    assert "rounded to regions of 100 km" in " ".join(rounded.output.split())
    assert {r["disclosed_precision"] for r in geolocation_rows.read(tmp_path / "out.parquet")} <= {"region:100", "none"}


def test_exit_codes_are_those_of_the_table(model: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    made.folder(tmp_path / "in", 1)
    out = tmp_path / "out.parquet"

    def code(*words: object) -> int:
        return cli("geolocate", *words).exit_code

    assert code(tmp_path / "empty", "--model", model, "--out", out) == 3
    assert code(tmp_path / "nowhere", "--model", model, "--out", out) == 2
    assert code(tmp_path / "in", "--model", model, "--out", tmp_path / "out.csv") == 2
    assert code(tmp_path / "in", "--model", model, "--out", out, "--use", "magic") == 2
    assert code(tmp_path / "in", "--model", model, "--out", out, "--precision", "fine") == 2
    assert code(tmp_path / "in", "--model", "no-such-locator", "--out", out) == 2
    assert code(tmp_path / "in", "--model", "demo-itaipu", "--out", out) == 6
    assert code("verify", tmp_path / "in", "--model", model, "--lon", "5") == 2
    assert code("verify", tmp_path / "empty", "--model", model) == 3
    assert not out.exists()


def test_a_file_named_like_a_subcommand(model: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made.folder(tmp_path / "verify", 2)
    result = cli("geolocate", "./verify", "--model", model, "--out", "out.parquet")
    assert result.exit_code == 0, result.output
    assert len(geolocation_rows.read(Path("out.parquet"))) == 2
    assert cli("geolocate", "verify", "verify", "--model", model, "--lon", "2", "--lat", "48").exit_code == 0
    assert "strip-exif" in cli("geolocate", "--help").output


def test_claims_are_weighed(model: str, cli: Cli, tmp_path: Path) -> None:
    made.write(tmp_path / "a.jpg", made.picture(0, 1), exif=made.gps(2.35, 48.86))
    words = ("geolocate", "verify", tmp_path / "a.jpg", "--model", model, "--prior", "uniform", "--radius", "100")
    right = json.loads(cli(*words, "--lon", "2.3", "--lat", "48.9", "--json").stdout)[0]
    wrong = json.loads(cli(*words, "--lon", "139.7", "--lat", "35.7", "--json").stdout)[0]
    assert (right["verdict"], right["exif"]) == ("supports", "agrees")
    assert wrong["exif"] == "disagrees"
    assert wrong["log_likelihood_ratio"] < right["log_likelihood_ratio"]
    table = cli(*words, "--lon", "2.3", "--lat", "48.9").output
    assert "Evidence of a model, not proof" in table


def test_an_index_is_filled_asked_and_emptied(model: str, cli: Cli, tmp_path: Path) -> None:
    source = made.folder(tmp_path / "in", 12)
    at = ("--index", tmp_path / "index", "--model", model)
    assert "12 added" in cli("geolocate", "index", "add", source, *at).output
    query = source / "00003-3.jpg"
    found = json.loads(cli("geolocate", "similar", query, *at, "--k", "3", "--json").stdout)
    assert found[0]["image_id"] == "00003-3.jpg"
    assert found[1]["image_id"] == "00009-3.jpg"
    assert "1 removed" in cli("geolocate", "index", "remove", "00003-3.jpg", *at).output
    found = json.loads(cli("geolocate", "similar", query, *at, "--json").stdout)
    assert "00003-3.jpg" not in {f["image_id"] for f in found}
    assert cli("geolocate", "similar", tmp_path / "gone.jpg", *at).exit_code == 4


def test_copies_tell_nothing_and_scores_come_without_a_place(model: str, cli: Cli, tmp_path: Path) -> None:
    made.write(tmp_path / "in" / "sub" / "a.jpg", made.picture(0, 1), exif=made.gps(2.35, 48.86))
    (tmp_path / "in" / "b.jpg").write_bytes(b"none")
    result = cli("geolocate", "strip-exif", tmp_path / "in", "--out", tmp_path / "out")
    assert result.exit_code == 4
    assert "1 of 2 pictures have no copy" in " ".join(result.output.split())
    with Image.open(tmp_path / "out" / "sub" / "a.jpg") as image:
        assert not image.getexif()
        assert (np.asarray(image) == np.asarray(Image.open(tmp_path / "in" / "sub" / "a.jpg"))).all()
    scores = cli("geolocate", "localizability", tmp_path / "in" / "sub", "--model", model, "--json")
    (row,) = json.loads(scores.stdout)
    assert row["gps"]
    assert row["words"] == "high"
    assert not {"lon", "lat"} & set(row)


def test_locators_are_listed_and_shown(model: str, cli: Cli, tmp_path: Path, machine: Callable[..., None]) -> None:
    shutil.copytree(model, tmp_path / "models" / "made-overhead")
    machine(catalogs=tmp_path)
    assert "made-overhead" in cli("models", "list").output
    (card,) = (c for c in json.loads(cli("models", "list", "--json").stdout) if c["name"] == "made-overhead")
    assert card["head"] == "cells"
    assert json.loads(cli("models", "show", "made-overhead", "--json").stdout) == card
    made.folder(tmp_path / "in", 1)
    asked = cli("geolocate", tmp_path / "in", "--out", tmp_path / "o.parquet")
    assert asked.exit_code == 2, "one is shipped beside it"
    assert "made-overhead" in asked.output
    assert "world-overhead" in asked.output


@pytest.mark.slow
def test_the_demo_is_right_where_it_is_sure(tmp_path: Path) -> None:
    """The shipped locator on pictures of a month that it never saw; nothing is fetched."""
    done = subprocess.run(
        [sys.executable, "-c", "from geoml.cli import app; app()", "demo", "--geolocate", "--out", str(tmp_path / "d")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "truth" in done.stdout
    rows = answers_and_truth(tmp_path / "d" / "places.parquet")
    assert len(rows) == 12
    assert {row[1] for row in rows} == {"ok", "abstained"}
    sure = [float(row[5].removesuffix(" km")) for row in rows if row[3] == "exact"]
    assert len(sure) >= 4
    assert max(sure) < 750, "the distance that the card's threshold speaks of"
    coarse = [float(row[5].removesuffix(" km")) for row in rows if row[3] == "region:2500"]
    assert all(km < 2500 for km in coarse)
    assert "<script" in (tmp_path / "d" / "places.html").read_text()
