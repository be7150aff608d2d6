"""Pictures that have a position: in their list, else in their EXIF."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from geoml.errors import InputError, NothingFound
from geoml.geolocation.pictures import lists as photo_lists
from geoml.geolocation.pictures.decode import UnreadablePhoto
from geoml.geolocation.pictures.listed import Reference

log = logging.getLogger(__name__)

SMALL = 16
"""Pixels of the shorter side at which a picture is decoded to see that it can be."""


@dataclass(frozen=True, slots=True)
class Positioned:
    """A picture that can be read, its place in degrees and the SHA-256 of its file."""

    reference: Reference
    lon: float
    lat: float
    sha256: str

    @property
    def sequence(self) -> str | None:
        """The sequence that its list names: a drive, a flight, a burst."""
        return self.reference.labels.get("sequence")


def positioned(sources: Iterable[str | Path]) -> tuple[list[Positioned], list[tuple[str, str]]]:
    """The pictures of sources in their order, and (id, why) of those that are left out, which are logged too.

    Raises InputError for sources that are none, NothingFound if no picture is left.
    """
    out: list[Positioned] = []
    left_out: list[tuple[str, str]] = []
    for one in photo_lists.pictures(sources):
        try:
            photo = photo_lists.load(one, SMALL)
        except (UnreadablePhoto, InputError) as err:
            left_out.append((one.id, err.reason if isinstance(err, UnreadablePhoto) else str(err)))
            continue
        lon, lat = (one.lon, one.lat) if one.lon is not None else (photo.exif.lon, photo.exif.lat)
        if lon is None or lat is None:
            left_out.append((one.id, "; ".join(("no position", *photo.exif.problems))))
        else:
            out.append(Positioned(one, lon, lat, photo.sha256))
    for name, why in left_out:
        log.warning("picture %s is left out: %s", name, why)
    if not out:
        raise NothingFound(f"none of {len(left_out)} pictures has a position and can be read")
    return out, left_out
