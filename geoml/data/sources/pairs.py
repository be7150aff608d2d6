"""Source ``pairs``: an image raster and a label raster on the same pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoml.data import rasters
from geoml.data.labels import LISTED
from geoml.data.recipe import Pairs, TrainRecipe, resolve
from geoml.data.scene import LabelledScene, Sample
from geoml.errors import DataError, NothingFound
from geoml.nn.metrics import IGNORE


def unexplained(values: Mapping[object, str], recipe: TrainRecipe) -> DataError:
    """The error for label values (each with a file that holds it) that are neither a class nor to be ignored."""
    files = ", ".join(f"{value!r} ({where})" for value, where in list(values.items())[:LISTED])
    error = DataError(
        f"labels: values {files} are no class {sorted(recipe.index_of)};"
        " map them under source.values or list them under source.ignore"
    )
    error.values = dict(values)
    return error


def scenes(source: Pairs, recipe: TrainRecipe) -> list[LabelledScene]:
    """A scene for every id that has both files. Raises NothingFound, DataError for pairs of different shape."""
    root = resolve(source.root)
    images, labels = rasters.find(root, source.images), rasters.find(root, source.labels)
    both = sorted(images.keys() & labels.keys())
    if not both:
        raise NothingFound(f"{root}: no id has both {source.images} and {source.labels}")
    out = []
    for name in both:
        head, label = rasters.header(images[name]), rasters.header(labels[name])
        if head.shape != label.shape:
            raise DataError(f"{name}: image {head.shape} and label {label.shape} differ in shape")
        geobox = head.geobox or label.geobox
        read = partial(_read, images[name], labels[name], source, recipe)
        out.append(LabelledScene(name, head.shape, read, geobox))
    return out


def _read(image: Path, label: Path, source: Pairs, recipe: TrainRecipe) -> Sample:
    data, valid = rasters.image(image, rasters.positions(recipe.bands, source.file_bands), source.nodata)
    return Sample.of(data, valid, class_indices(label, source.values, source.ignore, recipe))


def class_indices(
    label: Path, mapped: Mapping[int, int], ignore: Sequence[int], recipe: TrainRecipe
) -> NDArray[np.uint8]:
    """(y,x) index in ``recipe.classes`` of a label raster's values, by ``mapped`` where they differ; else IGNORE.

    Raises DataError for a value that is neither a class nor to be ignored.
    """
    raw, known = rasters.read(label, [1])
    values = raw[0]
    found = [v.item() for v in np.unique(values[known]) if v not in ignore]
    strange = [v for v in found if mapped.get(v, v) not in recipe.index_of]
    if strange:
        raise unexplained({value: str(label) for value in strange}, recipe)
    target = np.full(values.shape, IGNORE, np.uint8)
    for value in found:
        target[(values == value) & known] = recipe.index_of[mapped.get(value, value)]
    return target
