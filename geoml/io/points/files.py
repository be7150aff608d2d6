"""Bytes of a file of points, on this machine or elsewhere, by range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from geoml.errors import DataError


class PointBytes(Protocol):
    """A file that is read by range; both methods raise errors of ours."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    def read(self, start: int, count: int) -> bytes:
        """``count`` bytes from ``start``, fewer at the end of the file."""

    def read_all(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """As `read` for many (start, stop), in as few requests as there are places."""


class LocalBytes:
    """A file of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.size = path.stat().st_size
        except OSError as err:
            raise DataError(f"cannot be read ({err.strerror})") from err

    def read(self, start: int, count: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                return file.read(max(0, min(count, self.size - start)))
        except OSError as err:
            raise DataError(f"cannot be read ({err.strerror})") from err

    def read_all(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return [self.read(start, stop - start) for start, stop in ranges]
