"""The blocks of a plan as columns: a continent has tens of thousands, and a worker needs eight of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema

from geoml.grid.plane import Plane
from geoml.recipe import Frozen

GROUP = 1024
"""Blocks of a row group: their items are decoded together."""

SCHEMA = pa.schema(
    [
        ("zone", pa.uint16()),
        ("iy", pa.int32()),
        ("ix", pa.int32()),
        ("hash", pa.string()),
        ("items", pa.list_(pa.uint32())),
        ("near", pa.list_(pa.uint32())),
    ]
)
"""Items are rows of the run's ``sources.parquet``."""

KEYS = ["zone", "iy", "ix", "hash"]


class PlannedBlock(Frozen):
    """A block with the items that touch it, in the order they were found."""

    zone: int
    iy: int
    ix: int
    items: tuple[str, ...]
    hash: str = Field(
        description="of model, items, grid, region part and parameters: the block is done when its item has it"
    )
    near: tuple[str, ...] | None = Field(
        default=None,
        description="other items whose pixels may reach it, for footprints are simplified; None in older plans: any",
    )


class BlockTable(Sequence[PlannedBlock]):
    """The blocks of a plan, in its order; each is made when it is asked for.

    ``keys`` has the columns `KEYS` of all blocks, ``lists(n)`` the columns items and near of the n-th `GROUP` of them,
    and ``ids()`` the ids of the items by row.
    """

    def __init__(self, keys: pa.Table, lists: Callable[[int], pa.Table], ids: Callable[[], Sequence[str]]) -> None:
        self._keys, self._lists, self._ids = keys.combine_chunks(), lists, ids
        self._named: tuple[tuple[tuple[Plane, ...], int], dict[str, int]] | None = None

    @classmethod
    def of(cls, blocks: Iterable[PlannedBlock]) -> BlockTable:
        """Of blocks that are there one by one."""
        blocks = list(blocks)
        rows = {key: n for n, key in enumerate(dict.fromkeys(k for b in blocks for k in (*b.items, *(b.near or ()))))}
        values = [
            b.model_dump(exclude={"items", "near"})
            | {"items": [rows[k] for k in b.items], "near": None if b.near is None else [rows[k] for k in b.near]}
            for b in blocks
        ]
        return cls.of_table(pa.Table.from_pylist(values, SCHEMA), list(rows))

    @classmethod
    def of_table(cls, table: pa.Table, ids: Sequence[str]) -> BlockTable:
        """Of a table with `SCHEMA`, whose items are rows of ``ids``."""
        return cls(table.select(KEYS), lambda n: table.slice(n * GROUP, GROUP), lambda: ids)

    @classmethod
    def of_parquet(cls, body: bytes, ids: Callable[[], Sequence[str]]) -> BlockTable:
        """Of a file that `parquet` made; the items of a group are decoded when one of its blocks is asked for.

        Raises ArrowException, OSError or ValueError for a damaged file.
        """
        file = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True)
        if file.schema_arrow != SCHEMA:
            raise ValueError("the columns are not those of the blocks of a plan")
        return cls(file.read(KEYS), lru_cache(8)(lambda n: file.read_row_group(n, ["items", "near"])), ids)

    def parquet(self) -> bytes:
        """The whole as Parquet, the same for equal blocks."""
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, SCHEMA, compression="zstd", write_page_checksum=True) as out:
            for n in range(-(-len(self) // GROUP)):
                keys, lists = self._keys.slice(n * GROUP, GROUP), self._lists(n)
                out.write_table(pa.table([*keys.columns, lists["items"], lists["near"]], schema=SCHEMA))
        body: bytes = sink.getvalue().to_pybytes()
        return body

    def with_hashes(self, change: Callable[[str], str]) -> BlockTable:
        """The same with other hashes."""
        hashes = pa.array([change(h) for h in self.hashes], pa.string())
        return BlockTable(self._keys.set_column(3, SCHEMA.field("hash"), hashes), self._lists, self._ids)

    @property
    def hashes(self) -> list[str]:
        """Of all blocks."""
        found: list[str] = self._keys["hash"].to_pylist()
        return found

    def rows(self, planes: Sequence[Plane], size: int) -> Mapping[str, int]:
        """Where each block is, by the id of `geoml.grid.plane.Block`; in the order of the plan."""
        asked = tuple(planes), size
        if self._named is None or self._named[0] != asked:
            names = [f"{plane.code}_{size}" for plane in planes]
            places = zip(*(self._keys[name].to_pylist() for name in ("zone", "iy", "ix")), strict=True)
            self._named = asked, {f"{names[z]}_y{y}_x{x}": n for n, (z, y, x) in enumerate(places)}
        return self._named[1]

    def users(self) -> Iterator[tuple[int, list[str]]]:
        """The position of each block with the ids of its items."""
        ids = self._ids()
        for start in range(0, len(self), GROUP):
            for n, rows in enumerate(self._lists(start // GROUP)["items"].to_pylist(), start=start):
                yield n, [ids[row] for row in rows]

    def __len__(self) -> int:
        return int(self._keys.num_rows)

    @overload
    def __getitem__(self, at: int) -> PlannedBlock: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[PlannedBlock, ...]: ...

    def __getitem__(self, at: int | slice) -> PlannedBlock | tuple[PlannedBlock, ...]:
        if isinstance(at, slice):
            return tuple(self[n] for n in range(*at.indices(len(self))))
        n = range(len(self))[at]
        group, row = divmod(n, GROUP)
        lists, ids = self._lists(group), self._ids()
        items, near = (lists[name][row].as_py() for name in ("items", "near"))
        return PlannedBlock(
            **{name: self._keys[name][n].as_py() for name in KEYS},
            items=tuple(ids[k] for k in items),
            near=None if near is None else tuple(ids[k] for k in near),
        )

    def __eq__(self, other: object) -> bool:
        """Equal blocks, whatever the rows of their items are."""
        if not isinstance(other, BlockTable):
            return NotImplemented
        if len(self) != len(other) or not self._keys.equals(other._keys):
            return False
        return all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Taken as it is, or as a list of blocks, which is what it becomes in JSON."""
        several = TypeAdapter(tuple[PlannedBlock, ...])

        def taken(value: object) -> BlockTable:
            return value if isinstance(value, cls) else cls.of(several.validate_python(value))

        def given(value: BlockTable) -> list[dict[str, Any]]:
            return [b.model_dump(mode="json", exclude_none=True) for b in value]

        return core_schema.no_info_plain_validator_function(
            taken, serialization=core_schema.plain_serializer_function_ser_schema(given)
        )


def columns(
    blocks: Sequence[tuple[int, int, int]], hashes: Sequence[str], lists: Sequence[tuple[np.ndarray, np.ndarray]]
) -> pa.Table:
    """A table with `SCHEMA` of (zone, iy, ix), hashes, and the ragged columns items and near as (offsets, rows)."""
    zone, iy, ix = np.array(blocks, np.int64).reshape(-1, 3).T
    ragged = [pa.ListArray.from_arrays(_flat(o.astype(np.int32)), _flat(v.astype(np.uint32))) for o, v in lists]
    arrays = [_flat(zone.astype(np.uint16)), _flat(iy.astype(np.int32)), _flat(ix.astype(np.int32)), _texts(hashes)]
    return pa.Table.from_arrays([*arrays, *ragged], schema=SCHEMA)


def _flat(values: np.ndarray) -> pa.Array:
    """As ``pa.array``, which would import pandas to see whether it is one of its columns."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _texts(values: Sequence[str]) -> pa.Array:
    coded = [v.encode() for v in values]
    ends = np.cumsum([0, *map(len, coded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(coded), pa.py_buffer(ends), pa.py_buffer(b"".join(coded)))
