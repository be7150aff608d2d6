"""Source ``boxes``: images with boxes, outlines or points of objects, in any format of `geoml.data.annotations`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pydantic import Field, model_validator
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from geoml.data import rasters
from geoml.data.annotated import LabelledImage, Outside, Report, gsd_problems, on_image
from geoml.data.annotation import FORMATS, Annotation, Coordinates, Corners, Record
from geoml.data.labels import VectorLabels
from geoml.data.recipe import RasterRecipe, resolve
from geoml.data.scene import LabelledScene, Sample
from geoml.data.source import FileSource
from geoml.data.target import Target
from geoml.errors import DataError, InputError
from geoml.io.tables import csv_rows
from geoml.texts import listed

log = logging.getLogger(__name__)

ANY_CRS = "EPSG:3857"
"""Of coordinates that are pixels, where a CRS has to stand."""
LISTED = 20
"""Faults of labels that a message names."""

Known = tuple[BaseGeometry, float]
"""In pixels of its image, and its label."""


class Config(FileSource):
    """Images with boxes or outlines of objects; where none is, no object is."""

    later: ClassVar[tuple[str, ...]] = ("format", "corners", "radius", "ignore", "outside", "rotated")

    kind: Literal["boxes"]
    root: str = Field(description="folder")
    images: str = Field(description="path under root with {id} in it, and {folder} if there is one more part")
    boxes: str = Field(description="path under root with {id} in it, or one file for all images")
    format: str = Field(
        default="vector", description="name of a file in geoml/data/annotations: vector, voc, yolo, coco, deepforest"
    )
    coordinates: Coordinates = Field(
        default="crs",
        description="of the boxes: pixels, x to the right and y down from the image's upper left corner;"
        " relative, shares of the image; or crs, the CRS of their file",
    )
    corners: Corners | None = Field(
        default=None,
        description="what corners mean: edges of pixels, or the first and last pixel of a box, counted from 0 or 1",
    )
    radius: float | None = Field(default=None, gt=0, description="metres from a point to the sides of its box")
    field: str | None = Field(
        default=None,
        description="for vector: property with the class value or name; None: every object has the class `value`",
    )
    values: dict[str, int] = Field(default_factory=dict, description="class name in the file -> class value")
    value: int = Field(default=1, description="class value of every object if there is no field")
    ignore: tuple[str, ...] = Field(
        default=(), description="class names in the file whose objects count as unknown ground"
    )
    outside: Outside = Field(
        default="error",
        description="treat a box that reaches beyond its image as an error, or clip it",
    )
    rotated: Literal["error", "upright"] = Field(
        default="error", description="treat a box with a heading as an error, or use the upright box around it"
    )
    file_bands: tuple[str, ...] = Field(description="names of the image file's bands, in file order")
    nodata: float | None = Field(default=None, description="in addition to what the files themselves state")
    no_file: Literal["empty", "error"] = Field(
        default="error",
        description="treat an image without a file of boxes, or without an entry in the common file, as empty or"
        " as an error",
    )

    @model_validator(mode="after")
    def _declared(self) -> Self:
        form = FORMATS.find(self.format)
        if self.coordinates not in form.COORDINATES:
            raise ValueError(f"coordinates: {self.format} has {' or '.join(form.COORDINATES)}, not {self.coordinates}")
        if form.CORNERS and self.corners is None:
            raise ValueError(f"corners: {self.format} does not say what they are; expected one of {list(_CORNERS)}")
        if not form.CORNERS and self.corners is not None:
            raise ValueError(f"corners: in {self.format} they can only be edges; leave it out")
        return self


_CORNERS = ("edges", "pixels_from_0", "pixels_from_1")


def scenes(source: Config, recipe: RasterRecipe) -> list[LabelledScene]:
    """A scene for every image. Raises NothingFound without one, DataError for all that is wrong with their labels."""
    root, report = resolve(source.root), Report()
    pictures = {}
    for name, path in rasters.find(root, source.images).items():
        head = rasters.header(path)
        pictures[name] = LabelledImage(path, head.shape, head.geobox, recipe.gsd)
    report.problems += gsd_problems(pictures.values(), recipe.gsd)
    label_of = _Classes(source, recipe.target)
    bare: list[str] = []
    out = []
    for name, picture, file, objects, crs in _annotated(root, source, pictures, report.problems):
        known: list[Known] = []
        unknown: list[BaseGeometry] = []
        shapes = on_image(objects, picture, crs, source, file, report)
        for thing, shape in zip(objects, shapes, strict=True):
            label = label_of(thing, file, report.problems)
            if shape is not None and (thing.unknown or thing.label in source.ignore):
                unknown.append(shape)
            elif shape is not None and label is not None:
                known.append((shape, label))
                if thing.outline is None or shapely.get_dimensions(thing.outline) < 2:
                    bare.append(f"{file}: {thing.where}")
        out.append(
            LabelledScene(name, picture.shape, partial(_read, picture, known, unknown, source, recipe), picture.geobox)
        )
    if recipe.model.config.get("masks"):
        _outlined(report, bare)
    elif not recipe.model.config.get("oriented"):
        _rotated(report, source)
    if hint := report.hint(source.corners):
        report.problems.insert(0, hint)
    elif source.corners == "edges" and (doubt := report.doubt()):
        log.warning("source.corners: %s", doubt)
    if report.problems:
        raise DataError(listed(report.problems, joined="; ", most=LISTED))
    return out


def _annotated(
    root: Path, source: Config, pictures: Mapping[str, LabelledImage], problems: list[str]
) -> Iterator[tuple[str, LabelledImage, Path, Sequence[Annotation], str | None]]:
    """Each image with the file of its objects, and these."""
    if "{id}" not in source.boxes:
        yield from _of_all(root / source.boxes, source, root, pictures, problems)
        return
    for name, picture in pictures.items():
        file = rasters.beside(root, source.boxes, name)
        if not file.exists():
            if source.no_file == "error":
                problems.append(f"{file}: missing; set source.no_file to 'empty' if that means no objects")
            yield name, picture, file, (), None
            continue
        mine: tuple[Annotation, ...] = ()
        crs = None
        for record in _records(file, source, problems):
            if record.image is not None and Path(record.image).stem != picture.path.stem:
                problems.append(f"{file}: labels of another image, {record.image}; expected {picture.path.name}")
            elif not _other_size(record, picture, file, problems):
                mine, crs = (*mine, *record.objects), record.crs
        if _placed(picture, source, file, problems):
            yield name, picture, file, mine, crs


def _of_all(
    file: Path, source: Config, root: Path, pictures: Mapping[str, LabelledImage], problems: list[str]
) -> Iterator[tuple[str, LabelledImage, Path, Sequence[Annotation], str | None]]:
    records = _records(file, source, problems)
    if any(r.image is None for r in records):
        raise InputError("source.boxes: one file of features for all images; source tiles or stac takes those")
    named = {p.path.relative_to(root).as_posix(): name for name, p in pictures.items()}
    bare: dict[str, list[str]] = {}
    for path, name in named.items():
        bare.setdefault(Path(path).name, []).append(name)
    found: dict[str, list[Annotation]] = {}
    strange: list[str] = []
    for record in records:
        same = bare.get(Path(str(record.image)).name, [])
        of = named.get(str(record.image)) or (same[0] if len(same) == 1 else None)
        if of is None:
            strange.append(str(record.image))
        elif not _other_size(record, pictures[of], file, problems):
            found.setdefault(of, []).extend(record.objects)
    if strange:
        problems.append(f"{file}: {len(strange)} images that are not there: {listed(sorted(strange))}")
    for name, picture in pictures.items():
        if name not in found and source.no_file == "error":
            problems.append(
                f"{file}: nothing about {picture.path.name}; set source.no_file to 'empty' if that means no objects"
            )
        yield name, picture, file, found.get(name, ()), None


def _records(file: Path, source: Config, problems: list[str]) -> list[Record]:
    """What a file says; what keeps it from being read is a problem."""
    try:
        found: list[Record] = FORMATS.find(source.format).read(file, source, problems)
    except DataError as err:
        problems.append(str(err))
    except csv_rows.ERRORS as err:
        problems.append(f"{file}: cannot be read ({getattr(err, 'strerror', None) or err})")
    else:
        return found
    return []


def _other_size(record: Record, picture: LabelledImage, file: Path, problems: list[str]) -> bool:
    if record.size in (None, picture.shape):
        return False
    (height, width), (y, x) = record.size or (0, 0), picture.shape
    problems.append(f"{file}: labels of an image of {width} x {height} pixels; {picture.path.name} has {x} x {y}")
    return True


def _placed(picture: LabelledImage, source: Config, file: Path, problems: list[str]) -> bool:
    if source.coordinates == "crs" and picture.geobox is None:
        problems.append(f"{picture.path}: boxes in a CRS need an image with a georeference; or are they pixels?")
        return False
    return True


class _Classes:
    """Labels of what files call classes; each that the recipe does not explain is a problem once."""

    def __init__(self, source: Config, target: Target) -> None:
        self.source, self.target = source, target
        self.known: dict[str | None, float | None] = {}

    def __call__(self, thing: Annotation, file: Path, problems: list[str]) -> float | None:
        if thing.label in self.source.ignore:
            return None
        if thing.label not in self.known:
            spec = VectorLabels(
                file=str(file),
                field=None if thing.label is None else "class",
                values=self.source.values,
                value=self.source.value,
            )
            column = None if thing.label is None else [thing.label]
            try:
                (self.known[thing.label],) = self.target.of_properties(spec, column, 1)
            except InputError as err:
                self.known[thing.label] = None
                problems.append(f"{file}: {thing.where}: {str(err).partition(': ')[2]}, or name them under `ignore`")
        return self.known[thing.label]


def _outlined(report: Report, bare: Sequence[str]) -> None:
    """An error where there is no outline to learn: a box is none."""
    if bare:
        report.problems.append(
            f"{len(bare)} of {report.objects} objects have no outline, the first is {bare[0]}: expected polygons, or a"
            " model without `masks`"
        )


def _rotated(report: Report, source: Config) -> None:
    """An error or a warning where upright boxes would be learnt of rotated ones."""
    for grown, what in (
        (report.rotated, "boxes with a heading"),
        (report.turned, "outlines that are rotated rectangles"),
    ):
        if not grown:
            continue
        said = f"{len(grown)} of {report.objects} objects are {what}"
        said += f"; upright boxes are {np.mean(grown):.1f} times as large"
        if what.startswith("boxes") and source.rotated == "error":
            report.problems.append(f"{said}: set source.rotated to 'upright' to learn those")
        elif 2 * len(grown) >= report.objects:
            log.warning("source: %s, and these are learnt", said)


def _read(
    picture: LabelledImage,
    known: Sequence[Known],
    unknown: Sequence[BaseGeometry],
    source: Config,
    recipe: RasterRecipe,
) -> Sample:
    data, valid = rasters.image(picture.path, rasters.positions(recipe.bands, source.file_bands), source.nodata)
    kind, plane = recipe.target, GeoBox(valid.shape, Affine.identity(), ANY_CRS)
    target = kind.of_features(known, plane, 0)
    if unknown:  # the whole region, but not what is known in it
        region = rasterize(unknown, out_shape=valid.shape).astype(bool)
        if known:
            region &= ~rasterize([g for g, _ in known], out_shape=valid.shape).astype(bool)
        target = kind.only(target, ~region)
    return Sample.of(data, valid, target, kind)
