"""The pages of a search of a STAC API, with the habits that servers have.

A page that is too large for the server is asked for in halves, a server without POST by GET, one that cannot sort or
filter is not asked to, and a list that ends before its end is an error. Next pages may be links of GET or POST, with a
body of their own, merged or not, relative or absolute; they are only looked for on the catalog's own host.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from pystac_client import Client
from pystac_client.exceptions import APIError

from geoml.errors import DataError
from geoml.io.stac.http import StacReader
from geoml.io.stores.hrefs import redact

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
    body: dict[str, Any] | None

    @property
    def key(self) -> str:
        return json.dumps([self.href, self.body], sort_keys=True, default=str)


def pages(
    client: Client, reader: StacReader, name: str, asked: dict[str, Any], droppable: tuple[str, ...] = ()
) -> Iterator[list[Any]]:
    """Features page by page until the list ends; ``asked`` are parameters as of `pystac_client.Client.search`.

    After a refusal the parameters ``droppable`` are left away, one after the other: the caller does without them.
    Items may come twice. Raises DataError for a list that ends before its end or never, and pystac-client's APIError.
    """
    given, method = dict(asked), "POST"
    while True:
        try:
            yield from _whole(client, reader, name, given, method)
        except APIError as err:
            status, said, size = getattr(err, "status_code", None), str(err), given["limit"]
            large = status in TOO_LARGE or (status in REFUSED and _LIMIT.search(said))
            extra = [k for k in droppable if given.get(k) is not None]
            if method == "POST" and status in NO_POST:
                method = "GET"
            elif large and size > LEAST:
                given["limit"] = max(LEAST, size // 2)
                _log.warning("catalog %s: no page of %d items (%s); asking for %d", name, size, status, given["limit"])
            elif status in (*REFUSED, 501) and extra:
                del given[extra[0]]
                _log.warning("catalog %s refuses %s (%s); done here", name, extra[0], status)
            else:
                raise
        else:
            return


def _whole(client: Client, reader: StacReader, name: str, asked: dict[str, Any], method: str) -> Iterator[list[Any]]:
    """All pages of one request. Ends when a page brings no new id, however it is linked."""
    seen: set[str] = set()
    done: set[str] = set()
    sizes: list[int] = []
    total: int | None = None
    patience = PATIENCE if asked["limit"] > LEAST else None
    request: Request | None = _first(client, asked, method)
    end = ""
    while request is not None and not end:
        done.add(request.key)
        page = _page(reader, request, patience)
        if len(done) > MAX_PAGES:
            raise DataError(f"catalog {name}: more than {MAX_PAGES} pages; ask for less or set a limit")
        features = page.get("features")
        values = features if isinstance(features, list) else []
        ids = {_name(v, len(done), n) for n, v in enumerate(values)}
        counted, request = _matched(page), _next(page, request)
        total = total if counted is None else counted
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
        if not (sizes[-1] < max(sizes) and asked.get("filter") and _count(client, reader, asked, method) == total):
            raise DataError(
                f"{short}; the others are not to be had this way: ask for a shorter datetime or a smaller region"
            )
        _log.warning("%s, but its count is the same without the filter, so it is taken for complete", short)
    elif end.startswith("repeats"):
        _log.warning("catalog %s %s; going on with %d items", name, end, len(seen))


def _name(feature: Any, page: int, place: int) -> str:
    found = feature.get("id") if isinstance(feature, dict) else None
    return found if isinstance(found, str) else f"{page} {place}"


def _count(client: Client, reader: StacReader, asked: dict[str, Any], method: str) -> int | None:
    """How many items there are by the server without the filter."""
    more = {**asked, "filter": None, "limit": 1}
    return _matched(_page(reader, _first(client, more, method), None))


def _matched(page: dict[str, Any]) -> int | None:
    """How many items the server says there are, by the field of OGC API or of the old context extension."""
    context, search = page.get("context"), page.get("search:metadata")
    said = [page.get("numberMatched")]
    said += [part.get("matched") for part in (context, search) if isinstance(part, dict)]
    return next((v for v in said if isinstance(v, int) and not isinstance(v, bool)), None)


def _first(client: Client, asked: dict[str, Any], method: str) -> Request:
    search = client.search(method=method, **asked)
    parameters = search.get_parameters()
    if method == "POST":
        return Request(search.url, parameters)
    return Request(_with(search.url, parameters), None)


def _with(url: str, parameters: dict[str, Any]) -> str:
    parts = urlsplit(url)
    query = [*parse_qsl(parts.query, keep_blank_values=True), *parameters.items()]
    return urlunsplit(parts._replace(query=urlencode(query)))


def _page(reader: StacReader, request: Request, patience: int | None) -> dict[str, Any]:
    if request.body is None:
        text = reader.request(request.href, "GET", patience=patience)
    else:
        text = reader.request(request.href, "POST", parameters=request.body, patience=patience)
    page = reader.json_loads(text)
    if not isinstance(page, dict):
        raise DataError(f"{redact(request.href)}: expected a JSON object")
    return page


def _next(page: dict[str, Any], now: Request) -> Request | None:
    """What the page's next link asks for; None where there is none."""
    links = page.get("links")
    found = [k for k in links if isinstance(k, dict) and k.get("rel") == "next"] if isinstance(links, list) else []
    link = next((k for k in found if isinstance(k.get("href"), str) and k["href"].strip()), None)
    if link is None:
        return None
    try:
        href = urljoin(now.href, link["href"].strip())
    except ValueError:  # its text may hold a password
        raise DataError(f"the next page {redact(link['href'])!r} is no URL") from None
    body = link.get("body") if isinstance(link.get("body"), dict) else None
    post = str(link.get("method") or ("POST" if body is not None else "GET")).upper() == "POST"
    if not post:
        return Request(href, None)
    merged = link.get("merge") is True or body is None
    return Request(href, {**((now.body or {}) if merged else {}), **(body or {})})
