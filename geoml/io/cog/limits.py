"""How much memory a raster may ask for by its header alone: a kilobyte on the wire could ask for gigabytes."""

from __future__ import annotations

from geoml.errors import DataError
from geoml.settings import settings

MAX_BLOCK_BYTES = 128 * 2**20
"""A file whose tiles decode to more is refused."""

TABLE_ENTRY = 16
"""Bytes of memory for each tile: where it is and how long, 64 bits each."""


def check_size(where: str, shape: tuple[int, int, int], tile: tuple[int, int], planes: int, itemsize: int) -> None:
    """Raises DataError if one tile of a level, or the table that says where its tiles are, takes too much memory.

    ``shape`` is (bands, rows, columns), ``tile`` (rows, columns) with ``planes`` bands of ``itemsize`` bytes in each.
    What a file declares costs nothing: a window of a continent is as cheap as one of a village.
    """
    count, height, width = shape
    if (block := tile[0] * tile[1] * planes * itemsize) > MAX_BLOCK_BYTES:
        raise DataError(f"{where}: one tile of it decodes to {block} bytes; at most {MAX_BLOCK_BYTES} are read")
    tiles = -(-height // tile[0]) * -(-width // tile[1]) * count // planes
    if (table := tiles * TABLE_ENTRY) > settings().max_table_bytes:
        raise DataError(
            f"{where}: declares {width} x {height} x {count} in tiles of {tile[1]} x {tile[0]}; the table of where they"
            f" are takes {table} bytes, more than GEOML_MAX_TABLE_BYTES"
        )
