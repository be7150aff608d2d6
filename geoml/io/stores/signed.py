"""Signatures of the URLs of a run: kept in memory, never in a file.

Plans and recipes name models, regions and catalogs without what signs them (`geoml.recipe.Place`). The query of a
signed URL is remembered here when it is fetched; who asks for the same place later, or for a file of a signed model
folder, gets it added. Workers elsewhere get `kept` with their batch and `take` it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

KINDS = ("model", "catalog", "region")
"""Fields of a recipe whose URLs are remembered; what items and lists name is not."""

_known: dict[str, str] = {}
_lock = threading.Lock()


class Signatures:
    """What a worker needs to read what its driver reads. A class of its own, so that no log shows what is inside."""

    __slots__ = ("_of",)

    def __init__(self, of: Mapping[str, str]) -> None:
        self._of = dict(of)

    def __repr__(self) -> str:
        return f"<signatures of {len(self._of)} URLs>"

    def __reduce__(self) -> tuple[type[Signatures], tuple[dict[str, str]]]:
        return Signatures, (self._of,)

    def take(self) -> None:
        """Remember them in this process."""
        with _lock:
            _known.update(self._of)


def kept() -> Signatures:
    """All that this process remembers."""
    with _lock:
        return Signatures(_known)


def signed(url: str, what: str) -> str:
    """``url`` of the field ``what`` with its signature: its own, which is remembered, or that of before."""
    if what not in KINDS or url.partition("://")[0].lower() not in ("https", "http"):
        return url
    place, mark, query = url.partition("?")
    with _lock:
        if mark:
            _known[place.rpartition("/")[0] if what == "model" else place] = query
            return url
        while place.count("/") > 2:  # the host alone signs nothing
            if place in _known:
                return f"{url}?{_known[place]}"
            place = place.rpartition("/")[0]
    return url


def beside(folder: str, name: str) -> str:
    """The URL of a file in the folder at a URL, which may be signed."""
    place, mark, query = folder.partition("?")
    return f"{place.rstrip('/')}/{name}{mark}{query}"
