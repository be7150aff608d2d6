"""How long an answer may take: a time for its head, then a rate over a sliding window, however large it is.

A timeout of the socket starts anew with each byte that drips, and a deadline for the whole either grows with the
largest body that is allowed or ends honest ones.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from urllib3.connection import HTTPConnection

from geoml.settings import settings

CONNECT = 15.0
"""Seconds at most until a connection stands."""


class Pace:
    """While this lasts a thread watches one request, and hangs up when the server is too slow: then ``late`` is True.

    The head has ``settings().timeout`` seconds after the connection. Then as many seconds are the window, in which
    ``settings().slowest`` bytes a second have to come; only time spent waiting for the server counts.
    """

    def __init__(self) -> None:
        self.late = False
        self._used: list[HTTPConnection] = []
        self._done = threading.Event()
        self._count: Callable[[], int] | None = None
        self._most = 0
        self._waiting = True
        self._window = settings().timeout
        self._least = settings().slowest * self._window
        self._tick = min(max(self._window / 8, 0.02), 1.0)
        self._thread = threading.Thread(target=self._watch, name="geoml-pace", daemon=True)

    def __enter__(self) -> Pace:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self._done.set()

    def uses(self, connection: HTTPConnection) -> None:
        """The request goes over this connection. Raises TimeoutError when its time is over."""
        self._used.append(connection)
        if self.late:
            raise TimeoutError

    def body(self, count: Callable[[], int], most: int) -> None:
        """The head is there; ``count`` gives the bytes that came of the body, of which there are ``most`` at most."""
        self._most, self._count = most, count

    def read(self, action: Callable[[], bytes]) -> bytes:
        """What ``action`` reads; time between two of them is ours and not the server's."""
        self._waiting = True
        try:
            return action()
        finally:
            self._waiting = False

    def _watch(self) -> None:
        clock, last = 0.0, time.monotonic()
        seen: deque[tuple[float, int]] = deque()
        while not self._done.wait(self._tick):
            now = time.monotonic()
            if self._waiting:
                clock += min(now - last, 2 * self._tick)  # more than that, this process stood still
            last = now
            if self._count is None:
                slow = clock > min(self._window, CONNECT) + self._window
            else:
                came = self._count()
                seen.append((clock, came))
                while len(seen) > 1 and seen[1][0] <= clock - self._window:
                    seen.popleft()
                whole = seen[0][0] <= clock - self._window
                slow = came > self._most or (whole and came - seen[0][1] < self._least)
            if slow:
                self.late = True
                for connection in self._used:
                    hang_up(connection)
                return


def hang_up(connection: HTTPConnection) -> None:
    """Ends a connection whose thread waits for it."""
    try:
        if connection.sock is not None:
            connection.sock.shutdown(2)
    except OSError:  # it ended meanwhile
        pass
