"""Reading STAC JSON that others wrote: size caps, one origin, retries with backoff, and one error class per party."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import requests
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io.catalog import Catalog
from geoml.io.hrefs import check_host, gdal_path, redact
from geoml.settings import settings

MAX_BODY = 256 * 2**20
"""Bytes of one answer; a page of 1000 items is about 10 MB."""

_RETRIED = (429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)


class StacReader(StacApiIO):
    """The only way to a catalog's JSON: what pystac-client asks goes through ``request``.

    A remote catalog is read from its own host alone. A local catalog may link to URLs, and to files below its root.
    """

    def __init__(self, catalog: Catalog) -> None:
        retry = Retry(
            total=settings().retries,
            backoff_factor=0.25,
            backoff_max=30,
            status_forcelist=_RETRIED,
            allowed_methods=None,  # a search by POST changes nothing, so it may be repeated
            raise_on_status=False,
            retry_after_max=60,
        )
        super().__init__(timeout=settings().timeout, max_retries=retry)
        self._catalog = catalog

    def get(self, href: str) -> dict[str, Any]:
        """The JSON object at ``href``. Raises DataError when it is none."""
        try:
            text = self.request(href) if "://" in href else self._file(href)
        except APIError as err:
            translate(err, redact(href))
        value = self.json_loads(text)
        if not isinstance(value, dict):
            raise DataError(f"{redact(href)}: expected a JSON object")
        return value

    def _file(self, href: str) -> str:
        path = Path(gdal_path(href, remote=self._catalog.remote, root=self._catalog.root))
        try:
            with path.open("rb") as file:
                body = file.read(MAX_BODY + 1)
        except OSError as err:
            raise DataError(f"{href}: cannot be read ({err.strerror})") from err
        return _text(body, href)

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """The body at ``href`` as text. Raises pystac-client's APIError for a bad status or no connection."""
        method = (method or "GET").upper()
        body, params = (parameters, None) if method == "POST" else (None, parameters)
        for _ in range(6):
            href = self._allowed(href)
            answer, content = self._send(method, href, headers=headers, params=params, json=body)
            target = answer.headers.get("location")
            if answer.status_code not in _REDIRECTS or not target:
                break
            href, params = urljoin(href, target), None
            if answer.status_code == 303:
                method, body = "GET", None
        else:
            raise DataError(f"{redact(href)}: too many redirects")
        text = _text(content, href)
        if not answer.ok:
            problem = APIError(text)
            problem.status_code = answer.status_code
            raise problem
        return text

    def _send(self, method: str, href: str, **what: Any) -> tuple[requests.Response, bytes]:
        """The answer and its body; a body that breaks off is asked for again. Redirects are left to the caller."""
        for attempt in range(settings().retries + 1):
            time.sleep(min(0.25 * 2**attempt, 30.0) if attempt else 0)
            try:
                with self.session.request(
                    method, href, timeout=settings().timeout, stream=True, allow_redirects=False, **what
                ) as answer:
                    return answer, answer.raw.read(MAX_BODY + 1, decode_content=True)
            except (requests.RequestException, OSError) as err:  # the session has tried again already
                raise APIError(type(err).__name__) from err
            except HTTPError as err:
                problem = err
        raise APIError(type(problem).__name__) from problem

    def _allowed(self, href: str) -> str:
        """``href`` when this catalog may send us there, with https where the catalog itself has it."""
        url, home = urlsplit(href), urlsplit(self._catalog.url)
        if url.scheme not in ("https", "http"):
            raise DataError(f"{redact(href)}: expected https")
        if not self._catalog.remote:
            try:
                check_host(url.hostname or "", redact(href))
            except InputError as err:
                raise DataError(str(err)) from err
            return href
        if home.scheme == "https" and url.scheme == "http":  # services behind a proxy often print http links
            url = url._replace(scheme="https")
        if url.hostname != home.hostname or (url.port or _port(url.scheme)) != (home.port or _port(url.scheme)):
            raise DataError(f"catalog {self._catalog.name} sends us to another host: {redact(href)}")
        return url.geturl()

    def json_loads(self, txt: str, *args: Any, **kwargs: Any) -> Any:
        """JSON as the standard has it: no NaN, no bottomless nesting. Raises DataError."""
        try:
            return json.loads(txt, parse_constant=_refuse)
        except (ValueError, RecursionError) as err:
            start = txt[:60].strip()
            raise DataError(f"catalog {self._catalog.name}: not JSON ({err}); it begins with {start!r}") from err


def translate(err: Exception, where: str) -> NoReturn:
    """Raise ``err`` as the class of the party that has to act."""
    if isinstance(err, GeomlError):
        raise err
    status = getattr(err, "status_code", None)
    said = redact(" ".join(str(err).split())[:300])
    if not isinstance(err, APIError):
        raise InputError(f"catalog: {where} is not a STAC API ({said}); a static one is named by its .json") from err
    if status is None or status in _RETRIED:
        raise TransientError(f"{where}: no answer ({status or said}) after {settings().retries + 1} tries") from err
    if status == 404:
        raise InputError(f"{where}: not found (404); expected the URL of a STAC API or a catalog") from err
    if status in (401, 403):
        raise DataError(f"{where}: access refused ({status})") from err
    raise InputError(f"{where}: refuses the request ({status}): {said}") from err


def _text(body: bytes, href: str) -> str:
    if len(body) > MAX_BODY:
        raise DataError(f"{redact(href)}: more than {MAX_BODY >> 20} MiB of JSON")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as err:
        raise DataError(f"{redact(href)}: not UTF-8 text; it begins with {body[:16]!r}") from err


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not allowed")


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80
