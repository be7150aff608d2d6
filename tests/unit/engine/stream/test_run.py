"""A whole stream: what it writes, refuses and leaves when it is stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio

import geoml
from geoml import testing
from geoml.cube.domain import fit
from geoml.errors import DataError, InputError, ModelError, NothingFound


def test_the_record_says_what_was_done(chips: Path, folder: Path, tmp_path: Path) -> None:
    (chips / "3.tif").write_bytes(b"II*\0 and no more")
    counted: list[int] = []
    record = geoml.stream(chips, tmp_path / "out", model=str(folder / "net"), scale=1e-4, progress=counted.append)
    assert json.loads((tmp_path / "out" / "stream.json").read_text()) == record
    assert record["frames"] == {"done": 11, "failed": 1, "dropped": 0}
    assert record["shapes"] == {"52x40": 11}
    assert record["status"] == "finished"
    assert set(record["latency_ms"]) == {"read", "wait", "model", "latency", "write"}
    for ms in record["latency_ms"].values():
        assert 0 <= ms["p50"] <= ms["p99"]
    assert record["warmup"]["answers"] == 3
    assert record["warmup"]["seconds"] > 0
    facts = {"name": "torch", "precision": "fp32", "reason": "by the setting", "proof": None, "device": "cpu"}
    assert record["backend"] == facts
    assert record["files"] == 22 == len(list((tmp_path / "out").rglob("*.tif")))
    assert record["domain"] is None
    assert record["rate"]["frames_per_second"] == pytest.approx(11 / record["seconds"], rel=0.02)
    assert sum(counted) == 12


def test_the_domain_of_the_model_is_held_against_the_frames(chips: Path, tmp_path: Path) -> None:
    seen = np.random.default_rng(0).random((500, 2))
    for name, about in (("like", fit(seen, seen)), ("other", fit(seen * 0.1 + 3, seen * 0.1 + 3))):
        testing.threshold_model(tmp_path / name, ("red", "nir"), (0.2, 0.4), domain=about)
    chip = chips / "1.tif"
    like, other = (str(tmp_path / n) for n in ("like", "other"))
    assert geoml.stream(chip, tmp_path / "a", model=like, scale=1e-4)["domain"]["verdict"] == "inside"
    assert geoml.stream(chip, tmp_path / "b", model=other, scale=1e-4)["domain"]["verdict"] == "outside"
    with pytest.raises(ModelError, match="mostly unlike the training data"):
        geoml.stream(chip, tmp_path / "c", model=other, scale=1e-4, out_of_domain="refuse")
    with pytest.raises(ModelError, match="another unit or scaling"):
        geoml.stream(chip, tmp_path / "d", model=like)
    assert geoml.stream(chip, tmp_path / "e", model=like, out_of_domain="allow")["domain"]["verdict"] == "outside"
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "d").exists()


def test_what_does_not_fit_is_refused(chips: Path, folder: Path, tmp_path: Path) -> None:
    net = str(folder / "net")
    with pytest.raises(InputError, match="not empty"):
        geoml.stream(chips, chips, model=net)
    with pytest.raises(InputError, match="expected a folder of this machine"):
        geoml.stream(chips, "s3://bucket/out", model=net)
    with pytest.raises(InputError, match="2 dates"):
        geoml.stream(chips, tmp_path / "a", model="ndvi-difference")
    with pytest.raises(InputError, match="size"):
        geoml.stream(chips, tmp_path / "a", model=net, size=3)
    for path in chips.glob("*.tif"):
        path.write_bytes(b"II*\0")
    with pytest.raises(DataError, match="none of 12 frames"):
        geoml.stream(chips, tmp_path / "b", model=net)
    assert len(pq.read_table(tmp_path / "b" / "frames.parquet")) == 12
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingFound, match="no frame came"):
        geoml.stream(tmp_path / "empty", tmp_path / "c", model=net, watch=0.1)


STOPPED = """
import os, signal, sys
import geoml

done = []

def stop(_):
    done.append(1)
    if len(done) == 5:
        os.kill(os.getpid(), signal.SIGINT)

chips, out, model = sys.argv[1:]
try:
    geoml.stream(chips, out, model=model, scale=1e-4, progress=stop)
except KeyboardInterrupt:
    sys.exit(3)
"""


def test_what_was_done_is_there_after_a_stop(chips: Path, folder: Path, tmp_path: Path) -> None:
    """In a process of its own: a signal that comes late would end the tests."""
    command = [sys.executable, "-c", STOPPED, str(chips), str(tmp_path / "out"), str(folder / "net")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 3, said.stderr
    record = json.loads((tmp_path / "out" / "stream.json").read_text())
    assert record["status"] == "stopped"
    rows = pq.read_table(tmp_path / "out" / "frames.parquet").to_pylist()
    assert 5 <= len(rows) < 12
    assert record["frames"]["done"] == len(rows)
    assert all((tmp_path / "out" / file).exists() for row in rows for file in row["files"])


@pytest.mark.slow  # conversion by a library
@pytest.mark.parametrize("halo", [True, False])
def test_another_back_end_answers_alike_and_is_named(
    chips: Path, folder: Path, tmp_path: Path, machine: Callable[..., None], halo: bool
) -> None:
    pytest.importorskip("openvino")
    options = {"model": str(folder / "net"), "scale": 1e-4, "size": 64, "every": 4, "halo": halo}
    geoml.stream(chips, tmp_path / "torch", **options)
    machine(backend="openvino", scratch=tmp_path / "scratch")
    record = geoml.stream(chips, tmp_path / "openvino", **options)
    assert (record["backend"]["name"], record["backend"]["precision"]) == ("openvino", "fp32")
    halos = record["backend"]["proof"]["sizes"][0][0]
    assert halos > 64 if halo else halos == 64, "compiled for the shape of the stream"
    for path in (tmp_path / "torch" / "class").iterdir():
        with rasterio.open(path) as one, rasterio.open(tmp_path / "openvino" / "class" / path.name) as other:
            assert np.mean(one.read() == other.read()) >= 0.999
