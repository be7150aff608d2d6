"""Values made in a thread: order, how many at once, errors in their place, an end before the last one."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from geoml.engine.machine.prefetch import attempts, prefetch


def threads(name: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == name]


def test_order_is_kept_and_no_more_than_asked_for_is_made() -> None:
    made: list[int] = []

    def values() -> Iterator[int]:
        for k in range(20):
            made.append(k)
            yield k

    found = []
    with closing(prefetch(values(), 3, "made")) as those:
        for value in those:
            time.sleep(0.01)
            found.append(value)
            assert len(made) <= value + 1 + 3 + 1, "the one that was given, three that wait, one at the door"
    assert found == list(range(20))
    assert threads("made") == []


def test_it_works_in_another_thread_with_what_is_known_here() -> None:
    known = contextvars.ContextVar("known", default="nothing")
    known.set("this run")

    def values() -> Iterator[tuple[str, str]]:
        yield known.get(), threading.current_thread().name

    assert list(prefetch(values(), 1, "other")) == [("this run", "other")]


def test_an_error_comes_out_after_the_values_before_it() -> None:
    def values() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    those = prefetch(values(), 4, "failing")
    assert next(those) == 1
    with pytest.raises(KeyError, match="two"):
        next(those)
    assert threads("failing") == []


def test_an_early_end_stops_the_thread() -> None:
    def values() -> Iterator[int]:
        k = 0
        while True:
            yield (k := k + 1)

    with closing(prefetch(values(), 2, "endless")) as those:
        assert next(those) == 1
        assert threads("endless")
    assert threads("endless") == []


def test_one_that_fails_ends_nothing() -> None:
    found = list(prefetch(attempts(lambda v: 12 // v, [4, 0, 3]), 1, "tried"))
    assert [v for v, _ in found] == [4, 0, 3]
    assert (found[0][1], found[2][1]) == (3, 4)
    assert isinstance(found[1][1], ZeroDivisionError)
