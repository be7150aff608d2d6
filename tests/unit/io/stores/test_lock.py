"""One driver at a time: locks that live, die, are taken over and are lost."""

from __future__ import annotations

import datetime as dt
import fcntl
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

from geoml.engine.run.state import state
from geoml.errors import DataError, TransientError
from geoml.io.stores.lock import NAME, FileSlot, Holder, _lost, check_held, hold_lock, parse_holder
from geoml.io.stores.remote import RunStore, run_store

HOLD = """
import sys, time
from geoml.io.stores.remote import RunStore, run_store
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
    written = path.with_suffix(".part")
    written.write_text(json.dumps(asdict(held)))
    written.rename(path)  # at once, as a holder does: in half a lock none can be read
    return path


def token(store: RunStore) -> str:
    """Of who holds the run now: it is renewed at any moment."""
    found = store.holder()
    assert found is not None
    return found.token


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
    put(tmp_path, holder(renewed=ago(3600)))
    timer = threading.Timer(0.3, lambda: put(tmp_path, holder(renewed=ago(3599))))
    timer.start()
    with pytest.raises(TransientError, match="elsewhere"), store.lock():
        pass
    timer.join()


def test_a_clock_that_is_ahead_is_watched_like_any_other(tmp_path: Path, machine: Callable[..., None]) -> None:
    """Its dead holder is not believed until our clock gets there; its living one keeps the run."""
    machine(lease=0.6)
    store = run_store(tmp_path)
    for ahead in (0.3, 3600, 86400 * 365 * 5000):
        put(tmp_path, holder(renewed=ago(-ahead)))
        start = time.monotonic()
        with store.lock() as me:
            assert time.monotonic() - start >= 0.9, "a lease and a half"
            assert token(store) == me.token
    put(tmp_path, holder(renewed=ago(-3600)))
    timer = threading.Timer(0.3, lambda: put(tmp_path, holder(renewed=ago(-3601))))
    timer.start()
    with pytest.raises(TransientError, match="being worked on by pid 4711 on elsewhere"), store.lock():
        pass
    timer.join()


def test_one_look_believes_no_clock_that_is_far_away(machine: Callable[..., None]) -> None:
    machine(lease=60)
    assert holder(renewed=ago(-30)).alive
    assert holder(renewed=ago(30)).alive
    assert not holder(renewed=ago(-3600)).alive
    assert not holder(renewed=ago(3600)).alive


ODD: tuple[object, ...] = (
    *(None, True, False, "1", "self", "", -1, 0, 2**31, 2**64, 1.5, [], {}, ["x"]),
    *(float("inf"), float("-inf"), float("nan"), "x" * 5000, "\x1b[31m", "\ud800", "9999-12-31T23:59:59-14:00"),
)


@pytest.mark.parametrize("name", ["host", "pid", "started", "renewed", "token", "machine", "born"])
def test_odd_values_of_a_lock_are_no_holder_or_one_with_a_name(
    name: str, tmp_path: Path, machine: Callable[..., None]
) -> None:
    """Whatever stands there, it is taken over or waited for, and `geoml runs` says something."""
    machine(lease=0.02)
    here = asdict(holder(renewed=ago(3600)))
    for value in ODD:
        path = put(tmp_path, holder())
        path.write_text(json.dumps({**here, name: value}))
        found = parse_holder(path.read_bytes())
        if name == "pid":
            assert found is None, value
        if found is not None:
            assert isinstance(getattr(found, name), str), value
            assert getattr(found, name).isprintable()
            assert len(getattr(found, name)) < 300
            assert isinstance(found.alive, bool)
            state(tmp_path)
        if name == "pid" or value in (None, ""):
            with run_store(tmp_path).lock() as me:
                assert token(run_store(tmp_path)) == me.token


@pytest.mark.parametrize(
    "text", ['{"pid": 1e400}', '{"pid": NaN}', "1e999", '"host pid"', "[" * 100_000, "\0\0", "null"]
)
def test_a_lock_that_is_no_document(text: str, tmp_path: Path) -> None:
    whole = json.dumps(asdict(holder())).replace("4711", "1e400")
    assert parse_holder(text.encode()) is None
    assert parse_holder(whole.encode()) is None
    assert parse_holder(whole.encode("utf-16")) is None


def test_a_lock_that_is_no_file_is_an_error_at_once(
    odd_file: tuple[str, Callable[[Path], None]], tmp_path: Path
) -> None:
    kind, make = odd_file
    path = put(tmp_path, holder())
    path.unlink()
    make(path)
    store = run_store(tmp_path)
    start = time.monotonic()
    for look in (store.holder, lambda: state(tmp_path), lambda: store.lock().__enter__()):
        with pytest.raises(DataError, match=rf"lock\.json: {kind}; .* delete it"):
            look()
    assert time.monotonic() - start < 5
    if kind != "a folder":
        path.unlink()
        with store.lock():
            pass


def test_a_lock_as_large_as_a_disk_is_an_error(tmp_path: Path) -> None:
    path = put(tmp_path, holder())
    os.truncate(path, 2**40)
    for look in (run_store(tmp_path).holder, lambda: run_store(tmp_path).lock().__enter__()):
        with pytest.raises(DataError, match="more than 65536 bytes"):
            look()


def test_the_folder_of_the_lock_is_no_link(tmp_path: Path) -> None:
    """The folder of the run may be one."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "run")
    with run_store(tmp_path / "out").lock():
        assert (tmp_path / "run" / NAME).is_file()
    (tmp_path / "run" / ".geoml").rmdir()
    for target in (tmp_path / "elsewhere", tmp_path / "nowhere"):
        (tmp_path / "run" / ".geoml").symlink_to(target)
        with (
            pytest.raises(DataError, match=r"\.geoml: a symbolic link, not written through"),
            run_store(tmp_path / "out").lock(),
        ):
            pass
        (tmp_path / "run" / ".geoml").unlink()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_that_somebody_keeps_locked_ends_the_wait(tmp_path: Path, machine: Callable[..., None]) -> None:
    machine(timeout=0.3)
    (tmp_path / ".geoml").mkdir()
    handle = os.open(tmp_path / ".geoml", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(TransientError, match="another program keeps it locked"), run_store(tmp_path).lock():
            pass
    finally:
        os.close(handle)


@pytest.mark.parametrize("body", ["", "{", "[]", '{"pid": 1}', '{"host": 1, "pid": "x"}'])
def test_half_a_lock_is_taken_over_after_the_lease(body: str, tmp_path: Path, machine: Callable[..., None]) -> None:
    """What a kill between two system calls may leave."""
    machine(lease=0.3)
    path = put(tmp_path, holder())
    path.write_text(body)
    assert parse_holder(body.encode()) is None
    with run_store(tmp_path).lock() as me:
        assert token(run_store(tmp_path)) == me.token


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
    check_held(store.url)  # it is about this hold only


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
    with pytest.raises(DataError, match=r"lock\.json: not "), hold_lock(FileSlot(tmp_path / "file" / NAME), "out"):
        pass
