"""Signatures of the URLs of a run: kept in memory, never in a file.

Plans and recipes name models, regions and catalogs without what signs them (`geoml.recipe.Place`). The query of a
signed URL is remembered here when it is fetched, and added when the same place, or a file of a signed model folder,
is asked for later. Workers elsewhere get `current_signatures` with their batch and install them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from geoml.errors import InputError
from geoml.redacted import bare

FOLDERS = ("model", "tiles")
"""Fields whose URL signs every file of its folder."""
KINDS = (*FOLDERS, "catalog", "region", "labels", "points", "stereo")
"""Fields of a recipe whose URLs are remembered; what items and lists name is not."""

_remembered: dict[str, str] = {}
_lock = threading.Lock()


class Signatures:
    """What a worker needs to read what its driver reads. A class of its own, so that no log shows what is inside."""

    __slots__ = ("_queries",)

    def __init__(self, queries: Mapping[str, str]) -> None:
        self._queries = dict(queries)

    def __repr__(self) -> str:
        return f"<signatures of {len(self._queries)} URLs>"

    def __reduce__(self) -> tuple[type[Signatures], tuple[dict[str, str]]]:
        return Signatures, (self._queries,)

    def install(self) -> None:
        """Remember them in this process too."""
        with _lock:
            _remembered.update(self._queries)


def current_signatures() -> Signatures:
    """Those that this process remembers, to send to a worker."""
    with _lock:
        return Signatures(_remembered)


def is_http(url: str) -> bool:
    """Whether a query may sign ``url``."""
    return url.partition("://")[0].lower() in ("https", "http") and "://" in url


def signed(url: str, what: str) -> str:
    """``url`` of the field ``what`` with its own signature, which is then remembered, or with the remembered one."""
    if what not in KINDS or not is_http(url):
        return url
    place, mark, query = url.partition("?")
    with _lock:
        if mark:
            _remembered[place.rpartition("/")[0] if what in FOLDERS else place] = query
            return url
        while place.count("/") > 2:  # the host alone signs nothing
            if place in _remembered:
                return f"{url}?{_remembered[place]}"
            place = place.rpartition("/")[0]
    return url


def unsigned(url: str, what: str) -> str:
    """``url`` of the field ``what`` as files keep it; what signs it is remembered for `signed`.

    Raises InputError for a URL with more than a path and a query, such as a fragment or a user name.
    """
    plain = bare(url)
    if plain != url.partition("?")[0]:
        raise InputError(f"{what}: {plain}: has more than a path and a query; expected a plain URL")
    signed(url, what)
    return plain


def join_url(folder: str, name: str) -> str:
    """The URL of a file in the folder at a URL, which may be signed."""
    place, mark, query = folder.partition("?")
    return f"{place.rstrip('/')}/{name}{mark}{query}"
