"""HDF5 and NetCDF-4 files of others: what could make the library read something else is refused before any data are.

A data set may keep its numbers in other files (external storage), be put together from them (virtual), or a link may
lead to one; all three are looked for in the whole file, by its own library, without opening what they name.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from geoml.errors import DataError, MissingExtra
from geoml.io.cog.limits import MAX_BLOCK_BYTES
from geoml.io.cubes.classic import SINGLE

MAX_OBJECTS = 100_000
"""Links of one file."""

FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset"}
"""Those of the library itself, by their registered numbers; others are code that is loaded from somewhere."""


def check_hdf5(path: Path) -> None:
    """Refuse a file that names others, packs data by what is not known, or in chunks too large to decode.

    Raises DataError that names the object, MissingExtra without h5py.
    """
    try:
        import h5py
    except ImportError as err:
        raise MissingExtra("HDF5 and NetCDF-4: h5py is not installed; pip install 'geoml[cube]'") from err
    try:
        with h5py.File(path, "r", locking=False) as file:
            _walk(file, str(path))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as err:
        raise DataError(f"{path}: not a readable HDF5 file ({err})") from err


def _walk(file: Any, where: str) -> None:
    """Every link of every group, each group once; nothing is followed but hard links."""
    import h5py

    todo, seen, count = [(file.id, "")], {_address(file.id)}, 0
    while todo:
        group, path = todo.pop()
        for name in group:
            count += 1
            if count > MAX_OBJECTS:
                raise DataError(f"{where}: more than {MAX_OBJECTS} objects")
            full = f"{path}/{name.decode('utf-8', 'replace')}"
            kind = group.links.get_info(name).type
            if kind == h5py.h5l.TYPE_SOFT:
                continue  # a path of the same file, whose end is looked at by its own hard link
            if kind != h5py.h5l.TYPE_HARD:
                raise DataError(
                    f"{where}: {full} is an external link, to another file; expected a file that names none"
                )
            child = h5py.h5o.open(group, name)
            if _address(child) in seen:
                continue
            seen.add(_address(child))
            if isinstance(child, h5py.h5g.GroupID):
                todo.append((child, full))
            elif isinstance(child, h5py.h5d.DatasetID):
                _check(child, f"{where}: {full}")


def _address(thing: Any) -> int:
    import h5py

    return int(h5py.h5o.get_info(thing).addr)


def _check(dataset: Any, where: str) -> None:
    import h5py

    for name in SINGLE:
        if h5py.h5a.exists(dataset, name.encode()):
            attribute = h5py.h5a.open(dataset, name.encode())
            text = attribute.get_type().get_class() == h5py.h5t.STRING
            if not text and (count := math.prod(attribute.shape)) != 1:
                raise DataError(f"{where}: {name} has {count} values; expected one")
    made = dataset.get_create_plist()
    if made.get_external_count():
        raise DataError(f"{where} keeps its data in another file (external storage); expected a file that names none")
    layout = made.get_layout()
    if layout == h5py.h5d.VIRTUAL:
        raise DataError(f"{where} is made of data sets of other files (virtual); expected a file that names none")
    filters = [made.get_filter(k)[0] for k in range(made.get_nfilters())]
    if strange := [number for number in filters if number not in FILTERS]:
        raise DataError(f"{where} is packed by filter {strange[0]}; expected one of {', '.join(FILTERS.values())}")
    if layout == h5py.h5d.CHUNKED:
        size = dataset.dtype.itemsize
        for n in made.get_chunk():
            size *= n
        if size > MAX_BLOCK_BYTES:
            raise DataError(f"{where}: one chunk decodes to {size} bytes; at most {MAX_BLOCK_BYTES} are read")
