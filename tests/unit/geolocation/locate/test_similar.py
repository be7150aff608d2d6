"""The index of similar pictures: exact, grows and shrinks without a rebuild, and is found whole after a kill."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geoml.backends.torch import choose
from geoml.errors import DataError, InputError, ModelError, NothingFound
from geoml.geolocation.locate import locator, similar
from geoml.geolocation.locate.features import Extractor
from geoml.geolocation.locate.similar import Index
from geoml.geolocation.pictures import decode as photos
from geoml.geolocation.pictures.prepare import square
from geoml.testing import pictures as made
from geoml.vector import nearest


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return Extractor(locator.build_backbone(made.BACKBONE), 32, choose("cpu", "fp32"))


@pytest.fixture(autouse=True)
def _cpu(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine(precision="fp32", device="cpu", threads=2)
    monkeypatch.setattr(similar, "SEGMENT", 16)
    monkeypatch.setattr(similar, "BATCH", 4)
    monkeypatch.setattr(nearest, "ROWS", 7)


def features(path: Path, extractor: Extractor) -> np.ndarray:
    return extractor(square(photos.read(path, 32).rgb, 32)[None])[0]


def test_search_is_that_of_brute_force(extractor: Extractor, tmp_path: Path) -> None:
    files = sorted(made.folder(tmp_path / "in", 50).iterdir())
    told = Index(tmp_path / "index", extractor).add([tmp_path / "in"])
    assert (told["added"], told["known"], told["pictures"]) == (50, 0, 50)
    found = Index(tmp_path / "index", extractor)
    x = np.stack([features(p, extractor) for p in files])
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    score = unit @ unit[13]
    got = found.search(x[13], k=9)
    assert [g.image_id for g in got] == [files[i].name for i in np.argsort(-score)[:9]] or np.allclose(
        [g.score for g in got], np.sort(score)[::-1][:9], atol=1e-3
    )
    assert got[0].image_id == files[13].name
    assert got[0].score == pytest.approx(1, abs=1e-3)


def test_it_grows_and_shrinks_without_touching_what_is_there(extractor: Extractor, tmp_path: Path) -> None:
    made.folder(tmp_path / "a", 20)
    made.folder(tmp_path / "b", 10, seed=3)
    index = Index(tmp_path / "index", extractor)
    index.add([tmp_path / "a"])
    before = {p: p.read_bytes() for p in (tmp_path / "index" / "segments").iterdir()}
    told = index.add([tmp_path / "b", tmp_path / "a"])
    assert (told["added"], told["known"]) == (10, 20)
    assert all(p.read_bytes() == data for p, data in before.items())
    query = features(tmp_path / "a" / "00004-4.jpg", extractor)
    best = index.search(query, 1)[0]
    assert index.remove([best.sha256]) == 1
    assert best.sha256 not in {s.sha256 for s in index.search(query, 40)}
    assert len(index) == len(Index(tmp_path / "index", extractor)) == 29
    assert index.add([tmp_path / "a"])["added"] == 1
    assert index.search(query, 1)[0].sha256 == best.sha256
    with pytest.raises(InputError, match="not-there"):
        index.remove(["not-there"])


def test_bbox_and_dates_leave_out(extractor: Extractor, tmp_path: Path) -> None:
    made.folder(tmp_path / "in", 4)
    names = sorted(p.name for p in (tmp_path / "in").iterdir())
    (tmp_path / "in" / "list.csv").write_text(
        f"path,lon,lat,time\n{names[0]},179,0,2024-01-01\n{names[1]},-179,0,2024-06-01\n{names[2]},0,0,2025-01-01\n"
        f"{names[3]},,,\n"
    )
    index = Index(tmp_path / "index", extractor)
    index.add([tmp_path / "in" / "list.csv"])
    query = features(tmp_path / "in" / names[0], extractor)

    def ids(**how: object) -> set[str]:
        return {f.image_id for f in index.search(query, 10, **how)}  # type: ignore[arg-type]

    assert ids() == set(names)
    assert ids(bbox=(170.0, -10.0, -170.0, 10.0)) == {names[0], names[1]}
    assert ids(bbox=(-10.0, -10.0, 10.0, 10.0)) == {names[2]}
    spring = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
    assert ids(between=(spring, None)) == {names[1], names[2]}
    assert ids(between=(None, spring)) == {names[0]}
    with pytest.raises(InputError, match="W S E N"):
        ids(bbox=(0.0, 10.0, 10.0, -10.0))


def test_a_kill_between_vectors_and_table_loses_that_segment_only(extractor: Extractor, tmp_path: Path) -> None:
    made.folder(tmp_path / "in", 20)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"x")
    told = Index(tmp_path / "index", extractor).add([tmp_path / "in"])
    assert told["failed"]["broken.jpg"].startswith("not_a_picture")
    os.unlink(tmp_path / "index" / "segments" / "000001.parquet")  # noqa: PTH108
    index = Index(tmp_path / "index", extractor)
    assert len(index) == 16
    assert index.add([tmp_path / "in"])["added"] == 4
    assert len(Index(tmp_path / "index", extractor)) == 20


def test_foreign_empty_and_damaged_folders(extractor: Extractor, tmp_path: Path) -> None:
    made.folder(tmp_path / "in", 2)
    with pytest.raises(NothingFound):
        Index(tmp_path / "none", extractor).search(np.zeros(extractor.features, np.float32))
    with pytest.raises(InputError, match="other files"):
        Index(tmp_path / "in", extractor)
    Index(tmp_path / "index", extractor).add([tmp_path / "in"])
    other = Extractor(locator.build_backbone(made.BACKBONE), 48, choose("cpu", "fp32"))
    with pytest.raises(ModelError, match="-48"):
        Index(tmp_path / "index", other)
    vectors = tmp_path / "index" / "segments" / "000000.npy"
    vectors.write_bytes(vectors.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged"):
        Index(tmp_path / "index", extractor)
