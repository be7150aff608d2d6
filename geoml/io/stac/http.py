"""Reading STAC JSON that others wrote: size caps, one origin, retries with backoff, and one error class per party."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io.stac.catalog import Catalog
from geoml.io.stac.item import Document, unicode_only
from geoml.io.stores.bucket import bucket_of, is_bucket
from geoml.io.stores.hrefs import check_host, gdal_path, origin, redact, scheme
from geoml.io.stores.remote import read
from geoml.io.stores.store import read_capped
from geoml.io.stores.web import MAX_HOPS, RETRIED, Answer, back_off, busy_error, fetch, prepare_session, redirect_target
from geoml.settings import settings

MAX_BODY = 64 * 2**20
"""Bytes of one answer; a page of 1000 items is about 10 MB, and objects take twenty times the room of their text."""

SIZED = (500, 502, 504)
"""What servers answer, among other things, where an answer would be too large for them."""

MAX_FILE = 256 * 2**20
"""Bytes of a file on this machine."""


class StacReader(StacApiIO):
    """The only way to a catalog's JSON: what pystac-client asks goes through ``request``.

    A remote catalog is read from its own host and port alone. A local catalog may link to URLs, and to files below its
    root; a document elsewhere that it links to is remote, and may only lead on to its own host and port, or bucket.
    """

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(max_retries=None)
        prepare_session(self.session)
        self._catalog = catalog

    def get(self, href: str, by: str = "") -> Document:
        """The JSON object at ``href``, to which the document ``by`` links; empty for what the user named.

        Raises DataError if it is none, or ``by`` may not lead there.
        """
        self._check_link(href, by)
        try:
            read_text = self._object if is_bucket(href) else self.request if "://" in href else self._file
            text = read_text(href)
        except APIError as err:
            translate(err, redact(href))
        value = self.json_loads(text)
        if not isinstance(value, dict):
            raise DataError(f"{redact(href)}: expected a JSON object")
        return value

    def _check_link(self, href: str, by: str) -> None:
        """Raises DataError if a document elsewhere leads to a file, another bucket or another host or port."""
        if self._catalog.remote or "://" not in by:
            return  # documents of a remote catalog are all compared with the catalog itself
        if not _same_host(href, by):
            raise DataError(f"{redact(by)} sends us to another place: {redact(href)}")

    def _file(self, href: str) -> str:
        path = Path(gdal_path(href, remote=self._catalog.remote, root=self._catalog.root))
        try:
            body = read_capped(path, MAX_FILE)
        except OSError as err:
            raise DataError(f"{href}: cannot be read ({err.strerror})") from err
        return _text(body, href, MAX_FILE)

    def _object(self, href: str) -> str:
        gdal_path(href, remote=self._catalog.remote, root=self._catalog.root)  # the checks of every href
        if self._catalog.remote and not _same_host(href, self._catalog.url):
            raise DataError(f"catalog {self._catalog.name} sends us to another bucket: {redact(href)}")
        return _text(read(href, "catalog", MAX_BODY), href, MAX_BODY)

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: Mapping[str, object] | None = None,
        patience: int | None = None,
    ) -> str:
        """The body at ``href`` as text. Raises pystac-client's APIError for a bad status or no connection.

        With ``patience`` the same error of the server that many times running is taken for its answer: the request may
        be too large for it.
        """
        method = (method or "GET").upper()
        body, params = (parameters, None) if method == "POST" else (None, parameters)
        for _ in range(MAX_HOPS + 1):
            href = self._allowed(href)
            answer = self._send(method, href, patience, headers=headers, params=params, json=body)
            if (redirect := redirect_target(answer, upgraded=True)) is None:
                break
            href, params = redirect, None
            if answer.status == 303:
                method, body = "GET", None
        else:
            raise DataError(f"{redact(href)}: too many redirects")
        text = _text(answer.body, href, MAX_BODY)
        if answer.status >= 400:
            problem = APIError(text)
            problem.status_code = answer.status
            raise problem
        return text

    def _send(self, method: str, href: str, patience: int | None, **what: Any) -> Answer:
        """The answer, with as many retries as the settings allow; a search by POST changes nothing and is repeated too.

        Redirects are left to the caller.
        """
        tries, guarded = settings().retries + 1, not self._catalog.remote
        statuses: list[int] = []
        for attempt in range(tries):
            try:
                answer = fetch(method, href, cap=MAX_BODY, guarded=guarded, session=self.session, **what)
                statuses.append(answer.status)
                same = patience is not None and statuses[-patience:] == [answer.status] * patience
                if answer.status not in RETRIED or attempt + 1 == tries or (same and answer.status in SIZED):
                    return answer
                problem = busy_error(answer)
            except TransientError as err:
                if attempt + 1 == tries:
                    raise APIError(str(err)) from None
                problem = err
            back_off(attempt, problem)
        raise AssertionError("unreachable")

    def _allowed(self, href: str) -> str:
        """``href`` when this catalog may send us there, with https where the catalog itself has it."""
        try:
            host, _ = origin(href)
            if not self._catalog.remote:
                check_host(host, redact(href))
                return href
        except InputError as err:
            raise DataError(str(err)) from err
        if scheme(self._catalog.url) == "https" and scheme(href) == "http":  # services behind a proxy print http links
            href = urlsplit(href)._replace(scheme="https").geturl()
        if not _same_host(href, self._catalog.url):
            raise DataError(f"catalog {self._catalog.name} sends us to another host: {redact(href)}")
        return href

    def json_loads(self, txt: str, *args: Any, **kwargs: Any) -> Any:
        """Strict JSON: no NaN, no endless nesting. Raises DataError."""
        try:
            value = json.loads(txt, parse_constant=_refuse)
            return unicode_only(value) if _SURROGATE.search(txt) else value
        except (ValueError, RecursionError) as err:
            start = txt[:60].strip()
            raise DataError(f"catalog {self._catalog.name}: not JSON ({err}); it begins with {start!r}") from err


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def translate(err: Exception, where: str) -> NoReturn:
    """Raise ``err`` as a TransientError (no answer), InputError (wrong URL or request) or DataError (no access)."""
    if isinstance(err, GeomlError):
        raise err
    reason = redact(" ".join(str(err).split())[:300])
    if not isinstance(err, APIError):
        raise InputError(f"catalog: {where} is not a STAC API ({reason}); for a static catalog give its .json") from err
    status = status_of(err)
    if status is None or status in RETRIED:
        raise TransientError(f"{where}: no answer ({status or reason}) after {settings().retries + 1} tries") from err
    if status == 404:
        raise InputError(f"{where}: not found (404); expected the URL of a STAC API or a catalog") from err
    if status in (401, 403):
        raise DataError(f"{where}: access refused ({status})") from err
    raise InputError(f"{where}: refuses the request ({status}): {reason}") from err


def status_of(err: APIError) -> int | None:
    """The status of the answer, which pystac-client does not always set."""
    status: int | None = vars(err).get("status_code")
    return status


def _text(body: bytes, href: str, limit: int) -> str:
    if len(body) > limit:
        raise DataError(f"{redact(href)}: more than {limit >> 20} MiB of JSON")
    try:
        return body.decode("utf-8-sig")  # a byte order mark may be ignored, says RFC 8259
    except UnicodeDecodeError as err:
        raise DataError(f"{redact(href)}: not UTF-8 text; it begins with {body[:16]!r}") from err


def _same_host(one: str, other: str) -> bool:
    """Whether two URLs are of one bucket, or of one host and port."""
    try:
        buckets = bucket_of(one), bucket_of(other)
        return buckets[0] == buckets[1] if any(buckets) else origin(one) == origin(other)
    except InputError:
        return False


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not allowed")
