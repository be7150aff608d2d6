"""Memory that a CPU model frees is kept for its next chip.

glibc maps every large tensor again and the kernel fills it with zeros, layer after layer: a quarter of the CPU time of
a U-Net (docs/performance.md), and more on a virtual machine whose host takes freed pages back.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# names and numbers of mallopt(3)
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_KEEP = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0, _ARENA_MAX: 1}  # one arena: what one thread frees serves another
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536, _ARENA_MAX: 0}


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
        library.gnu_get_libc_version  # noqa: B018  musl and others have no such name
    except (OSError, AttributeError):
        return None
    return library


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """While inside, freed memory stays with the process; afterwards the system gets it. Does nothing without glibc."""
    glibc = _glibc()
    if glibc is None:
        yield
        return
    for name, value in _KEEP.items():
        glibc.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in _DEFAULTS.items():
            glibc.mallopt(name, value)
        glibc.malloc_trim(0)
