"""One picture of a source: what it is called, where it lies, and what its list says of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from geoml.errors import GeomlError, TransientError
from geoml.geolocation.pictures.decode import MAX_BYTES, UnreadablePhoto, load_bytes
from geoml.io.stores.remote import fetch, is_url
from geoml.redacted import bare


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture of a list, a folder or a catalog.

    ``id`` is unique in a run, ``href`` a path or URL; it is empty if ``refused`` says why there is none. ``lon``,
    ``lat`` (degrees) and ``time`` (UTC) are what the list says, ``labels`` its columns country, region, sub-region,
    city and sequence (a drive, a flight, a burst), ``source`` the folder, list or item it comes from. ``by_hand``: the
    user has named this URL, which no list or item may do for a host that is not public. ``problems``:
    ``position_unreadable``, ``position_out_of_range``, ``time_unreadable``.
    """

    id: str
    href: str
    lon: float | None = None
    lat: float | None = None
    time: dt.datetime | None = None
    text: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    refused: str = ""
    problems: tuple[str, ...] = ()
    by_hand: bool = False

    @property
    def remote(self) -> bool:
        return is_url(self.href)

    @property
    def uri(self) -> str | None:
        """Where the picture lies, without signatures."""
        return (bare(self.href) if self.remote else self.href) or None

    def read_bytes(self) -> bytes:
        """The file. Raises UnreadablePhoto (of a URL ``unreachable``, with the reason), TransientError if a server
        should be asked again."""
        if not self.remote:
            return load_bytes(self.href, self.id)
        try:
            path = fetch(self.href, "picture", MAX_BYTES, guarded=not self.by_hand)
        except TransientError:
            raise
        except GeomlError as err:
            raise UnreadablePhoto(self.id, "unreachable", str(err)) from err
        return load_bytes(path, self.id)
