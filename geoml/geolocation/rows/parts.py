"""Rows of pictures on disk while a run goes on, each found by a key that says all that went into it.

A part is a Parquet file that is whole or not there; a kill costs the part that was worked on.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from geoml.errors import DataError, TransientError, out_of_memory
from geoml.geolocation.pictures.prepare import Row
from geoml.geolocation.rows.schema import joined
from geoml.io.stores.store import atomic, check_regular, within

log = logging.getLogger(__name__)

_OPEN = 4
"""Parts that are held in memory."""


class RowParts:
    """The parts in a folder. ``in`` tells whether a key is there; memory is that of the keys.

    ``more`` are columns in addition to those of `geoml.geolocation.rows.schema`.
    """

    def __init__(self, folder: Path, more: pa.Schema | None = None) -> None:
        self.folder = within(folder.parent, f"{folder.name}/part").parent
        key = pa.field("key", pa.binary(32), nullable=False)
        self._stored = pa.schema(
            [key, *[f for f in joined(more) if f.name != "geometry" and not f.name.endswith("bbox")]]
        )
        self._where: dict[bytes, tuple[int, int]] = {}
        self._open: OrderedDict[int, list[Row]] = OrderedDict()
        self._last = -1
        for path in sorted(folder.glob("*.parquet")):
            self._look(path)
        for stale in folder.glob(".*.part"):  # of a run that was killed
            with suppress(OSError):
                stale.unlink()

    def __contains__(self, key: object) -> bool:
        return key in self._where

    def __len__(self) -> int:
        return len(self._where)

    def add(self, keys: Sequence[bytes], rows: Sequence[Row]) -> None:
        """Write a part. Raises DataError if it cannot be written."""
        number = self._last + 1
        values = [{**row, "key": key} for key, row in zip(keys, rows, strict=True)]
        with atomic(self._path(number)) as temporary:
            table = pa.Table.from_pylist(values, schema=self._stored)
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        self._last = number
        self._where.update((key, (number, row)) for row, key in enumerate(keys))
        self._hold(number, table)

    def get(self, key: bytes) -> Row:
        """The row of a key that is there, as it was read back. Raises KeyError for another, DataError."""
        number, row = self._where[key]
        if number not in self._open:
            try:
                table = pq.read_table(self._path(number), schema=self._stored, page_checksum_verification=True)
            except (OSError, pa.ArrowException) as err:
                raise DataError(f"{self._path(number)}: a part of this run is not readable any more ({err})") from err
            self._hold(number, table)
        self._open.move_to_end(number)
        return dict(self._open[number][row])

    def _hold(self, number: int, table: pa.Table) -> None:
        """Keep the rows of a part in memory, as they are stored."""
        self._open[number] = table.drop_columns(["key"]).to_pylist()
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:07d}.parquet"

    def _look(self, path: Path) -> None:
        try:
            number = int(path.stem)
            table = pq.read_table(check_regular(path), schema=self._stored, page_checksum_verification=True)
        except (OSError, ValueError, pa.ArrowException) as err:
            if out_of_memory(err):
                raise TransientError(f"{path}: not read: not enough memory") from err
            log.warning("%s: not a complete part, its pictures are located again (%s)", path, err)
            path.unlink(missing_ok=True)
            return
        self._last = max(self._last, number)
        self._where.update((key, (number, row)) for row, key in enumerate(table["key"].to_pylist()))
