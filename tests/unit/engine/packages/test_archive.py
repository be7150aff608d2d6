"""Archives that say two things, or more than their bytes: refused before anything of them is used."""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile
from collections.abc import Sequence

import pytest

from geoml.engine.packages import archive
from geoml.errors import ModelError

RECORDS = {
    "archive/models/model.json": b'{"a": 1}',
    "archive/archive_format": b"pt2",
    "archive/byteorder": b"little",
    "archive/data/weights/weight_0": b"12345678",
    "archive/data/sample_inputs/model.pt": b"not looked at",
    "archive/.data/serialization_id": b"0",
}


def made(*more: tuple[str, bytes], compression: int = zipfile.ZIP_STORED, less: Sequence[str] = ()) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in [*((n, c) for n, c in RECORDS.items() if n not in less), *more]:
            file.writestr(name, content)
    return buffer.getvalue()


def test_the_records_are_slices_of_the_bytes() -> None:
    content = made()
    found = archive.open_archive(content, "m.pt2")
    assert found.name == "model"
    assert found.json(f"models/{found.name}.json") == {"a": 1}
    part = found.record("data/weights/weight_0")
    assert part.obj is content
    assert bytes(part) == b"12345678"
    with pytest.raises(ModelError, match="weight_1 is missing"):
        found.record("data/weights/weight_1")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "name", ["archive/data/weights/weight_0", "archive/data/weights/WEIGHT_0", "archive/models/Model.json"]
)
def test_equal_names_are_refused(name: str) -> None:
    """torch finds records whatever their case."""
    with pytest.raises(ModelError, match="two records called"):
        archive.open_archive(made((name, b"other")), "m.pt2")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_records_are_refused(compression: int) -> None:
    content = made(("archive/data/weights/weight_1", bytes(2**20)), compression=compression)
    assert len(content) < 2**15
    with pytest.raises(ModelError, match="is compressed or encrypted"):
        archive.open_archive(content, "m.pt2")


def entries(content: bytes) -> list[int]:
    """Where the entries of the archive's directory start."""
    found, at = [], content.find(b"PK\x01\x02")
    while at >= 0:
        found.append(at)
        at = content.find(b"PK\x01\x02", at + 4)
    return found


def test_records_over_one_another_are_refused() -> None:
    """Two entries of the directory with the bytes of one: as many as wanted would fill the memory."""
    content = bytearray(made(("archive/data/weights/weight_1", b"12345678")))
    directory = entries(content)
    first, last = directory[3], directory[-1]
    content[last + 42 : last + 46] = content[first + 42 : first + 46]  # where its record starts
    with pytest.raises(ModelError, match=r"lies over another record|not where the archive says"):
        archive.open_archive(bytes(content), "m.pt2")


def test_a_size_beyond_the_file_is_refused() -> None:
    content = bytearray(made())
    last = entries(content)[-1]
    content[last + 20 : last + 28] = struct.pack("<II", 2**30, 2**30)
    with pytest.raises(ModelError, match=r"not a \.pt2 archive"):
        archive.open_archive(bytes(content), "m.pt2")


def test_a_flipped_byte_of_a_record_is_found() -> None:
    content = bytearray(made())
    content[content.find(b"12345678") + 3] ^= 4
    with pytest.raises(ModelError, match=r"weight_0 is damaged"):
        archive.open_archive(bytes(content), "m.pt2")


@pytest.mark.parametrize(
    "name",
    [
        "archive/data/weights/model.pt",
        "archive/data/aotinductor/model/model.so",
        "archive/extra/notes",
        "other/data/weights/weight_1",
        "../data/weights/weight_1",
        "archive/data/weights/ｗeight_1",
        "archive/data/weights/",
        "archive/code/model.py",
    ],
)
def test_other_records_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="is not part of a plain program"):
        archive.open_archive(made((name, b"")), "m.pt2")


def test_one_program_in_the_byte_order_of_this_machine() -> None:
    with pytest.raises(ModelError, match="0 programs"):
        archive.open_archive(made(less=["archive/models/model.json"]), "m.pt2")
    with pytest.raises(ModelError, match="2 programs"):
        archive.open_archive(made(("archive/models/second.json", b"{}")), "m.pt2")
    with pytest.raises(ModelError, match="byte order"):
        archive.open_archive(made(("archive/byteorder", b"big"), less=["archive/byteorder"]), "m.pt2")


def test_too_many_records_are_refused_before_they_are_listed() -> None:
    names = [(f"archive/data/weights/weight_{k}", b"") for k in range(1, archive.MOST_RECORDS + 1)]
    with pytest.raises(ModelError, match=r"records in the archive"):
        archive.open_archive(made(*names), "m.pt2")
    start = time.process_time()
    with pytest.raises(ModelError, match=r"more than 20000 records in the archive"):
        archive.open_archive(made() + b"PK\x01\x02" * 2_000_000, "m.pt2")
    assert time.process_time() - start < 1


def test_json_that_is_none() -> None:
    for text, said in ((b"{", "not JSON"), (b"[" * 100_000, "not JSON"), (b"\xff", "not JSON")):
        found = archive.open_archive(made(("archive/models/model.json", text), less=["archive/models/model.json"]), "m")
        with pytest.raises(ModelError, match=said):
            found.json(f"models/{found.name}.json")
    assert json.loads(RECORDS["archive/models/model.json"]) == {"a": 1}
