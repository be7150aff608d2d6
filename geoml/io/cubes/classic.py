"""Headers of classic netCDF files of others, looked at before GDAL opens them.

Format: https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html, versions 1, 2 and 5.
"""

from __future__ import annotations

from pathlib import Path

from geoml.errors import DataError

SINGLE = ("scale_factor", "add_offset", "_FillValue", "missing_value", "valid_min", "valid_max")
"""Attributes that CF has as one number; readers keep room for no more."""

MAX_HEADER = 2**24
"""Bytes."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
_DIMENSION, _VARIABLE, _ATTRIBUTE = 10, 11, 12


def check_classic(path: Path) -> None:
    """Refuse a file with an invalid header, or with several numbers where CF has one. Raises DataError."""
    with path.open("rb") as file:
        header = _Header(file.read(MAX_HEADER))
    try:
        header.check()
    except (IndexError, ValueError) as err:
        raise DataError(f"{path}: not a readable header of netCDF ({err})") from err
    except DataError as err:
        raise DataError(f"{path}: {err}") from err


class _Header:
    def __init__(self, data: bytes) -> None:
        self._data, self._at, version = data, 4, data[3]
        self._count = 8 if version == 5 else 4
        self._offset = 4 if version == 1 else 8

    def check(self) -> None:
        self._number(self._count)
        for _ in range(self._list(_DIMENSION)):
            self._name()
            self._number(self._count)
        self._attributes("the file")
        for _ in range(self._list(_VARIABLE)):
            name = self._name()
            self._skip(self._number(self._count) * self._count)
            self._attributes(name)
            self._skip(4 + self._count + self._offset)

    def _attributes(self, where: str) -> None:
        for _ in range(self._list(_ATTRIBUTE)):
            name, kind, count = self._name(), self._number(4), self._number(self._count)
            if kind not in _SIZES:
                raise ValueError(f"{where}: type {kind} of {name}")
            self._skip(count * _SIZES[kind])
            if name in SINGLE and kind != 2 and count != 1:
                raise DataError(f"{where}: {name} has {count} values; expected one")

    def _list(self, tag: int) -> int:
        found, count = self._number(4), self._number(self._count)
        if found != tag and (found or count):
            raise ValueError(f"a list of kind {found}; expected {tag}")
        return count

    def _name(self) -> str:
        size = self._number(self._count)
        start = self._at
        self._skip(size)
        return self._data[start : start + size].decode("utf-8", "replace")

    def _number(self, size: int) -> int:
        start = self._at
        self._skip(size)
        return int.from_bytes(self._data[start : start + size], "big")

    def _skip(self, size: int) -> None:
        self._at += size + -size % 4
        if self._at > len(self._data):
            raise ValueError(f"it ends after {len(self._data)} bytes")
