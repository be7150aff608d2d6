"""Signed hrefs: a short-lived SAS token is added just before a read, and only for the storage it is meant for."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from urllib.parse import urlsplit

import requests

from geoml.errors import DataError, TransientError
from geoml.io.hrefs import redact
from geoml.settings import settings

STORAGE = ".blob.core.windows.net"
"""Only hosts below this one get a token."""

MARGIN = 300.0
"""Seconds before its expiry when a token is renewed, so that none ends in the middle of a read."""

_lock = threading.Lock()
_tokens: dict[str, tuple[str, float]] = {}


def sign_href(href: str, endpoint: str, *, fresh: bool = False) -> str:
    """``href`` with a token from ``endpoint/ACCOUNT/CONTAINER``; hrefs of other hosts come back unchanged.

    Tokens are kept until ``MARGIN`` seconds before they expire; ``fresh`` asks for a new one (after a 403).
    Raises TransientError when the endpoint does not answer, DataError when its answer is no token.
    """
    url = urlsplit(href)
    host = url.hostname or ""
    container = url.path.lstrip("/").split("/")[0]
    if url.scheme != "https" or not host.endswith(STORAGE) or not container:
        return href
    token = _token(f"{endpoint.rstrip('/')}/{host.removesuffix(STORAGE)}/{container}", fresh=fresh)
    return f"{redact(href)}?{token}"


def _token(url: str, *, fresh: bool) -> str:
    with _lock:
        token, until = _tokens.get(url, ("", 0.0))
        if fresh or time.time() > until - MARGIN:
            token, until = _ask(url)
            _tokens[url] = token, until
        return token


def _ask(url: str) -> tuple[str, float]:
    """(token, expiry in seconds since 1970)."""
    tries = settings().retries + 1
    for attempt in range(tries):
        try:
            answer = requests.get(url, timeout=settings().timeout)
        except requests.RequestException as err:
            problem = type(err).__name__
        else:
            if answer.ok:
                return _parsed(answer, url)
            problem = f"HTTP {answer.status_code}"
            if answer.status_code != 429 and answer.status_code < 500:
                raise DataError(f"sign: {redact(url)} refuses a token ({problem})")
        if attempt + 1 < tries:
            time.sleep(min(0.5 * 2**attempt, 30.0))
    raise TransientError(f"sign: no token from {redact(url)} after {tries} tries ({problem})")


def _parsed(answer: requests.Response, url: str) -> tuple[str, float]:
    try:
        body = answer.json()
        expiry = datetime.fromisoformat(body["msft:expiry"])
        return str(body["token"]), expiry.timestamp()
    except (ValueError, KeyError, TypeError) as err:
        raise DataError(f"sign: {redact(url)} answers without a token and its expiry") from err
