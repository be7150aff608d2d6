"""The pages of a search of a STAC API, with the habits that servers have.

A page that is too large for the server is asked for in halves, a server without POST by GET, one that cannot sort or
filter is not asked to, and a list that ends before its end is an error. Next pages may be links of GET or POST, with a
body of their own, merged or not, relative or absolute; they are only looked for on the catalog's own host.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from pystac_client import Client
from pystac_client.exceptions import APIError

from geoml.errors import DataError
from geoml.io.stac.http import StacReader, status_of
from geoml.io.stac.item import Document
from geoml.io.stores.hrefs import redact

Parameters = dict[str, Any]
"""Of a search, as `pystac_client.Client.search` takes them."""

PAGE = 200
"""Items asked for at a time."""
LEAST = 10
"""Items at which a page is not made smaller any more."""
PATIENCE = 3
"""Times the same error of the server before a smaller page is asked for."""
MAX_PAGES = 5000
EMPTY = 100
"""Pages without an item in a row; some servers filter what they have cut into pages before."""

TOO_LARGE = (413, 500, 502, 504)
NO_POST = (403, 404, 405, 501)
REFUSED = (400, 422)
_LIMIT = re.compile(r"limit|page.?size|too (large|many|big|long)|exceed|maximum|payload|response size", re.IGNORECASE)

_log = logging.getLogger(__name__)


@dataclass
class Request:
    """One page to ask for; ``body`` are the parameters of a POST, None for a GET."""

    href: str
    body: Parameters | None

    @property
    def key(self) -> str:
        return json.dumps([self.href, self.body], sort_keys=True, default=str)


def pages(
    client: Client, reader: StacReader, name: str, parameters: Parameters, droppable: tuple[str, ...] = ()
) -> Iterator[list[Any]]:
    """Features page by page until the list ends.

    After a refusal the parameters ``droppable`` are left away, one after the other: the caller does without them.
    Items may come twice. Raises DataError for a list that ends before its end or never, and pystac-client's APIError.
    """
    parameters, method = dict(parameters), "POST"
    while True:
        try:
            yield from _whole(client, reader, name, parameters, method)
        except APIError as err:
            status, size = status_of(err), parameters["limit"]
            large = status in TOO_LARGE or (status in REFUSED and _LIMIT.search(str(err)))
            extra = [k for k in droppable if parameters.get(k) is not None]
            if method == "POST" and status in NO_POST:
                method = "GET"
            elif large and size > LEAST:
                parameters["limit"] = smaller = max(LEAST, size // 2)
                _log.warning("catalog %s: no page of %d items (%s); asking for %d", name, size, status, smaller)
            elif status in (*REFUSED, 501) and extra:
                del parameters[extra[0]]
                _log.warning("catalog %s refuses %s (%s); done here", name, extra[0], status)
            else:
                raise
        else:
            return


def _whole(client: Client, reader: StacReader, name: str, parameters: Parameters, method: str) -> Iterator[list[Any]]:
    """All pages of one request. Ends when a page brings no new id, however it is linked."""
    seen: set[str] = set()
    done: set[str] = set()
    sizes: list[int] = []
    total: int | None = None
    patience = PATIENCE if parameters["limit"] > LEAST else None
    request: Request | None = _first(client, parameters, method)
    end = ""
    while request is not None and not end:
        done.add(request.key)
        page = _page(reader, request, patience)
        if len(done) > MAX_PAGES:
            raise DataError(f"catalog {name}: more than {MAX_PAGES} pages; narrow the search or set a limit")
        features = page.get("features")
        values = features if isinstance(features, list) else []
        ids = {_name(v, len(done), n) for n, v in enumerate(values)}
        total, request = _matched(page, total), _next(page, request)
        sizes.append(len(values))
        if values and ids <= seen:
            end = f"repeats page {len(done)}"
        else:
            seen |= ids
            yield values
            if request is None or request.key in done:
                end = "ends its list before its end"
        if sizes[-EMPTY:] == [0] * EMPTY:
            raise DataError(f"catalog {name}: {EMPTY} pages without an item, and still a next one")
    if total is not None and len(seen) < total:
        short = f"catalog {name} {end}: {len(seen)} of {total} items came"
        if not (
            sizes[-1] < max(sizes) and parameters.get("filter") and _count(client, reader, parameters, method) == total
        ):
            raise DataError(
                f"{short}; the others cannot be fetched this way: ask for a shorter datetime or a smaller region"
            )
        _log.warning("%s, but its count is the same without the filter, so it is taken for complete", short)
    elif end.startswith("repeats"):
        _log.warning("catalog %s %s; continuing with %d items", name, end, len(seen))


def _name(feature: object, page: int, place: int) -> str:
    name = feature.get("id") if isinstance(feature, dict) else None
    return name if isinstance(name, str) else f"{page} {place}"


def _count(client: Client, reader: StacReader, parameters: Parameters, method: str) -> int | None:
    """How many items there are by the server without the filter."""
    return _matched(_page(reader, _first(client, {**parameters, "filter": None, "limit": 1}, method), None))


def _matched(page: Mapping[str, object], otherwise: int | None = None) -> int | None:
    """How many items the server says there are, by the field of OGC API or of the old context extension."""
    contexts = [part for key in ("context", "search:metadata") if isinstance(part := page.get(key), dict)]
    counts = [page.get("numberMatched"), *(part.get("matched") for part in contexts)]
    return next((v for v in counts if isinstance(v, int) and not isinstance(v, bool)), otherwise)


def _first(client: Client, parameters: Parameters, method: str) -> Request:
    search = client.search(method=method, **parameters)
    body = search.get_parameters()
    if method == "POST":
        return Request(search.url, body)
    parts = urlsplit(search.url)
    query = [*parse_qsl(parts.query, keep_blank_values=True), *body.items()]
    return Request(parts._replace(query=urlencode(query)).geturl(), None)


def _page(reader: StacReader, request: Request, patience: int | None) -> Document:
    method = "GET" if request.body is None else "POST"
    page = reader.json_loads(reader.request(request.href, method, parameters=request.body, patience=patience))
    if not isinstance(page, dict):
        raise DataError(f"{redact(request.href)}: expected a JSON object")
    return page


def _next(page: Document, now: Request) -> Request | None:
    """What the page's next link asks for; None if there is none."""
    links = page.get("links")
    following = [k for k in links if isinstance(k, dict) and k.get("rel") == "next"] if isinstance(links, list) else []
    link = next((k for k in following if isinstance(k.get("href"), str) and k["href"].strip()), None)
    if link is None:
        return None
    try:
        href = urljoin(now.href, link["href"].strip())
    except ValueError:  # its text may hold a password
        raise DataError(f"the next page {redact(link['href'])!r} is not a URL") from None
    body = link.get("body") if isinstance(link.get("body"), dict) else None
    method = str(link.get("method") or ("POST" if body is not None else "GET")).upper()
    if method != "POST":
        return Request(href, None)
    merged = link.get("merge") is True or body is None
    return Request(href, {**((now.body or {}) if merged else {}), **(body or {})})
