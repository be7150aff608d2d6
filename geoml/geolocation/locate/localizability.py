"""How much pictures tell of their place, for people who look before they publish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

from geoml.geolocation.locate import out_of_domain
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.pictures import lists as photo_lists
from geoml.geolocation.pictures.prepare import in_order

NEAR_KM = 200.0
HIGH, LOW = 0.5, 0.1
"""Scores from which on a picture tells its place, and below which it hardly does."""


class Localizability(TypedDict):
    """How much one picture tells of its place."""

    image_id: str
    status: str
    score: float | None
    words: str | None
    gps: bool
    reason: str | None


def localizability(sources: Iterable[str | Path], locator: Locator) -> Iterator[Localizability]:
    """A row for each picture: ``image_id, status, reason, score, words, gps``, and no place.

    ``score`` is the probability within `NEAR_KM` of the best answer, the prediction density of Kordopatis-Zilos et al.
    2021 (https://arxiv.org/abs/2111.11952): 1 where a place is certain, near 0 where the picture could be anywhere.
    ``gps`` is True where the EXIF gives the place away whatever the pixels say. A picture that the locator is not for
    has the status ``abstained`` and no score. Raises NothingFound, InputError.
    """
    for picture in in_order(photo_lists.pictures(sources), locator.extractor.size, lambda *_: b""):
        row: Localizability = {
            "image_id": picture.reference.id, "status": picture.status or "ok", "score": None, "words": None,
            "gps": picture.exif.lon is not None, "reason": picture.reason or None,
        }  # fmt: skip
        if picture.rgb is not None:
            features = locator.extractor(picture.rgb[None])
            (why,) = out_of_domain.reasons(locator, [picture], features)
            if why is not None:
                row["status"], row["reason"] = "abstained", why
            else:
                density = locator.locate(features)
                row["score"] = score = min(1.0, float(density.within(*density.mode(), NEAR_KM)[0]))
                row["words"] = "high" if score >= HIGH else "low" if score < LOW else "middle"
        yield row
