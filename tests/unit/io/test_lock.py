"""One driver at a time: locks that live, die, are taken over and are lost."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from geoml.errors import DataError, TransientError
from geoml.io.lock import NAME, FileSlot, Holder, _lost, check, hold, parse
from geoml.io.remote import run_store

HOLD = """
import sys, time
from geoml.io.remote import run_store
with run_store(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(600)
"""


def holder(**changes: Any) -> Holder:
    now = dt.datetime.now(dt.UTC).isoformat()
    return replace(Holder("elsewhere", 4711, now, now, "token", "another boot/pid:[1]", "99"), **changes)


def put(out: Path, held: Holder) -> Path:
    path = out / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(held)))
    return path


def ago(seconds: float) -> str:
    return (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)).isoformat()


def other_process(out: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_it_is_there_while_held_and_gone_afterwards(tmp_path: Path) -> None:
    store = run_store(tmp_path / "out")
    assert store.holder() is None
    with store.lock() as me:
        found = store.holder()
        assert found == me
        assert found is not None
        assert found.alive
        assert (found.pid, found.gone) == (os.getpid(), False)
        with (
            pytest.raises(TransientError, match=rf"being worked on by pid {os.getpid()} on \S+ since \d{{4}}-"),
            store.lock(),
        ):
            pass
    assert store.holder() is None
    assert not run_store(tmp_path / "out").sizes()
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    assert store.holder() is None, "an error lets it go, too"


def test_another_process_holds_it_until_it_is_killed(tmp_path: Path) -> None:
    """The kernel knows that the holder is dead: nobody waits for the lease of a minute."""
    store = run_store(tmp_path / "out")
    process = other_process(tmp_path / "out")
    try:
        with pytest.raises(TransientError, match=f"pid {process.pid} on"), store.lock():
            pass
        process.send_signal(signal.SIGKILL)
        ends = time.monotonic() + 10
        while (found := store.holder()) is not None and not found.gone:  # a zombie counts as dead
            assert time.monotonic() < ends
    finally:
        process.kill()
    start = time.monotonic()
    with store.lock() as me:
        assert store.holder() == me
    assert time.monotonic() - start < 1
    process.communicate()


def test_a_pid_that_another_process_got_is_dead(tmp_path: Path) -> None:
    store = run_store(tmp_path)
    with store.lock() as me:
        pass
    put(tmp_path, replace(me, born="1"))
    with store.lock():
        assert store.holder() != me


def test_elsewhere_the_lease_decides(tmp_path: Path, machine: Callable[..., None]) -> None:
    machine(lease=1.0)
    store = run_store(tmp_path)
    put(tmp_path, holder())
    with pytest.raises(TransientError, match="pid 4711 on elsewhere"), store.lock():
        pass
    put(tmp_path, holder(renewed=ago(2)))
    start = time.monotonic()
    with store.lock():
        assert time.monotonic() - start >= 0.4, "watched first"


def test_a_clock_that_is_behind_does_not_cost_the_lock(tmp_path: Path, machine: Callable[..., None]) -> None:
    """Its times look an hour old, but it is being renewed."""
    machine(lease=2.0)
    store = run_store(tmp_path)
    path = put(tmp_path, holder(renewed=ago(3600)))
    timer = threading.Timer(0.3, lambda: path.write_text(json.dumps(asdict(holder(renewed=ago(3599))))))
    timer.start()
    with pytest.raises(TransientError, match="elsewhere"), store.lock():
        pass
    timer.join()


@pytest.mark.parametrize("body", ["", "{", "[]", '{"pid": 1}', '{"host": 1, "pid": "x"}'])
def test_half_a_lock_is_taken_over_after_the_lease(body: str, tmp_path: Path, machine: Callable[..., None]) -> None:
    """What a kill between two system calls may leave."""
    machine(lease=0.3)
    path = put(tmp_path, holder())
    path.write_text(body)
    assert parse(body.encode()) is None
    with run_store(tmp_path).lock() as me:
        assert run_store(tmp_path).holder() == me


def test_it_is_renewed(tmp_path: Path, machine: Callable[..., None]) -> None:
    machine(lease=0.4)
    store = run_store(tmp_path)
    with store.lock() as me:
        time.sleep(1.0)
        found = store.holder()
        assert found is not None
        assert found.token == me.token
        assert found.renewed > me.renewed
        assert found.alive


def test_who_lost_it_publishes_nothing_more(tmp_path: Path, machine: Callable[..., None]) -> None:
    machine(lease=0.4)
    store = run_store(tmp_path)
    with store.lock():
        store.push()
        put(tmp_path, holder())  # another one thought this process dead, and took over
        ends = time.monotonic() + 10
        while store.url not in _lost:
            assert time.monotonic() < ends
            time.sleep(0.02)
        with pytest.raises(TransientError, match="taken over"):
            store.push()
    found = store.holder()
    assert found is not None
    assert found.host == "elsewhere", "the lock of another one stays"
    check(store.url)  # it is about this hold only


def test_of_many_who_take_over_one_does(tmp_path: Path) -> None:
    slot = FileSlot(tmp_path / NAME)
    put(tmp_path, replace(holder(), pid=1))
    found = slot.read()
    assert found is not None
    gate = threading.Barrier(8)

    def take(k: int) -> object:
        gate.wait()
        return slot.write(f"{k}".encode(), found[1])

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(take, range(8)))
    assert len([t for t in told if t is not None]) == 1
    gate = threading.Barrier(8)
    slot.path.unlink()

    def make(k: int) -> object:
        gate.wait()
        return slot.write(f"{k}".encode(), None)

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(make, range(8)))
    assert len([t for t in told if t is not None]) == 1


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match=r"lock\.json: not "), hold(FileSlot(tmp_path / "file" / NAME), "out"):
        pass
