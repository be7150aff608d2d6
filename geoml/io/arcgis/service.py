"""Asking a service of the ArcGIS REST API: its JSON, its files, its errors and its tokens.

https://developers.arcgis.com/rest/services-reference/. Errors come with HTTP 200 and say their code inside. A token is
given as the query of the URL, ``?token=…``; it goes to that service and into no file, message or log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlencode

from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io.stores.hrefs import check_url, redact
from geoml.io.stores.remote import follow
from geoml.io.stores.signed import signed
from geoml.texts import listed, short

LARGEST = 64 * 2**20
"""Bytes of one answer of JSON."""
NO_ACCESS = (401, 403, 498, 499)
"""Codes of errors: no rights, an invalid token, no token."""
BUSY = (408, 429, 500, 502, 503, 504)
WRONG = (400, 404, 405)

_LAYER = re.compile(r"https?://[^?#]+/(?:FeatureServer|MapServer)(?:/\d*)?(?:/query)?/?", re.IGNORECASE)
_IMAGES = re.compile(r"https?://[^?#]+/ImageServer/?", re.IGNORECASE)


def is_features(text: str) -> bool:
    """Whether ``text`` is the URL of a feature service, a map service or a layer of one."""
    return bool(_LAYER.fullmatch(text.partition("?")[0]))


def is_images(text: str) -> bool:
    """Whether ``text`` is the URL of an image service."""
    return bool(_IMAGES.fullmatch(text.partition("?")[0]))


class TooLarge(DataError):
    """An answer of more bytes than are read; a part of it may be asked for."""


@dataclass(frozen=True)
class ArcGIS:
    """A service or a layer by its URL, without a query; ``what`` is the field that names it."""

    url: str
    what: str
    token: str = field(default="", repr=False)

    @classmethod
    def at(cls, url: str, what: str) -> ArcGIS:
        """What the user named. Raises InputError for a query other than a token."""
        check_url(url, what)
        place, _, query = signed(url, what).partition("?")
        said = dict(parse_qsl(query))
        if others := [name for name in said if name != "token"]:
            raise InputError(f"{what}: {place} with {listed(others)}; expected the URL alone, or with a token")
        return cls(place.rstrip("/"), what, said.get("token", ""))

    def ask(self, operation: str = "", **parameters: str) -> dict[str, Any]:
        """The JSON object that the service, or an operation of it, answers.

        Raises InputError for what it refuses, DataError for an answer that is none, TransientError when none comes
        after all tries.
        """
        from geoml.io.stores import web

        return web.retried(lambda: self._object(operation, parameters))

    def save(self, operation: str, into: BinaryIO, limit: int, **parameters: str) -> str:
        """Write what an operation answers, once and as it comes, to ``into``; gives its media type.

        Raises what `ask` raises, `TooLarge` for more than ``limit`` bytes; the caller tries again.
        """
        from geoml.io.stores import web

        parameters |= {"token": self.token} if self.token else {}
        url = f"{self.url}/{operation}".rstrip("/")
        answer = follow(f"{url}?{urlencode(parameters)}", self.what, limit, into)
        if answer.status in web.RETRIED:
            raise web.busy_error(answer)
        if answer.status != 200:
            raise InputError(f"{self.what}: {redact(url)}: {_kind(answer.status)} (HTTP {answer.status})")
        if answer.size > limit:
            raise TooLarge(f"{redact(url)}: more than {limit} bytes")
        return str(answer.headers.get("Content-Type", "")).partition(";")[0].strip().lower()

    def _object(self, operation: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        body = BytesIO()
        self.save(operation, body, LARGEST, f="json", **parameters)
        return self.parsed(body.getvalue())

    def parsed(self, body: bytes) -> dict[str, Any]:
        """The JSON object of an answer. Raises the error that it says, DataError where it is none."""
        try:
            value = json.loads(body.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            start = self._hidden(body[:4096].decode("latin-1")).strip()[:60]
            raise DataError(f"{self.url}: no answer of ArcGIS; it begins with {start!r}") from None
        if not isinstance(value, dict):
            raise DataError(f"{self.url}: no answer of ArcGIS; expected a JSON object")
        if "error" in value:
            raise self._error(value["error"])
        return value

    def _error(self, said: object) -> GeomlError:
        code, words = (said.get("code"), said.get("message")) if isinstance(said, dict) else (None, said)
        why = f"{code} {short(self._hidden(str(words)), 200)}".strip()
        if code in NO_ACCESS:
            return InputError(f"{self.what}: {self.url}: {_kind(int(code))} ({why}); expected a token in the URL")
        if code in BUSY:
            return TransientError(f"{self.url}: the server fails ({why})")
        kind = InputError if code in WRONG else DataError
        return kind(f"{self.what}: {self.url}: the server refuses the request ({why})")

    def _hidden(self, text: str) -> str:
        """What the server says, before it is cut, without the token that it may repeat."""
        return text.replace(self.token, "TOKEN") if self.token else text


def _kind(status: int) -> str:
    if status in NO_ACCESS:
        return "access refused"
    return "not found" if status in (404, 410) else "the server refuses the request"
