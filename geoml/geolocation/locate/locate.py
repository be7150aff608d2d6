"""Where pictures were taken: sources and a locator in, one GeoParquet file out, a row for each picture.

Pictures are read in threads and go through the backbone in batches and through the head in parts of `PART`, whose rows
are kept in ``OUT.run/parts`` by checksums of all that went into them: the picture, the model with its calibration, the
options, and of the list only what the options use. A run that was killed goes on after its last part; a second one
reads pictures to see that they are the same and computes nothing.

The file is put together from the parts in the order of the sources. Parts are cut by that order and never by time,
batches have one size, and no column tells when or where it was computed (``created`` stays empty; ``OUT.run/run.json``
has the times), so the file is the same to the last byte however often the run was stopped. In a list that has changed,
rows that were there stay, and new ones may differ in their last digits from a run without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.geolocation.locate import answers, unlike
from geoml.geolocation.locate.answers import Writer, rounding
from geoml.geolocation.locate.evidence import Beside
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.pictures.listed import Reference
from geoml.geolocation.pictures.ready import Ready, Row
from geoml.geolocation.rows.parts import RowParts
from geoml.geolocation.rows.run import PictureRows, Progress, write
from geoml.recipe import digest

BATCH = 32
"""Pictures in one pass of the backbone."""
PART = 128
"""Pictures whose rows are written at once: what a kill costs."""
FORMAT = 3
"""Raised when rows are made in another way."""

PACKAGES = ("geoml", "torch", "timm", "numpy", "pillow", "pyarrow")

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Options:
    """What changes rows. ``precision``: ``auto`` (photos are rounded to a region of 50 km), ``exact`` or km;
    ``top``: candidates in a row."""

    precision: str = "auto"
    top: int = 5
    beside: Beside = field(default_factory=Beside)

    def __post_init__(self) -> None:
        if not 1 <= self.top <= 50:
            raise InputError(f"top: {self.top}; expected 1 to 50 candidates")
        rounding(self.precision, "photo")


def geolocate(
    sources: Iterable[str | Path],
    locator: Locator,
    out: str | Path,
    options: Options | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a row for each picture of the sources to ``out``; what ``OUT.run/run.json`` says.

    ``progress`` gets the number of rows that are ready. What a picture does is a row with its status and reason.

    Raises NothingFound without a picture, InputError for sources or options that cannot be meant, ModelError for
    answers that are not finite, DataError when ``out`` cannot be written, TransientError when another process works
    on it.
    """

    def start(folder: Path) -> _Run:
        return _Run(locator, options or Options(), RowParts(folder / "parts"))

    return write(sources, out, start, packages=PACKAGES, progress=progress)


class _Run(PictureRows[Features]):
    def __init__(self, locator: Locator, options: Options, parts: RowParts) -> None:
        super().__init__(parts, part=PART, size=locator.extractor.size)
        card, self.locator, self.options = locator.card, locator, options
        self.kind = card.kind
        named = answers.names_are_there()
        round_km = rounding(options.precision, card.kind)
        beside = options.beside
        self.asked: dict[str, Any] = {
            "format": FORMAT,
            "model": {"id": card.name, "sha256": card.sha256, "kind": card.kind, "calibration": card.calibration.id},
            "backbone": locator.extractor.tag,
            "precision": {"asked": options.precision, "rounded_to_km": round_km},
            "use": {"what": sorted(beside.use), "sigma_km": beside.sigma_km if "position" in beside.use else None,
                    "heights": beside.heights.sha256 if beside.heights else None},
            "top": options.top,
            "names": named,
        }  # fmt: skip
        chosen = card.model_dump(mode="json", include={"calibration", "domain", "width_km"})
        self.digest = digest({**self.asked, **chosen})
        self.writer = Writer(locator, round_km, options.top, named, {"run_id": self.digest[:16]})

    def about(self) -> dict[str, Any]:
        return {**self.asked, "run_id": self.digest[:16]}

    def key(self, reference: Reference, sha256: str) -> bytes:
        told = self.options.beside.told(reference)
        return bytes.fromhex(digest([self.digest, sha256, told, list(reference.problems)]))

    def look(self, pictures: Iterator[Ready]) -> Features:
        return seen(self.locator, pictures)

    def made(self, pictures: Sequence[Ready], looked: Features) -> list[Row]:
        density = self.options.beside.applied(self.locator.locate(looked), pictures, self.kind)
        near = self.locator.neighbours(looked, self.options.top)
        return self.writer.rows(pictures, density, near, unlike.reasons(self.locator, pictures, looked))

    def without(self, picture: Ready) -> Row:
        return self.writer.without(picture)


def seen(locator: Locator, pictures: Iterable[Ready]) -> Features:
    """(N, F) features of pictures with pixels, in batches of one size; (0, 0) of none."""
    pixels = (p.rgb for p in pictures if p.rgb is not None)
    found: list[Features] = []
    while batch := list(islice(pixels, BATCH)):
        found.append(locator.extractor(np.stack(batch)))
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)
