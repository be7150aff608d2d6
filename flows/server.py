"""Prefect's server on a busy machine: how long it may take, and which of its failures are retried.

A flow without ``PREFECT_API_URL`` starts a temporary server of its own, over a SQLite file that all such flows of a
user share. On a busy machine the 20 seconds that Prefect gives it to start are too few, and the file is locked by
others for longer than the 10 seconds that a connection waits.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx
from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_API_URL, get_current_settings

from geoml.errors import GeomlError, TransientError

T = TypeVar("T")

log = logging.getLogger(__name__)

STARTUP, LOCKED = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "PREFECT_SERVER_DATABASE_TIMEOUT"
PATIENCE = {STARTUP: 300, LOCKED: 60}
"""Seconds for the server to start, and for a connection to wait for the database."""

TRIES = 3
PAUSE = 10.0
"""Seconds before the second try; twice as many before the third."""

_BUSY_MESSAGES = ("ephemeral Prefect API server", "database is locked", "table is locked", "Failed to reach API")
_BUSY_CODES = (408, 429, 500, 502, 503, 504)


def be_patient() -> None:
    """Give Prefect's server the time of `PATIENCE`, in this process and in what it starts.

    What the environment or the user's Prefect profile says has the last word.
    """
    server = get_current_settings().server
    given = {
        STARTUP: "startup_timeout_seconds" in server.ephemeral.model_fields_set,
        LOCKED: "timeout" in server.database.model_fields_set,
    }
    if more := {name: str(seconds) for name, seconds in PATIENCE.items() if not given[name]}:
        os.environ.update(more)
        refresh_global_settings_context()


def busy(error: BaseException) -> bool:
    """Whether Prefect's server had no time: late, locked, gone, or with an answer of 5xx.

    Nothing in geoml itself speaks httpx, so what it raises can only come from Prefect's client.
    """
    return not isinstance(error, GeomlError) and any(_busy(e) for e in _chain(error))


def _busy(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _BUSY_CODES
    if isinstance(error, httpx.TransportError):
        return True
    kinds = {"RuntimeError", "OperationalError"}  # the latter of sqlite3 and of SQLAlchemy, which need no import here
    return type(error).__name__ in kinds and any(word in str(error) for word in _BUSY_MESSAGES)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def patiently(run: Callable[[], T]) -> T:
    """``run()``, again after a while where Prefect's server was busy; what is asked goes on where it was.

    Raises TransientError that names the server when it was busy `TRIES` times.
    """
    for number in range(1, TRIES + 1):
        try:
            return run()
        except Exception as err:
            if not busy(err):
                raise
            own = not PREFECT_API_URL.value()
            which = f"that the flow starts by itself ({STARTUP}={_startup()})" if own else PREFECT_API_URL.value()
            what = f"Prefect's server {which} is busy: {type(err).__name__} {' '.join(str(err).split())[:300]}"
            if own:
                _stop()
            if number == TRIES:
                advice = "run it again later, or start one with `prefect server start` and set PREFECT_API_URL"
                raise TransientError(f"{what}; tried {TRIES} times; {advice}") from err
        log.warning("%s; trying again", what)
        time.sleep(PAUSE * number)
    raise AssertionError("unreachable: the last try returns or raises")


def _startup() -> int:
    return get_current_settings().server.ephemeral.startup_timeout_seconds


def _stop() -> None:
    """End a temporary server that is late: the next try must not start a second one beside it."""
    from prefect.server.api.server import SubprocessASGIServer

    SubprocessASGIServer().stop()
