"""How much pictures tell of their place, for people who look before they publish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from geoml.geolocation.locate import unlike
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.pictures import lists as photo_lists
from geoml.geolocation.pictures.ready import in_order

NEAR_KM = 200.0
HIGH, LOW = 0.5, 0.1
"""Scores from which on a picture tells its place, and below which it hardly does."""


def localizability(sources: Iterable[str | Path], locator: Locator) -> Iterator[dict[str, Any]]:
    """A row for each picture: ``image_id, status, reason, score, words, gps``, and no place.

    ``score`` is the probability within `NEAR_KM` of the best answer, the prediction density of Kordopatis-Zilos et al.
    2021 (https://arxiv.org/abs/2111.11952): 1 where a place is certain, near 0 where the picture could be anywhere.
    ``gps`` is True where the EXIF gives the place away whatever the pixels say. A picture that the locator is not for
    has the status ``abstained`` and no score. Raises NothingFound, InputError.
    """
    for picture in in_order(photo_lists.pictures(sources), locator.extractor.size, lambda *_: b""):
        row: dict[str, Any] = {"image_id": picture.reference.id, "status": picture.status or "ok", "score": None}
        row |= {"words": None, "gps": picture.exif.lon is not None, "reason": picture.reason or None}
        if picture.rgb is not None:
            features = locator.extractor(picture.rgb[None])
            (why,) = unlike.reasons(locator, [picture], features)
            if why is not None:
                yield row | {"status": "abstained", "reason": why}
                continue
            density = locator.locate(features)
            score = min(1.0, float(density.within(*density.mode(), NEAR_KM)[0]))
            row |= {"score": score, "words": "high" if score >= HIGH else "low" if score < LOW else "middle"}
        yield row
