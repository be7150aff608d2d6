"""How long an answer may take: a time for its head, then a rate over a sliding window, however large it is.

A timeout of the socket starts again with each byte that drips, and a deadline for the full either grows with the
largest body that is allowed or ends honest ones.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from urllib3.connection import HTTPConnection

from geoml.settings import settings

CONNECT = 15.0
"""Seconds at most until a connection stands."""


class SpeedWatch:
    """A thread that watches one request, and hangs up when the server is too slow: then ``too_slow`` is True.

    The head has ``settings().timeout`` seconds after the connection. Then as many seconds are the window, in which
    ``settings().slowest`` bytes a second have to come; only time spent waiting for the server counts.
    """

    def __init__(self) -> None:
        self.too_slow = False
        self._connections: list[HTTPConnection] = []
        self._done = threading.Event()
        self._count: Callable[[], int] | None = None
        self._limit = 0
        self._waiting = True
        self._window = settings().timeout
        self._minimum = settings().slowest * self._window
        self._tick = min(max(self._window / 8, 0.02), 1.0)
        self._thread = threading.Thread(target=self._watch, name="geoml-pace", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def add(self, connection: HTTPConnection) -> None:
        """Watch a connection of the request. Raises TimeoutError if its time is over."""
        self._connections.append(connection)
        if self.too_slow:
            raise TimeoutError

    def body(self, count: Callable[[], int], limit: int) -> None:
        """The head has come; ``count`` returns the bytes received of the body, which has at most ``limit``."""
        self._limit, self._count = limit, count

    def read(self, action: Callable[[], bytes]) -> bytes:
        """What ``action`` reads. Only time inside of it counts: the time between two reads is ours."""
        self._waiting = True
        try:
            return action()
        finally:
            self._waiting = False

    def _watch(self) -> None:
        clock, last = 0.0, time.monotonic()
        samples: deque[tuple[float, int]] = deque()
        while not self._done.wait(self._tick):
            now = time.monotonic()
            if self._waiting:
                clock += min(now - last, 2 * self._tick)  # more than that, this process stood still
            last = now
            if self._count is None:
                slow = clock > min(self._window, CONNECT) + self._window
            else:
                received = self._count()
                samples.append((clock, received))
                while len(samples) > 1 and samples[1][0] <= clock - self._window:
                    samples.popleft()
                full = samples[0][0] <= clock - self._window
                slow = received > self._limit or (full and received - samples[0][1] < self._minimum)
            if slow:
                self.too_slow = True
                for connection in self._connections:
                    with suppress(OSError):  # it ended meanwhile
                        if connection.sock is not None:
                            connection.sock.shutdown(socket.SHUT_RDWR)
                return
