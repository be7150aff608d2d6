"""Settings of malloc are those of glibc again afterwards, and elsewhere nothing is asked of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from geoml.engine.machine import memory

PROGRAM = """
import ctypes
from geoml.engine.machine.memory import keep_freed_memory
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def mapped(size=64 << 20):
    '''Whether malloc maps a large block by itself, which shows in the number of mappings.'''
    before = sum(1 for _ in open("/proc/self/maps"))
    resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    high = resident()
    libc.free(block)
    return high - resident() > size // 2

assert mapped(), "freed memory goes back at once"
with keep_freed_memory():
    assert not mapped(), "freed memory stays"
    assert not mapped()
assert mapped(), "as before"
try:
    with keep_freed_memory():
        raise KeyError("anything")
except KeyError:
    pass
assert mapped(), "also after an error"
"""


@pytest.mark.skipif(memory._glibc() is None, reason="glibc: not the C library of this system")
def test_freed_memory_stays_inside_and_goes_back_afterwards() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    memory._glibc.cache_clear()
    monkeypatch.setattr(memory.ctypes, "CDLL", absent)
    try:
        assert memory._glibc() is None
        with memory.keep_freed_memory():
            pass
        with pytest.raises(KeyError), memory.keep_freed_memory():
            raise KeyError("passes through")
    finally:
        memory._glibc.cache_clear()


def test_a_library_of_that_name_that_is_not_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    memory._glibc.cache_clear()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    try:
        assert memory._glibc() is None
    finally:
        memory._glibc.cache_clear()
