"""One HTTP request, with a least speed and a largest size, that follows no redirect and goes to no private address.

Everything that geoml reads over HTTP goes through `fetch`; its callers decide what is retried (`back_off`) and
where a redirect may lead (`redirect_target`).
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from io import BytesIO
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from geoml.errors import DataError, TransientError
from geoml.io.stores.hrefs import RedactingFilter, is_public, redact
from geoml.io.stores.speed_watch import CONNECT, SpeedWatch
from geoml.settings import settings

T = TypeVar("T")

RETRIED = (408, 425, 429, 500, 502, 503, 504)
REDIRECTS = (301, 302, 303, 307, 308)
MAX_HOPS = 5
"""Redirects that are followed, by those who follow any; each target is checked again."""

CHUNK = 2**16
"""Bytes of a body that are held at once where it goes to a file."""

_JITTER = random.Random()
"""Of our own: waiting takes nothing from the numbers of a program that has seeded its own."""
LONGEST = 60.0
"""Seconds; a server that asks for a longer break (``Retry-After``) gets this one."""

CONNECTIONS = 16


@dataclass(frozen=True)
class Answer:
    """What came. Names of headers have any case; ``size`` is that of the body, at most one byte more than the cap."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    size: int


def fetch(
    method: str,
    url: str,
    *,
    cap: int,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    json: Mapping[str, object] | None = None,
    into: BinaryIO | None = None,
    guarded: bool = True,
    session: requests.Session | None = None,
) -> Answer:
    """The answer to one request, whatever its status. At most ``cap`` + 1 bytes of its body are read.

    ``into``: the body of HTTP 200 is written there as it comes, that of another status is not read, and the answer's
    own stays empty. ``guarded``: an address that is not public is not connected to (unless
    ``settings().private_hosts``), also when the name resolved to another one a moment ago. Raises TransientError when
    no whole answer comes, or it comes too slowly (see `SpeedWatch`), DataError for an address that is not allowed, and
    what writing to ``into`` raises.
    """
    wait = settings().timeout
    _current.guarded = guarded and not settings().private_hosts
    with SpeedWatch() as watch:
        _current.watch = watch
        with _translated_errors(url, watch):
            answer = (session or _session()).request(
                method,
                url,
                headers=headers,
                params=params,
                json=json,
                timeout=(min(wait, CONNECT), wait),
                stream=True,
                allow_redirects=False,
            )
        with closing(answer):
            body = BytesIO()
            to = body if into is None else into
            size = 0 if into is not None and answer.status_code != 200 else _copy_body(answer, to, cap, url, watch)
    return Answer(url, answer.status_code, answer.headers, body.getvalue(), size)


def _copy_body(answer: requests.Response, to: BinaryIO, cap: int, url: str, watch: SpeedWatch) -> int:
    """Write the body, up to ``cap`` + 1 bytes of it; the number of bytes written."""
    size = 0
    watch.body(answer.raw.tell, cap + cap // 64 + 2 * CHUNK)  # encoded it is hardly longer, but may never end
    while size <= cap:
        most = min(CHUNK, cap + 1 - size)
        with _translated_errors(url, watch):
            chunk = watch.read(partial(answer.raw.read1, most, decode_content=True))
        if not chunk:
            break
        to.write(chunk)
        size += len(chunk)
    return size


@contextmanager
def _translated_errors(url: str, watch: SpeedWatch) -> Iterator[None]:
    """Raise what the network and its libraries raise as errors of ours, without their texts, which repeat the query."""
    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError):
        raise DataError(f"{redact(url)}: not a usable URL") from None
    except (requests.RequestException, HTTPError, OSError, ValueError) as err:
        if _kind(err) == "SSLCertVerificationError":
            raise DataError(f"{redact(url)}: the server's certificate is not valid") from None
        late = "no answer in time" if watch.too_slow else "no answer"
        raise TransientError(f"{redact(url)}: {late} ({_kind(err)})") from None
    if watch.too_slow:  # what was cut off may look like a short one
        raise TransientError(f"{redact(url)}: no answer in time")


