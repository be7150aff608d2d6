"""The records of a ``.pt2`` archive, as slices of bytes in memory: nothing is decompressed or copied.

torch writes its records uncompressed and one after another. An archive that does otherwise (compressed or overlapping
records, names that differ in case only) can expand, or mean two things to two readers, and is refused.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geoml.errors import ModelError

Unchecked = Any
"""JSON of a program as it was parsed: nothing of it is known yet."""
MOST_RECORDS = 20_000
"""One for each weight and a few more; the largest networks have a few thousand."""
MOST_JSON = 64 * 2**20
"""Bytes of a record of JSON."""

_ENTRY = b"PK\x01\x02"
_LOCAL = struct.Struct("<4s22xHH")
"""A record's own header: signature, then the lengths of its name and of its extra field."""
_PLAIN = re.compile(r"data/(weights|constants)/[\w.]+|archive_format|archive_version|byteorder|\.data/\w+", re.ASCII)
_GRAPH = re.compile(r"([^/]+)/models/(\w+)\.json", re.ASCII)


@dataclass(frozen=True)
class Archive:
    """One program: its records by name without the folder, and the name of its JSON records."""

    records: Mapping[str, memoryview]
    name: str
    where: str

    def json(self, record: str) -> Unchecked:
        """A JSON record. Raises ModelError for one that is missing, too large or not JSON."""
        content = self.record(record)
        if len(content) > MOST_JSON:
            raise ModelError(f"{self.where}: {record} has {len(content)} bytes; expected at most {MOST_JSON}")
        try:
            return json.loads(bytes(content))
        except (ValueError, RecursionError) as err:
            raise ModelError(f"{self.where}: {record} is not JSON ({err})") from err

    def record(self, record: str) -> memoryview:
        """The bytes of a record. Raises ModelError for one that is missing."""
        if record not in self.records:
            raise ModelError(f"{self.where}: not a torch.export program; {record} is missing")
        return self.records[record]


def open_archive(content: bytes, where: str) -> Archive:
    """The records of an archive that holds one program and nothing else. Raises ModelError."""
    records = _records(content, where)
    graphs = [match for name in records if (match := _GRAPH.fullmatch(name))]
    if len(graphs) != 1:
        raise ModelError(f"{where}: {len(graphs)} programs in the archive; expected one")
    root, name = graphs[0].groups()
    unread = f"{root}/data/sample_inputs/{name}.pt"  # pickled: it is not looked at
    for record in records:
        folder, _, rest = record.partition("/")
        plain = folder == root and _PLAIN.fullmatch(rest) and not rest.endswith(".pt")
        if not (plain or record in (graphs[0].string, unread)):
            raise ModelError(f"{where}: {record} is not part of a plain program; only tensors and operators are loaded")
    if (order := bytes(records.get(f"{root}/byteorder", b"little"))) != b"little":
        raise ModelError(f"{where}: numbers in byte order {order[:16]!r}; expected little")
    return Archive({record[len(root) + 1 :]: part for record, part in records.items()}, name, where)


def _records(content: bytes, where: str) -> dict[str, memoryview]:
    if content.count(_ENTRY) > 2 * MOST_RECORDS:  # before they are listed; weights may hold it by chance
        raise ModelError(f"{where}: more than {MOST_RECORDS} records in the archive")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = sorted(archive.infolist(), key=lambda e: e.header_offset)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError) as err:
        raise ModelError(f"{where}: not a .pt2 archive ({err})") from err
    if len(entries) > MOST_RECORDS:
        raise ModelError(f"{where}: {len(entries)} records in the archive; expected at most {MOST_RECORDS}")
    records: dict[str, memoryview] = {}
    seen, end = set[str](), 0
    for entry in entries:
        name = entry.orig_filename
        if name.casefold() in seen:
            raise ModelError(f"{where}: two records called {name!r}; not a .pt2 archive")
        seen.add(name.casefold())
        records[name], end = _record(content, entry, end, where)
    return records


def _record(content: bytes, entry: zipfile.ZipInfo, after: int, where: str) -> tuple[memoryview, int]:
    """The bytes of a record and where they end; it has to start ``after`` the one before it."""
    name, start = entry.orig_filename, entry.header_offset
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
        raise ModelError(f"{where}: {name} is compressed or encrypted; expected it as torch.export.save writes it")
    if start < after or start + _LOCAL.size > len(content):
        raise ModelError(f"{where}: {name} lies over another record; not a .pt2 archive")
    signature, letters, extra = _LOCAL.unpack_from(content, start)
    first = start + _LOCAL.size
    begin = first + letters + extra
    end = begin + entry.file_size
    if signature != b"PK\x03\x04" or content[first : first + letters] != name.encode() or end > len(content):
        raise ModelError(f"{where}: {name} is not where the archive says; not a .pt2 archive")
    part = memoryview(content)[begin:end]
    if zlib.crc32(part) != entry.CRC:
        raise ModelError(f"{where}: {name} is damaged (its checksum differs); not a .pt2 archive")
    return part, end
