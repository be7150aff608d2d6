"""Single items of a stac-geoparquet file: each is made when it is asked for, once in a process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq
import pystac

from geoml.errors import DataError
from geoml.io.stac.rows import UNREADABLE
from geoml.io.stores.store import check_regular, stamp

GROUPS = 24
"""Row groups that are kept decoded: blocks side by side use items that stand together."""
ITEMS = 4096
"""Items that are kept."""


class ItemTable:
    """The items of the file at ``path``, by id. Row groups without an item that was asked for are not read.

    Raises DataError for what is not a stac-geoparquet file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, Lock()
        self.groups_read = 0
        try:
            self._file = pq.ParquetFile(check_regular(path), page_checksum_verification=True)
            self.ids: list[str] = self._file.read(["id"])["id"].to_pylist()
        except UNREADABLE as err:
            raise DataError(f"{path}: not a stac-geoparquet file ({err})") from err
        self._place: dict[str, tuple[int, int]] = {}
        start = 0
        for group in range(self._file.num_row_groups):
            end = start + self._file.metadata.row_group(group).num_rows
            self._place |= {key: (group, n) for n, key in enumerate(self.ids[start:end])}
            start = end
        self._groups: OrderedDict[int, pa.Table] = OrderedDict()
        self._items: OrderedDict[str, pystac.Item] = OrderedDict()

    def items(self, ids: Iterable[str]) -> list[pystac.Item]:
        """The items called ``ids``, in their order. Raises DataError for one that is not there or is damaged."""
        from geoml.io.stac.table import items_of  # pandas, which one who asks for the ids does without

        wanted = list(ids)
        with self._lock:
            missing: dict[int, list[str]] = {}
            for key in dict.fromkeys(wanted):
                if key in self._items:
                    self._items.move_to_end(key)
                elif key in self._place:
                    missing.setdefault(self._place[key][0], []).append(key)
                else:
                    raise DataError(f"{self.path}: has no item {key!r}; run the command again")
            for group, keys in missing.items():
                rows = self._group(group).take([self._place[key][1] for key in keys])
                self._items |= zip(keys, items_of(rows, self.path), strict=True)
            found = [self._items[key] for key in wanted]
            while len(self._items) > max(ITEMS, len(wanted)):
                self._items.popitem(last=False)
        return found

    def _group(self, group: int) -> pa.Table:
        if group not in self._groups:
            try:
                self._groups[group] = self._file.read_row_group(group)
            except UNREADABLE as err:
                raise DataError(f"{self.path}: not a stac-geoparquet file ({err})") from err
            self.groups_read += 1
            while len(self._groups) > GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        return self._groups[group]


def item_table(path: Path) -> ItemTable:
    """The table of a file as it is now; read once in a process as long as it stays the same. Raises DataError."""
    return _opened(path, stamp(path))


@lru_cache(maxsize=2)
def _opened(path: Path, now: tuple[int, int, int] | None) -> ItemTable:
    return ItemTable(path)