def redirect_target(answer: Answer, *, upgraded: bool = False) -> str | None:
    """Where a redirect leads; None for any other answer.

    ``upgraded``: http on the host that was asked by https means https; services behind a proxy often do not know it.
    Raises DataError for a target that is neither https nor, after http, http.
    """
    where = answer.headers.get("Location")
    if answer.status not in REDIRECTS or not where:
        return None
    try:
        before, url = urlsplit(answer.url), urlsplit(urljoin(answer.url, where))
        same = url.hostname == before.hostname
    except ValueError:
        raise DataError(f"{redact(answer.url)} redirects to what is not a URL") from None
    if upgraded and same and (before.scheme, url.scheme) == ("https", "http"):
        url = url._replace(scheme="https")
    if url.scheme not in {"https", "http" if before.scheme == "http" else "https"}:
        raise DataError(
            f"{redact(answer.url)} redirects to {redact(url.geturl())}, which geoml does not follow; expected https"
        )
    return url.geturl()


def back_off(attempt: int, err: BaseException | None = None) -> None:
    """Sleep before try number ``attempt`` + 2: 0.5, 1, 2, … s with jitter, or as long as the server asks."""
    wish = err.retry_after if isinstance(err, TransientError) else 0.0
    time.sleep(max(min(0.5 * 2**attempt, 30.0) * _JITTER.uniform(0.5, 1.0), min(wish, LONGEST)))


def retried(attempt: Callable[[], T]) -> T:
    """What ``attempt`` returns, called again after each TransientError as often as ``settings().retries`` allow."""
    for number in range(settings().retries):
        try:
            return attempt()
        except TransientError as err:
            back_off(number, err)
    return attempt()


def busy_error(answer: Answer) -> TransientError:
    """The error for a status of ``RETRIED``; its ``retry_after`` is what the server asks for."""
    err = TransientError(f"{redact(answer.url)}: HTTP {answer.status}")
    seconds = answer.headers.get("Retry-After", "")
    err.retry_after = float(seconds) if seconds.isdigit() else 0.0  # dates are rare: they get the usual break
    return err


def prepare_session(session: requests.Session) -> None:
    """Make ``session`` one that `fetch` can use. Proxies come from the environment, ``~/.netrc`` is not read."""
    session.auth = _no_credentials
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(pool_connections=64, pool_maxsize=CONNECTIONS))


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """An authentication that adds nothing: without one, requests would read ``~/.netrc`` and user names in URLs."""
    return request


logging.getLogger("urllib3.connectionpool").addFilter(RedactingFilter())


@lru_cache(maxsize=1)
def _session() -> requests.Session:
    session = requests.Session()
    prepare_session(session)
    return session


class _Current(threading.local):
    """The request that this thread makes."""

    watch: SpeedWatch | None = None
    guarded = False


_current = _Current()
os.register_at_fork(after_in_child=_session.cache_clear)  # two processes must not share connections


class _Watched(HTTPConnection):
    """A connection that the `SpeedWatch` of its thread watches, and that checks its peer before it sends anything."""

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        try:
            self._check_peer(sock)
        except BaseException:  # it has hung up already, or is not allowed
            sock.close()
            raise
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        if _current.watch is not None:
            _current.watch.add(self)
        if self.sock is not None:  # kept from a request that was allowed more
            self._check_peer(self.sock)
        super().request(*args, **kwargs)

    def _check_peer(self, sock: socket.socket) -> None:
        peer = sock.getpeername()[0]
        if _current.guarded and self.proxy is None and not is_public(peer):
            raise DataError(f"{self.host} leads to the private address {peer}; set GEOML_PRIVATE_HOSTS=true to allow")


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
    """The class of the innermost cause; the messages of libraries repeat whole URLs."""
    while (inner := err.__cause__ or err.__context__) is not None and not isinstance(inner, KeyError):
        err = inner
    return type(err).__name__
