"""The monitor with its outputs on a real S3 server, each night on another machine: an empty scratch folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from geoml import pipeline, testing
from geoml.errors import NothingFound, TransientError
from geoml.io.stores.bucket import Bucket
from tests.e2e.old_series import made_old

pytestmark = pytest.mark.integration

FIRST = testing.Scene(
    id="first", data=testing.smooth((2, 200, 200), seed=5), bands=("red", "nir"), datetime="2024-06-01T12:00:00Z"
)
SECOND = replace(FIRST, id="second", data=testing.smooth((2, 200, 200), seed=6), datetime="2024-06-03T12:00:00Z")
AGAIN = replace(SECOND, data=testing.smooth((2, 200, 200), seed=8), properties={"updated": "2024-06-04T08:00:00Z"})


def night(folder: Path, out: str, *scenes: testing.Scene) -> dict[str, str]:
    """The catalog has ``scenes``, the monitor runs; by item what changed."""
    shutil.rmtree(folder / "made", ignore_errors=True)
    catalog = testing.write_catalog(folder / "made", scenes)
    query = {"catalog": str(catalog), "bbox": FIRST.bbox(inner=0.05), "datetime": [".."]}
    recipe = {"model": str(folder / "model"), "query": query, "block_size": 128}
    rows = pipeline.monitor(recipe, out, lookback=10, until="2024-06-05")
    return {r["item"]: r["change"] for r in rows}


def test_a_series_in_a_bucket_is_what_it_is_in_a_folder(
    s3: Any, machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    testing.threshold_model(tmp_path / "model", ("red", "nir"), (0.2, 0.4))
    url, folder = f"s3://{s3.bucket}/series", tmp_path / "series"

    def tonight(number: int, *scenes: testing.Scene) -> dict[str, str]:
        scratch = tmp_path / f"scratch-{number}"
        machine(precision="fp32", device="cpu", threads=2, scratch=scratch, retries=1, timeout=10)
        return night(tmp_path, url, *scenes)

    assert tonight(1, FIRST, SECOND) == {"first": "new", "second": "new"}
    assert tonight(2, FIRST, AGAIN) == {"second": "reprocessed"}
    before = Bucket(url).list()
    with pytest.raises(NothingFound, match="nothing new"):
        tonight(3, FIRST, AGAIN)
    after = Bucket(url).list()
    assert {k: v.tag for k, v in after.items()} == {k: v.tag for k, v in before.items()}
    with pipeline.locked(url), pytest.raises(TransientError, match="pid"):
        tonight(4, FIRST, AGAIN)

    night(tmp_path, str(folder), FIRST, SECOND)
    night(tmp_path, str(folder), FIRST, AGAIN)
    here = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert after.keys() - {".geoml/lock.json"} == here - {".geoml/lock.json"}
    part = "2024-06-03.parquet"
    for name in (f"features.parquet/{part}", f"sources.parquet/{part}", "days/2024-06-03/features.parquet"):
        found = Bucket(url).get(name, 2**28)
        assert found is not None
        assert found[0] == (folder / name).read_bytes(), name
    found = Bucket(url).get("months/2024-06.json", 2**20)
    assert found is not None
    series = json.loads(found[0])
    assert [k["title"] for k in series["links"] if k["rel"] == "child"] == ["2024-06-01", "2024-06-03"]


class Killed(BaseException):
    """As a signal that ends the process between two objects."""


def test_an_old_series_in_a_bucket_is_brought_over_however_often_it_dies(
    s3: Any, machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    testing.threshold_model(tmp_path / "model", ("red", "nir"), (0.2, 0.4))
    folder, url = tmp_path / "series", f"s3://{s3.bucket}/old-series"
    night(tmp_path, str(folder), FIRST, SECOND)
    tables = {path.name: pq.read_table(path) for path in folder.glob("*.parquet")}
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != "lock.json"}
    made_old(folder)
    for path in (p for p in folder.rglob("*") if p.is_file() and p.name != "lock.json"):
        Bucket(url).upload(path, path.relative_to(folder).as_posix())
    upload, left = Bucket.upload, [3, 7, 10, 10**6]
    count = [0]

    def counted(self: Bucket, path: Path, name: str) -> Any:
        count[0] += 1
        if count[0] == left[0]:
            raise Killed
        return upload(self, path, name)

    monkeypatch.setattr(Bucket, "upload", counted)
    while left:
        machine(
            precision="fp32", device="cpu", threads=2, scratch=tmp_path / f"scratch-{len(left)}", retries=1, timeout=10
        )
        count[0] = 0
        with pytest.raises(Killed if len(left) > 1 else NothingFound):
            night(tmp_path, url, FIRST, SECOND)
        left.pop(0)
    there = Bucket(url).list()
    assert there.keys() - {".geoml/lock.json"} == files
    for name, table in tables.items():
        for part in sorted(n for n in there if n.startswith(f"{name}/")):
            assert Bucket(url).download(part, tmp_path / "copy" / part, 2**28)
        assert pq.read_table(tmp_path / "copy" / name).to_pylist() == table.to_pylist(), name
