"""Where pictures were taken: sources and a locator in, one GeoParquet file out, a row for each picture.

The key of a row (`geoml.geolocation.rows.run`) says all that went into it: the picture, the model with its calibration,
the options, and of the list only what the options use. Batches have one size, and no column tells when or where it was
computed (``created`` stays empty; ``OUT.run/run.json`` has the times), so the file is the same to the last byte however
often the run was stopped. In a list that has changed, rows that were there stay, and new ones may differ in their last
digits from a run without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoml.geolocation.locate import answers, out_of_domain
from geoml.geolocation.locate.answers import AnswerWriter
from geoml.geolocation.locate.features import batched
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.locate.side_information import SideInformation
from geoml.geolocation.pictures.listed import Reference
from geoml.geolocation.pictures.prepare import PreparedPicture, Row
from geoml.geolocation.recipe import LocateRecipe
from geoml.geolocation.rows.parts import RowParts
from geoml.geolocation.rows.run import PictureRows, Progress, write

BATCH = 32
"""Pictures in one pass of the backbone."""
PART = 128
"""Pictures whose rows are written at once: what a kill costs."""
FORMAT = 3
"""Raised when rows are made in another way."""

PACKAGES = ("geoml", "torch", "timm", "numpy", "pillow", "pyarrow")

Features = NDArray[np.float32]


def geolocate(
    sources: Iterable[str | Path],
    locator: Locator,
    out: str | Path,
    recipe: LocateRecipe | None = None,
    progress: Progress | None = None,
) -> Row:
    """Write a row for each picture of the sources to ``out``; what ``OUT.run/run.json`` says.

    The recipe's ``model`` is not looked at: ``locator`` answers. ``progress`` gets the number of rows that are ready.
    What a picture does is a row with its status and reason.

    Raises NothingFound without a picture, InputError for sources or options that make no sense, ModelError for
    answers that are not finite, DataError if ``out`` cannot be written, TransientError if another process works
    on it.
    """
    recipe = recipe or LocateRecipe()
    side = SideInformation(recipe)

    def start(folder: Path) -> _Run:
        return _Run(locator, recipe, side, RowParts(folder / "parts"))

    packages = (*PACKAGES, *locator.extractor.backend.packages)
    return write(sources, out, start, packages=packages, progress=progress)


class _Run(PictureRows[Features]):
    def __init__(self, locator: Locator, recipe: LocateRecipe, side: SideInformation, parts: RowParts) -> None:
        card, self.locator, self.side, self.top = locator.card, locator, side, recipe.top
        named, round_km = answers.names_are_there(), recipe.round_km(card.kind)
        request: Row = {
            "format": FORMAT,
            "model": {"id": card.name, "sha256": card.sha256, "kind": card.kind, "calibration": card.calibration.id},
            "backbone": locator.extractor.tag,
            "precision": {"asked": recipe.precision, "rounded_to_km": round_km},
            "use": {"what": sorted(side.use), "sigma_km": side.sigma_km if "position" in side.use else None,
                    "heights": side.heights.sha256 if side.heights else None},
            "top": recipe.top,
            "names": named,
        }  # fmt: skip
        super().__init__(parts, request, locator.digested, part=PART, size=locator.extractor.size)
        self.writer = AnswerWriter(locator, round_km, recipe.top, named, self.columns)
        self.columns = self.writer.about

    def about(self) -> Row:
        return {**super().about(), "backend": self.locator.extractor.made_by}

    def used(self, reference: Reference) -> Row:
        return self.side.used(reference)

    def extract(self, pictures: Iterator[PreparedPicture]) -> Features:
        return features_of(self.locator, pictures)

    def answer(self, pictures: Sequence[PreparedPicture], extracted: Features) -> list[Row]:
        density = self.side.applied(self.locator.locate(extracted), pictures, self.locator.card.kind)
        near = self.locator.neighbours(extracted, self.top)
        return self.writer.rows(pictures, density, near, out_of_domain.reasons(self.locator, pictures, extracted))


def features_of(locator: Locator, pictures: Iterable[PreparedPicture]) -> Features:
    """(N, F) features of pictures with pixels, in batches of one size; (0, 0) of none."""
    pixels = (p.rgb for p in pictures if p.rgb is not None)
    batches = [locator.extractor(np.stack(batch)) for batch in batched(pixels, BATCH)]
    return np.concatenate(batches) if batches else np.zeros((0, 0), np.float32)
