"""From a recipe to the pieces of each split; a source is the file of its name in `geoml.data.sources`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import shapely

from geoml.data.recipe import RasterRecipe
from geoml.data.rotated_pieces import rotated
from geoml.data.scene import LabelledScene, Piece, Sample
from geoml.data.source import SOURCES
from geoml.data.splits import SPLITS, assign, check_copies
from geoml.data.target import LISTED
from geoml.errors import DataError, InputError
from geoml.io import spectrum

log = logging.getLogger(__name__)

Splits = Mapping[str, Sequence[Piece]]
"""train, val and test -> pieces, any of the last two may be empty; ``unused``: scenes that the split leaves out."""

UNUSED = "unused"


def scenes(recipe: RasterRecipe) -> list[LabelledScene]:
    """Every scene of the recipe's source, unread. Raises InputError, NothingFound or DataError."""
    found: list[LabelledScene] = SOURCES.find(recipe.source.kind).scenes(recipe.source, recipe)
    return found


def settled(recipe: RasterRecipe) -> RasterRecipe:
    """The recipe with the bands that its ranges of wavelengths stand for, by wavelength, bad ones left out.

    A recipe without a range is returned as it is. Raises InputError for a source that knows no wavelengths, for a range
    without a band and a band that is named twice; else as `scenes`.
    """
    ranges = [spectrum.range_of(name) for name in recipe.bands]
    if not any(ranges):
        return recipe
    kind = recipe.source.kind
    if not SOURCES.defines(kind, "lines"):
        raise InputError(
            f"bands: ranges of wavelengths are of sources of files that say them, such as pairs, not {kind}"
        )
    lines: Sequence[spectrum.SensorBand] = SOURCES.find(kind).lines(recipe.source)
    names = spectrum.expanded(recipe.bands, lines)
    bad = sum(line.bad and any(s and s[0] <= line.wavelength <= s[1] for s in ranges) for line in lines)
    log.info("%s: %d bands, %d bad ones left out", recipe.name, len(names), bad)
    return recipe.model_copy(update={"bands": names})


def prepare(recipe: RasterRecipe) -> Splits:
    """The pieces of every split, checked for leaks. Raises InputError for a leak, what `scenes` raises otherwise."""
    found = scenes(recipe)
    pieces = assign(found, recipe.split, recipe.source.folder, recipe.seed)
    check_copies(pieces)
    used = {p.scene.id for p in pieces}
    unused = [Piece(s, s.window, UNUSED) for s in found if s.id not in used]
    splits = {name: [p for p in pieces if p.split == name] for name in SPLITS} | {UNUSED: unused}
    if recipe.augmentation.validation:
        splits["val"] = rotated(splits["val"], recipe.target, recipe.augmentation.rotate)
    return splits


def check(splits: Splits, recipe: RasterRecipe, read: Callable[[LabelledScene], Sample]) -> None:
    """Read every scene of every split once, so that what is wrong with one ends a training before it begins.

    Raises DataError or InputError for all that is wrong: label values of all files in one list, then the other faults.
    """
    values: dict[object, str] = {}
    wrong: list[DataError | InputError] = []
    for scene in dict.fromkeys(p.scene for name in SPLITS for p in splits[name]):
        try:
            read(scene)
        except (DataError, InputError) as err:
            if isinstance(err, DataError) and err.values:
                values = {**err.values, **values}
            else:
                wrong.append(err)
    if values:
        wrong.insert(0, recipe.target.unexplained(values))
    if wrong:
        more = f"; and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        kind = InputError if isinstance(wrong[0], InputError) else DataError
        raise kind("; ".join(map(str, wrong[:LISTED])) + more) from wrong[0]


def held_out(splits: Splits, wanted: str) -> Sequence[Piece]:
    """The pieces of a split. Raises InputError, naming the splits that have some, when it is empty."""
    if wanted not in SPLITS:
        raise InputError(f"split: {wanted!r}; expected one of {', '.join(SPLITS)}")
    if not splits[wanted]:
        raise InputError(
            f"split: {wanted} is empty in this recipe; there is {', '.join(name for name in SPLITS if splits[name])}"
        )
    return splits[wanted]


def summary(splits: Splits) -> dict[str, Any]:
    """What each split holds, for the model card: names of scenes and pixels on the ground."""
    return {
        name: {
            "scenes": sorted({p.scene.id for p in pieces}),
            "pixels": sum(p.window.shape[0] * p.window.shape[1] for p in pieces),
        }
        for name, pieces in splits.items()
    }


def bounds(pieces: Sequence[Piece]) -> tuple[float, float, float, float]:
    """Longitude/latitude bounds of the pieces; the whole world where none has a georeference."""
    outlines = [f for p in pieces if (f := p.footprint) is not None]
    if not outlines:
        return -180.0, -90.0, 180.0, 90.0
    west, south, east, north = shapely.total_bounds(outlines).tolist()
    return west, south, east, north
