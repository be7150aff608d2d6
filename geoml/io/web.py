"""One HTTP request: it ends by its deadline, stops at its size cap, follows no redirect and goes to no private address.

Everything that geoml reads over HTTP goes through `fetch`; who calls it decides what is tried again (`pause`).
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from geoml.errors import DataError, TransientError
from geoml.io.hrefs import Redacted, public, redact
from geoml.settings import settings

RETRIED = (408, 425, 429, 500, 502, 503, 504)
REDIRECTS = (301, 302, 303, 307, 308)
MAX_HOPS = 5
"""Redirects that are followed, by those who follow any; each target is checked again."""

SLOWEST = 64 * 2**10
"""Bytes per second that a server must reach once the timeout is over; slower ones count as stalled."""

_JITTER = random.Random()
"""Of our own: waiting takes nothing from the numbers of a program that has seeded its own."""
LONGEST = 60.0
"""Seconds; a server that asks for a longer break (``Retry-After``) gets this one."""

CONNECTIONS = 16


@dataclass(frozen=True)
class Answer:
    """What came: ``body`` has at most one byte more than the cap. Names of headers have any case."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


def fetch(
    method: str,
    url: str,
    *,
    cap: int,
    headers: Mapping[str, str] | None = None,
    params: Any = None,
    json: Any = None,
    within: float | None = None,
    guarded: bool = True,
    session: requests.Session | None = None,
) -> Answer:
    """The answer to one request, whatever its status. At most ``cap`` + 1 bytes of its body are read.

    ``guarded``: an address that is not public is not connected to (unless ``settings().private_hosts``), also when
    the name resolved to another one a moment ago. Raises TransientError when no whole answer comes ``within`` seconds
    (by default the timeout and a second for every ``SLOWEST`` bytes), DataError for an address that is not allowed.
    """
    wait = settings().timeout
    _now.guarded = guarded and not settings().private_hosts
    try:
        with (
            _deadline(within or wait + cap / SLOWEST),
            (session or _session()).request(
                method,
                url,
                headers=headers,
                params=params,
                json=json,
                timeout=(min(wait, 15.0), wait),
                stream=True,
                allow_redirects=False,
            ) as answer,
        ):
            body = answer.raw.read(cap + 1, decode_content=True)
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError):
        raise DataError(f"{redact(url)}: no URL that can be asked for") from None
    except (requests.RequestException, HTTPError, OSError, ValueError) as err:
        if _kind(err) == "SSLCertVerificationError":
            raise DataError(f"{redact(url)}: the server's certificate is not valid") from None
        late = "no answer in time" if _now.late else "no answer"
        raise TransientError(f"{redact(url)}: {late} ({_kind(err)})") from None  # its text has the query
    if _now.late:  # headers that were cut off look like short ones
        raise TransientError(f"{redact(url)}: no answer in time")
    return Answer(url, answer.status_code, answer.headers, body)


def pause(attempt: int, err: BaseException | None = None) -> None:
    """Sleep before try number ``attempt`` + 2: 0.5, 1, 2, … s with jitter, or as long as the server asks."""
    asked = getattr(err, "retry_after", 0.0)
    time.sleep(max(min(0.5 * 2**attempt, 30.0) * _JITTER.uniform(0.5, 1.0), min(asked, LONGEST)))


def busy(answer: Answer) -> TransientError:
    """The error for a status of ``RETRIED``; `pause` takes the server's wish from it."""
    err = TransientError(f"{redact(answer.url)}: HTTP {answer.status}")
    word = answer.headers.get("Retry-After", "")
    err.retry_after = float(word) if word.isdigit() else 0.0  # type: ignore[attr-defined]  # dates are rare: backoff
    return err


def new_session() -> requests.Session:
    """A session whose connections `fetch` can end and check."""
    session = requests.Session()
    watch(session)
    return session


def watch(session: requests.Session) -> None:
    """Make ``session`` one that `fetch` can use."""
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(pool_connections=64, pool_maxsize=CONNECTIONS))


logging.getLogger("urllib3.connectionpool").addFilter(Redacted())

_session = lru_cache(maxsize=1)(new_session)
_now = threading.local()
os.register_at_fork(after_in_child=_session.cache_clear)  # two processes must not share connections


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Ends this thread's request after ``seconds``: a timeout of the socket starts anew with each byte that drips."""
    used: list[HTTPConnection] = []
    late = threading.Event()
    _now.connections, _now.late = used, False

    def end() -> None:
        late.set()
        for connection in used:
            hang_up(connection)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _now.late = late.is_set()


def hang_up(connection: HTTPConnection) -> None:
    """Ends a connection whose thread waits for it."""
    try:
        if connection.sock is not None:
            connection.sock.shutdown(2)
    except OSError:  # it ended meanwhile
        pass


class _Watched(HTTPConnection):
    """Tells `_deadline` that this thread uses it, and looks whom it is connected to before it says a word."""

    def _new_conn(self) -> Any:
        sock = super()._new_conn()
        try:
            peer = sock.getpeername()[0]
        except OSError:  # it has hung up already
            sock.close()
            raise
        if getattr(_now, "guarded", False) and self.proxy is None and not public(peer):
            sock.close()
            raise DataError(f"{self.host} leads to the private address {peer}; set GEOML_PRIVATE_HOSTS=true to allow")
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        if hasattr(_now, "connections"):
            _now.connections.append(self)
        super().request(*args, **kwargs)


class _WatchedTLS(_Watched, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _PoolTLS(HTTPSConnectionPool):
    ConnectionCls = _WatchedTLS


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _PoolTLS}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _PoolTLS}
        return manager


def _kind(err: BaseException) -> str:
    """The innermost cause, by its class: messages of libraries repeat whole URLs."""
    while (inner := err.__cause__ or err.__context__) is not None and not isinstance(inner, KeyError):
        err = inner
    return type(err).__name__
