"""Signed hrefs: a short-lived SAS token is added just before a read, and only for the storage it is meant for."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime
from urllib.parse import urlsplit

from geoml.errors import DataError, TransientError
from geoml.io.stores.hrefs import redact
from geoml.io.stores.web import RETRIED, Answer, busy_error, fetch, retried
from geoml.redacted import bare
from geoml.settings import settings

STORAGE = ".blob.core.windows.net"
"""Only hosts below this one get a token, and the host and port of the signing service itself."""

MAX_ANSWER = 2**16

MARGIN = 300.0
"""Seconds before its expiry when a token is renewed, so that none ends in the middle of a read."""

_lock = threading.Lock()
_tokens: dict[str, tuple[str, float]] = {}


def sign_href(href: str, endpoint: str, *, fresh: bool = False) -> str:
    """``href`` with a token from ``endpoint/ACCOUNT/CONTAINER``; hrefs of other hosts come back unchanged.

    Files on the host and port of the service itself are signed too, by ``endpoint/HOST/FOLDER``.

    Tokens are kept until ``MARGIN`` seconds before they expire; ``fresh`` asks for a new one (after a 403).
    Raises TransientError if the endpoint does not answer, DataError if its answer is not a token.
    """
    url = urlsplit(href)
    host = url.hostname or ""
    container = url.path.lstrip("/").split("/")[0]
    own = urlsplit(endpoint)[:2] == url[:2]
    if not container or not (own or (url.scheme == "https" and host.endswith(STORAGE))):
        return href
    token = _token(f"{endpoint.rstrip('/')}/{host.removesuffix(STORAGE)}/{container}", fresh=fresh)
    return f"{bare(href)}?{token}"


def _token(url: str, *, fresh: bool) -> str:
    with _lock:
        token, until = _tokens.get(url, ("", 0.0))
        if fresh or time.time() > until - MARGIN:
            token, until = _request_token(url)
            _tokens[url] = token, until
        return token


def _request_token(url: str) -> tuple[str, float]:
    """(token, expiry in seconds since 1970)."""

    def attempt() -> tuple[str, float]:
        answer = fetch("GET", url, cap=MAX_ANSWER, guarded=False)  # the URL is from our own YAML
        if answer.status in RETRIED:
            raise busy_error(answer)
        return _parsed(answer, url)

    try:
        return retried(attempt)
    except TransientError as err:
        raise TransientError(f"sign: no token from {redact(url)} after {settings().retries + 1} tries ({err})") from err


def _parsed(answer: Answer, url: str) -> tuple[str, float]:
    if answer.status // 100 != 2:
        raise DataError(f"sign: {redact(url)} refuses a token (HTTP {answer.status})")
    try:
        body = json.loads(answer.body)
        expiry = datetime.fromisoformat(body["msft:expiry"])
        return str(body["token"]), expiry.timestamp()
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise DataError(f"sign: {redact(url)} answers without a token and its expiry") from err
