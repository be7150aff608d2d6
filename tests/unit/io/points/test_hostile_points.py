"""Files of points that are cut, damaged or lie: an error of ours that names file and reason, and nothing else."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geoml.errors import DataError, GeomlError, InputError
from geoml.io.points.bins import binned
from geoml.io.points.laz import GROUP, Chunk, groups
from geoml.io.points.read import read_window
from geoml.io.points.source import open_source
from tests.made_clouds import las_bytes, made_points, with_record
from tests.made_octrees import write_copc, write_ept
from tests.unit.io.points.test_read_window import ALL

PLAIN = {
    "old": las_bytes(made_points(3000), "1.2", 1, crs=None),
    "new": las_bytes(made_points(3000)),
    "flat": las_bytes(made_points(3000), compressed=False),
}
START, COUNT_OLD, COUNT, EVLRS = 96, 107, 247, 235


def read(path: Path, content: bytes | None = None) -> int:
    """How many points a file has; it is also read as a run reads it."""
    if content is not None:
        path.write_bytes(content)
    source = open_source(str(path), "EPSG:32632")
    cloud = read_window([source], ALL)
    assert len(read_window(binned([source], path.parent / "squares"), ALL)) == len(cloud)
    return len(cloud)


def patched(las: bytes, place: int, form: str, *values: object) -> bytes:
    out = bytearray(las)
    struct.pack_into(form, out, place, *values)
    return bytes(out)


def at(las: bytes) -> int:
    (start,) = struct.unpack_from("<I", las, START)
    return int(start)


def table(las: bytes) -> int:
    """Where the table of chunks of a LAZ file is."""
    (place,) = struct.unpack_from("<q", las, at(las))
    return int(place)


def laszip(las: bytes) -> int:
    """Where the record of LASzip begins."""
    return las.index(b"laszip encoded") + 52


NEW, OLD, FLAT = PLAIN["new"], PLAIN["old"], PLAIN["flat"]
LIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a LAS"),
    "a page": (b"<!DOCTYPE html>", "not a LAS"),
    "version": (patched(NEW, 24, "<BB", 2, 0), "LAS 2.0"),
    "format": (patched(NEW, 104, "<B", 0x80 | 11), "point format"),
    "small points": (patched(NEW, 105, "<H", 12), "points of 12 bytes"),
    "large points": (patched(NEW, 105, "<H", 65535), "LASzip has points of 30 bytes"),
    "scale 0": (patched(NEW, 131, "<d", 0.0), "scales"),
    "scale NaN": (patched(NEW, 139, "<d", float("nan")), "scales"),
    "scale below 0": (patched(NEW, 147, "<d", -0.01), "scales"),
    "scale without end": (patched(NEW, 131, "<d", 1e300), "no place on the Earth"),
    "offset NaN": (patched(NEW, 155, "<d", float("nan")), "no place on the Earth"),
    "box NaN": (patched(NEW, 179, "<d", float("nan")), "box"),
    "points beyond the file": (patched(NEW, START, "<I", 2**31), "points begin at byte 2147483648"),
    "points in the header": (patched(NEW, START, "<I", 100), "a header of 375 bytes before points at 100"),
    "many records": (patched(NEW, 100, "<I", 2**31), "2147483648 records"),
    "extended records beyond": (patched(NEW, EVLRS, "<QI", 2**40, 1), "extended records at byte"),
    "many extended records": (patched(NEW, EVLRS, "<QI", len(NEW) - 80, 2**31), "2147483648 extended records"),
    "2**31 points": (patched(FLAT, COUNT, "<Q", 2**31), "2147483648 points of 30 bytes do not fit"),
    "2**31 points in chunks": (patched(NEW, COUNT, "<Q", 2**31), "points"),
    "2**31 points of old": (patched(OLD, COUNT_OLD, "<I", 2**31), "points"),
    "one point more": (patched(NEW, COUNT, "<Q", 3001), "says 3000 points"),
    "one point less": (patched(NEW, COUNT, "<Q", 2999), "says 3000 points"),
    "one point more, flat": (patched(FLAT, COUNT, "<Q", 3001), "truncated or inconsistent"),
    "many points more of old": (patched(OLD, COUNT_OLD, "<I", 4000), "cannot be decoded"),
    "table before": (patched(NEW, at(NEW), "<q", 5), "table of chunks would be at byte 5"),
    "table beyond": (patched(NEW, at(NEW), "<q", 2**62), "table of chunks would be at"),
    "many chunks": (patched(NEW, table(NEW), "<II", 0, 2**32 - 1), "4294967295 chunks"),
    "many chunks of many points": (
        patched(patched(NEW, COUNT, "<Q", 2**62), laszip(NEW) + 12, "<I", 1)[: table(NEW)]
        + struct.pack("<II", 0, 2**32 - 1)
        + NEW[table(NEW) + 8 :],
        "4294967295 chunks",
    ),
    "table of another kind": (patched(NEW, table(NEW), "<II", 7, 1), "table of chunks has version 7"),
    "no chunk": (patched(NEW, table(NEW), "<II", 0, 0), "0 chunks hold 0 points"),
    "chunks of no point": (patched(NEW, laszip(NEW) + 12, "<I", 0), "chunks"),
    "pointwise": (patched(NEW, laszip(NEW), "<H", 1), "compressor 1"),
    "many items": (patched(NEW, laszip(NEW) + 32, "<H", 65535), "65535 items"),
    "items of other sizes": (patched(NEW, laszip(NEW) + 36, "<H", 60000), "LASzip has points of 60000"),
    "layer of 4 GB": (patched(NEW, at(NEW) + 8 + 34, "<I", 2**32 - 1), "damaged or inconsistent"),
    "extra bytes": (with_record(FLAT, "LASF_Spec", 4, bytes([0, 0, 10, 0]).ljust(192, b"\0")), "extra bytes of 8"),
    "extra bytes of no kind": (with_record(FLAT, "LASF_Spec", 4, bytes([0, 0, 99, 0]).ljust(192, b"\0")), "type 99"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named(tmp_path: Path, lie: str) -> None:
    content, message = LIES[lie]
    with pytest.raises(DataError, match=message) as raised:
        read(tmp_path / "liar.laz", content)
    assert "liar.laz" in str(raised.value)


@pytest.mark.parametrize("name", PLAIN)
def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path: Path, name: str) -> None:
    las = PLAIN[name]
    for length in [3, 100, 226, 374, *range(400, len(las), len(las) // 12), len(las) - 1]:
        with pytest.raises(DataError, match=r"cut\.laz"):
            read(tmp_path / "cut.laz", las[:length])


def test_a_record_longer_than_the_header_and_a_huge_one(tmp_path: Path) -> None:
    (size,) = struct.unpack_from("<H", NEW, 94)
    with pytest.raises(DataError, match="has 65535 bytes, more than the header"):
        read(tmp_path / "a.laz", patched(NEW, size + 20, "<H", 65535))
    gap = bytearray(FLAT)
    gap[at(FLAT) : at(FLAT)] = bytes(2**24)  # between records and points
    with pytest.raises(DataError, match="at most 16777216 bytes are read"):
        read(tmp_path / "a.laz", patched(bytes(gap), START, "<I", at(FLAT) + 2**24))


def test_a_wkt_that_lies_is_no_crs(tmp_path: Path) -> None:
    wkt = NEW.index(b"LASF_Projection") + 52
    path = tmp_path / "a.laz"
    path.write_bytes(patched(NEW, wkt, "<9s", b"nonsense["))
    with pytest.raises(InputError, match="has no CRS"):
        open_source(str(path))


@pytest.mark.parametrize("kind", ["old", "new", "flat", "copc"])
def test_flipped_bytes_end_in_points_or_in_an_error_of_ours(tmp_path: Path, kind: str) -> None:
    if kind == "copc":
        (tmp_path / "a.laz").write_bytes(NEW)
        write_copc(tmp_path / "a.copc.laz", tmp_path / "a.laz", per_node=200, levels=3, pages=True)
    whole = (tmp_path / "a.copc.laz").read_bytes() if kind == "copc" else PLAIN[kind]
    rng, ends = random.Random(0), {"read": 0, "refused": 0}
    for _ in range(60):
        out = bytearray(whole)
        low = rng.choice([0, 0, len(out) - 2000])
        for _ in range(rng.choice([1, 2, 4])):
            place = low + rng.randrange(min(2000, len(out)) - 8)
            out[place : place + 4] = rng.choice([bytes(4), b"\xff" * 4, rng.randbytes(4)])
        try:
            read(tmp_path / f"{kind}.laz", bytes(out))
            ends["read"] += 1
        except GeomlError:
            ends["refused"] += 1
    assert min(ends.values()) > 0


def test_points_without_a_word(tmp_path: Path) -> None:
    """Withheld points and noise are no points, synthetic ones are told apart, all duplicates are one."""
    columns = made_points(400)
    for name, value in (("withheld", True), ("classification", 7), ("classification", 18)):
        gone = columns | {"withheld": np.zeros(400, bool)} | {name: np.full(400, value).astype(columns[name].dtype)}
        assert read(tmp_path / "a.laz", las_bytes(gone)) == 0
    one = {name: np.repeat(values[:1], 400) for name, values in columns.items()}
    one |= {"withheld": np.zeros(400, bool), "classification": np.full(400, 2, np.uint8)}
    assert read(tmp_path / "b.laz", las_bytes(one)) == 1


def test_a_million_chunks_of_a_point_are_read_together() -> None:
    found = [Chunk(40 * n, 40, 1) for n in range(1_000_000)]
    together = list(groups(found, 30))
    assert [c for group in together for c in group] == found
    assert len(together) == 5
    assert all(sum(c.size for c in group) <= GROUP for group in together)


def test_a_stale_box_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        whole = read(tmp_path / "a.las", FLAT)
        assert not caplog.records
        body = patched(FLAT, 179, "<d", 500_050.0)  # the largest x
        assert 0 < read(tmp_path / "a.las", body) == read(tmp_path / "a.las", body) < whole
    assert caplog.text.count("points lie beyond the box of its header") == 1


Change = Callable[[bytearray, int], None]
"""Of a file, and where the first entry of its first page is."""


def page_to_itself(file: bytearray, page: int) -> None:
    struct.pack_into("<Qii", file, page + 16, page, 32, -1)


def entry(form: str, place: int, *values: int) -> Change:
    return lambda file, page: struct.pack_into(form, file, page + place, *values)


COPC_LIES: dict[str, tuple[Change, str]] = {
    "a page that points to itself": (page_to_itself, "leads to itself"),
    "a page beyond the file": (entry("<Qii", 16, 2**40, 32, -1), "a page of its hierarchy has 32 bytes at byte"),
    "a page of no whole entry": (entry("<Qii", 16, 600, 33, -1), "a page of its hierarchy has 33 bytes"),
    "a node beyond the file": (entry("<Q", 16, 2**40), "which lies"),
    "a node of no bytes": (entry("<i", 24, 0), "which lies"),
    "a node of too few bytes": (entry("<i", 24, 40), "damaged or inconsistent|less than a point"),
    "a node with a point more": (entry("<i", 28, 201), "its hierarchy has 3001 points, its header says 3000"),
    "a node with 2**31 points": (entry("<i", 28, 2**31 - 1), "which lies"),
    "a node with -2 points": (entry("<i", 28, -2), "which lies"),
    "a key outside": (entry("<4i", 0, 1, 2, 0, 0), "a node 1-2-0-0, which is none"),
    "a level without end": (entry("<4i", 0, 2**30, 0, 0, 0), "which is none"),
}


@pytest.fixture(scope="module")
def copc(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("copc")
    (folder / "a.laz").write_bytes(NEW)
    write_copc(folder / "a.copc.laz", folder / "a.laz", per_node=200, levels=2)
    return (folder / "a.copc.laz").read_bytes()


@pytest.mark.parametrize("lie", COPC_LIES)
def test_a_hierarchy_that_lies_is_named(tmp_path: Path, copc: bytes, lie: str) -> None:
    change, message = COPC_LIES[lie]
    file = bytearray(copc)
    (page, size) = struct.unpack_from("<QQ", file, 375 + 54 + 40)
    keys = [struct.unpack_from("<4i", file, page + n) for n in range(0, size, 32)]
    change(file, page + 32 * keys.index((0, 0, 0, 0)))
    (tmp_path / "liar.copc.laz").write_bytes(file)
    with pytest.raises(DataError, match=message) as raised:
        read_window([open_source(str(tmp_path / "liar.copc.laz"), "EPSG:32632")], ALL)
    assert "liar.copc.laz" in str(raised.value)


def test_a_copc_whose_cube_or_sum_lies_is_named(tmp_path: Path, copc: bytes) -> None:
    for place, value, message in ((375 + 54 + 24, -1.0, "its octree has"), (375 + 54, float("nan"), "its octree has")):
        (tmp_path / "a.copc.laz").write_bytes(patched(copc, place, "<d", value))
        with pytest.raises(DataError, match=message):
            open_source(str(tmp_path / "a.copc.laz"), "EPSG:32632")
    (tmp_path / "a.copc.laz").write_bytes(patched(copc, COUNT, "<Q", 2**31))
    with pytest.raises(DataError, match="its hierarchy has 3000 points, its header says 2147483648"):
        read_window([open_source(str(tmp_path / "a.copc.laz"), "EPSG:32632")], ALL)


EPT_LIES: dict[str, tuple[str, object, str]] = {
    "binary tiles": ("dataType", "binary", "tiles of 'binary'"),
    "zstandard tiles": ("dataType", "zstandard", "tiles of 'zstandard'"),
    "no cube": ("bounds", [0, 0, 0, 1, 2, 3], "not a cube"),
    "bounds of words": ("bounds", ["a"] * 6, "expected six numbers"),
    "bounds turned over": ("boundsConforming", [5, 5, 5, 0, 0, 0], "expected six numbers"),
    "points below none": ("points", -1, "an EPT of '-1' points"),
    "points of words": ("points", "many", "an EPT of 'many' points"),
    "other points": ("points", 17, "its header says 17"),
}


@pytest.mark.parametrize("lie", EPT_LIES)
def test_a_document_that_lies_is_named(tmp_path: Path, lie: str) -> None:
    name, value, message = EPT_LIES[lie]
    path = write_ept(tmp_path / "tiles", made_points(600))
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(DataError, match=message) as raised:
        read_window([open_source(str(path))], ALL)
    assert "ept.json" in str(raised.value)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"../../../etc/passwd": 5}, "expected D-X-Y-Z"),
        ({"https://example.org/0-0-0-0": 5}, "expected D-X-Y-Z"),
        ({"0-0-0-0": "many"}, "expected D-X-Y-Z and a count"),
        ({"0-0-0-0": -2}, "expected D-X-Y-Z and a count"),
        ({"0-0-0-0": -1}, "leads to itself"),
        ({"1-9-9-9": 4}, "which is none"),
        ({"0-0-0-0": 101}, "has 100 points, its hierarchy says 101|its hierarchy has 101 points"),
        ([1, 2], "not an object"),
    ],
)
def test_pages_of_an_ept_that_lie_are_named(tmp_path: Path, entries: object, message: str) -> None:
    path = write_ept(tmp_path / "tiles", made_points(600))
    (path.parent / "ept-hierarchy" / "0-0-0-0.json").write_text(json.dumps(entries))
    with pytest.raises(DataError, match=message):
        read_window([open_source(str(path))], ALL)


def test_a_tile_that_is_missing_or_cut_is_named(tmp_path: Path) -> None:
    path = write_ept(tmp_path / "tiles", made_points(600))
    tile = path.parent / "ept-data" / "0-0-0-0.laz"
    tile.write_bytes(tile.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"0-0-0-0\.laz"):
        read_window([open_source(str(path))], ALL)
    tile.unlink()
    with pytest.raises(DataError, match=r"0-0-0-0\.laz: cannot be read"):
        read_window([open_source(str(path))], ALL)
    path.write_text("{" * 100_000)
    with pytest.raises(DataError, match="no JSON document"):
        open_source(str(path))
