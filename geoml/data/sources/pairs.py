"""Source ``pairs``: an image raster and a label raster on the same pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from geoml.data import rasters
from geoml.data.recipe import RasterRecipe, resolve
from geoml.data.scene import LabelledScene, Sample
from geoml.data.source import SourceConfig
from geoml.data.target import Labels, PixelTarget, pixels
from geoml.errors import DataError, InputError, NothingFound
from geoml.io.spectrum import SensorBand


class Config(SourceConfig):
    """An image raster and a label raster for each scene, on the same pixels; georeferenced or not."""

    kind: Literal["pairs"]
    root: str = Field(description="folder")
    images: str = Field(description="path under root with {id} in it, such as {id}_S1Hand.tif")
    labels: str = Field(description="path under root with {id} in it")
    file_bands: tuple[str, ...] | Literal["wavelengths"] = Field(
        description="names of the image file's bands, in file order; or wavelengths: select bands by the"
        " wavelengths in the file"
    )
    nodata: float | None = Field(default=None, description="in addition to what the files themselves state")
    ignore: tuple[int, ...] = Field(default=(), description="label values that mean unknown")
    values: dict[int, int] = Field(default_factory=dict, description="label value -> class value, if they differ")

    @property
    def offers(self) -> tuple[str, ...] | None:
        return None if self.file_bands == "wavelengths" else self.file_bands

    @property
    def folder(self) -> str | None:
        return self.root


def lines(source: Config) -> tuple[SensorBand, ...]:
    """Bands of the first image by wavelength. Raises InputError if the source names its bands, else as `scenes`."""
    if source.file_bands != "wavelengths":
        raise InputError("bands: a range of wavelengths needs `file_bands: wavelengths` in the source")
    return rasters.lines(next(iter(rasters.find(resolve(source.root), source.images).values())))


def scenes(source: Config, recipe: RasterRecipe) -> list[LabelledScene]:
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


def _read(image: Path, label: Path, source: Config, recipe: RasterRecipe) -> Sample:
    if source.file_bands == "wavelengths":
        data, valid = rasters.image_at(image, recipe.bands, source.nodata)
    else:
        data, valid = rasters.image(image, rasters.positions(recipe.bands, source.file_bands), source.nodata)
    kind = pixels(recipe)
    return Sample.of(data, valid, of_raster(label, source.values, source.ignore, kind), kind)


def of_raster(label: Path, mapped: Mapping[int, int], ignore: Sequence[int], kind: PixelTarget) -> Labels:
    """(y,x) labels of a raster's values, by ``mapped`` where they differ.

    Raises DataError for a file that cannot be read, and for a value that is neither a label nor to be ignored.
    """
    raw, known = rasters.read(label, [1])
    return kind.of_raster(raw[0], known, str(label), mapped, ignore)
