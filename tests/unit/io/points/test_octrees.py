"""COPC, EPT and files of squares give the same points as the file they were made of, window by window."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from geoml.errors import DataError, MissingExtra, TransientError
from geoml.io.points.bins import binned
from geoml.io.points.cloud import joined
from geoml.io.points.files import PointPlace
from geoml.io.points.kept import KeptNodes
from geoml.io.points.octree import ROOT, NodeKey, Octree
from geoml.io.points.read import read_window
from geoml.io.points.source import PointSource, open_source
from tests.made_clouds import las_bytes, made_points
from tests.made_octrees import write_copc, write_ept
from tests.unit.io.points.test_read_window import ALL, same

DATA = Path(os.environ.get("GEOML_DATA", "")) / "elevation"
WINDOWS = [
    ALL,
    (500_000.0, 5_000_000.0, 500_050.0, 5_000_050.0),
    (500_012.5, 5_000_031.0, 500_017.5, 5_000_036.0),
    (500_050.0, 5_000_050.0, 500_050.01, 5_000_050.01),
    (499_000.0, 5_000_000.0, 499_990.0, 5_000_100.0),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> PointSource:
    path = tmp_path_factory.mktemp("plain") / "made.laz"
    path.write_bytes(las_bytes(made_points(5000), crs="EPSG:32632+5773"))
    return open_source(str(path))


@pytest.mark.parametrize("kind", ["copc", "pages", "ept", "bins"])
def test_windows_hold_the_points_of_the_plain_file(plain: PointSource, tmp_path: Path, kind: str) -> None:
    if kind == "ept":
        source = open_source(str(write_ept(tmp_path / "tiles", made_points(5000))))
    elif kind == "bins":
        (source,) = binned([plain], tmp_path)
    else:
        write_copc(tmp_path / "a.copc.laz", Path(plain.href), per_node=100, levels=4, pages=kind == "pages")
        source = open_source(str(tmp_path / "a.copc.laz"))
    assert source.kind == ("copc" if kind == "pages" else kind)
    assert (source.crs, source.vertical) == ("EPSG:32632", "EPSG:5773")
    for window in WINDOWS:
        assert same(read_window([source], window), read_window([plain], window))
    assert len(read_window([source], WINDOWS[2])) > 5


def test_squares_are_made_once(plain: PointSource, tmp_path: Path) -> None:
    (source,) = binned([plain], tmp_path)
    (made,) = tmp_path.iterdir()
    before = made.stat().st_mtime_ns
    assert binned([plain], tmp_path) == [source]
    assert made.stat().st_mtime_ns == before
    assert same(read_window([source], ALL), read_window([plain], ALL))


@pytest.mark.parametrize("kind", ["plain", "copc", "ept", "bins"])
def test_points_beyond_the_box_of_a_header_are_in_no_window(plain: PointSource, tmp_path: Path, kind: str) -> None:
    """A header that says x up to 47.3: the same points however the ground is cut."""
    columns = made_points(5000)
    if kind == "ept":
        path = write_ept(tmp_path / "tiles", columns)
        said = json.loads(path.read_text())
        said["boundsConforming"][3] = 500_047.3
        path.write_text(json.dumps(said))
    else:
        path = tmp_path / "a.copc.laz"
        if kind == "copc":
            write_copc(path, Path(plain.href), per_node=100, levels=4)
        else:
            path.write_bytes(Path(plain.href).read_bytes())
        with path.open("r+b") as file:
            file.seek(179)  # the largest x
            file.write(struct.pack("<d", 500_047.3))
    source = open_source(str(path))
    if kind == "bins":
        (source,) = binned([source], tmp_path)
    whole, truth = read_window([source], ALL), read_window([plain], ALL)
    assert same(whole, truth.take(truth.x <= 500_047.4))
    edges = np.r_[500_000.0, 500_047.32, 500_047.38, 500_048.0:500_101:1.0]
    parts = [read_window([source], (left, 5e6 - 1, right, 5e6 + 101)) for left, right in pairwise(edges)]
    assert same(joined(parts), whole)


def test_squares_of_many_parts_are_whole(plain: PointSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoml.io.points.bins.PART", 400)
    monkeypatch.setattr("geoml.io.points.bins.LEAST", 8.0)
    monkeypatch.setattr("geoml.io.points.laz.PART", 150)
    path = tmp_path / "a.las"
    path.write_bytes(las_bytes(made_points(5000), compressed=False))
    (source,) = binned([open_source(str(path))], tmp_path)
    for window in WINDOWS:
        assert same(read_window([source], window), read_window([plain], window))


def test_squares_that_another_machine_made_are_made_again(
    plain: PointSource, tmp_path: Path, machine: Callable[..., None]
) -> None:
    machine(scratch=tmp_path / "scratch")
    (source,) = binned([plain], tmp_path / "run")
    assert PointSource.from_plain(json.loads(json.dumps(source.as_plain()))) == source
    Path(source.href).unlink()
    assert same(read_window([source], ALL), read_window([plain], ALL))
    assert [p.suffix for p in (tmp_path / "scratch" / "points").iterdir()] == [".points"]


def test_a_page_that_could_not_be_read_is_asked_for_again() -> None:
    tree: Octree[int, str] = Octree((0.0, 0.0), 8.0)
    tree.pages[ROOT] = "root"
    pages: dict[str, dict[NodeKey, int | str]] = {
        "root": {ROOT: 1, NodeKey(1, 0, 0, 0): "low", NodeKey(1, 1, 1, 0): "high"},
        "low": {NodeKey(1, 0, 0, 0): 2, NodeKey(2, 1, 1, 0): 3},
        "high": {NodeKey(1, 1, 1, 0): 4},
    }
    broken = {"low": TransientError("HTTP 503")}

    def fetch(asked: Sequence[str]) -> list[dict[NodeKey, int | str]]:
        if failed := next((name for name in asked if name in broken), None):
            raise broken.pop(failed)
        return [pages[name] for name in asked]

    def found() -> list[int]:
        return tree.touching((0.0, 0.0, 8.0, 8.0), 0.0, fetch, lambda entry: isinstance(entry, str))

    with pytest.raises(TransientError):
        found()
    assert sorted(found()) == sorted(found()) == [1, 2, 3, 4]


def test_a_page_that_lies_is_an_error_of_every_window() -> None:
    tree: Octree[int, str] = Octree((0.0, 0.0), 8.0)
    tree.pages[ROOT] = "root"
    pages: dict[str, dict[NodeKey, int | str]] = {
        "root": {ROOT: 1, NodeKey(1, 0, 0, 0): "low"},
        "low": {NodeKey(1, 0, 0, 0): 2, NodeKey(1, 1, 0, 0): 3},
    }
    for _ in range(2):
        with pytest.raises(DataError, match="lies elsewhere"):
            tree.touching((0, 0, 8, 8), 0.0, lambda asked: [pages[n] for n in asked], lambda e: isinstance(e, str))


def test_without_the_extra_it_is_named(plain: PointSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lazrs", None)
    with pytest.raises(MissingExtra, match=r"pip install 'geoml\[points\]'"):
        read_window([plain], ALL)


def test_an_empty_file_has_no_points(tmp_path: Path) -> None:
    for compressed in (True, False):
        path = tmp_path / f"{compressed}.laz"
        path.write_bytes(las_bytes(made_points(0), compressed=compressed))
        source = open_source(str(path))
        assert len(read_window([source, *binned([source], tmp_path)], ALL)) == 0


def test_kept_nodes_have_a_bound(plain: PointSource) -> None:
    from geoml.io.points.files import MemoryBytes
    from geoml.io.points.header import read_header
    from geoml.io.points.laz import raw_parts
    from geoml.io.points.records import decoded

    file = MemoryBytes(Path(plain.href).read_bytes())
    header = read_header(file)
    (raw,) = raw_parts(file, header)
    node = header, decoded(raw, header.format, header.record_bytes)
    kept = KeptNodes(largest=4 * 5000 * 19)
    for key in range(9):
        kept.add((PointPlace("a"), key), node)
    assert [kept.get((PointPlace("a"), key)) is not None for key in range(9)].count(True) == 4
    assert kept.get((PointPlace("a"), 8)) == node
    kept.add("huge", (header, decoded(np.tile(raw, 9), header.format, header.record_bytes)))
    assert kept.get("huge") is None


@pytest.mark.data
def test_real_copc_has_all_its_points_on_its_pages() -> None:
    names = ("1.2-with-color.copc.laz", "simple_with_page.copc.laz")
    one, other = (open_source(str(DATA / "lidar_small" / name)) for name in names)
    first, second = (read_window([s], (0.0, 0.0, 1e7, 1e7)) for s in (one, other))
    assert len(first) == 1065
    assert same(first, second)


@pytest.mark.data
def test_adjacent_tiles_of_two_formats_have_one_answer(tmp_path: Path) -> None:
    sources = [open_source(str(p)) for p in sorted((DATA / "lidarhd_tiles").glob("*.laz"))]
    squares = binned(sources, tmp_path)
    for window in ((770_500.0, 6_277_500.0, 770_600.0, 6_277_600.0), (770_540.0, 6_277_540.0, 770_560.5, 6_277_560.0)):
        whole = read_window(sources, window)
        assert same(whole, read_window(squares[::-1], window))
    assert len(read_window(sources, (770_540.0, 6_277_540.0, 770_560.0, 6_277_560.0))) > 5000
