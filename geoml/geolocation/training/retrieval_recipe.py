"""Recipe of features that know a place again in another year: grounds, dates and training, as one YAML file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from geoml.data import rasters
from geoml.data.recipe import resolve
from geoml.errors import InputError, NothingFound
from geoml.geolocation.training.positives import RGB, DateStack, from_files, from_stac
from geoml.recipe import Frozen, Place, When, digest

Dates = Annotated[tuple[str, ...], Field(min_length=2)]
Bounds = tuple[float, float, float, float]


class StacYears(Frozen):
    """One ground from a STAC search for each date."""

    kind: Literal["stac"]
    catalog: Place = Field(description="name in catalogs/, URL or path, as in a query")
    collection: str | None = None
    bbox: Bounds = Field(description="west south east north, degrees")
    dates: tuple[When, ...] = Field(min_length=2, description="RFC 3339 intervals")
    gsd: float = Field(gt=0, description="metres per pixel")
    crs: str = "utm"
    bands: tuple[str, str, str] = RGB
    filter: str | None = None
    mask: Literal["auto", "none"] = "auto"
    composite: Literal["first", "least_cloudy", "median", "mean"] = "least_cloudy"
    stretch: tuple[float, float] | None = Field(
        default=None, description="values shown as black and white; None: percentiles 1 and 99 of all dates together"
    )
    share: float = Field(default=1.0, gt=0, description="share of the batches relative to the other sources")


class FileYears(Frozen):
    """A GeoTIFF for each date; with ``{id}`` in the path, a ground for each id that two dates have."""

    kind: Literal["files"]
    root: str
    images: str = Field(description="path under root with {date} in it, and {id} if there are several grounds")
    dates: Dates = Field(description="texts that replace {date}")
    gsd: float | None = Field(
        default=None, gt=0, description="in units of the files' CRS; None: that of the first file"
    )
    bounds: Bounds | None = Field(default=None, description="left, bottom, right, top in the files' CRS")
    bands: tuple[int, int, int] = (1, 2, 3)
    stretch: tuple[float, float] | None = Field(default=(0.0, 255.0), description="values shown as black and white")
    share: float = Field(default=1.0, gt=0, description="share of the batches relative to the other sources")


Source = Annotated[StacYears | FileYears, Field(discriminator="kind")]


class RetrievalTraining(Frozen):
    """How the last stages of the backbone and a projection learn, see `geoml.geolocation.training.contrastive`."""

    side: int = Field(default=128, ge=32, description="side of a picture in pixels")
    steps: int = Field(default=600, ge=1)
    batch: int = Field(default=24, ge=2)
    rate: float = Field(default=4e-4, gt=0)
    stages: int = Field(
        default=3, ge=0, le=7, description="number of backbone stages that learn, counted from the last"
    )
    turn: float = Field(
        default=math.pi / 4, ge=0, le=math.pi, description="maximum rotation in radians between the pictures of a pair"
    )
    upright: float = Field(default=0.3, ge=0, le=1, description="share of pairs that are not rotated at all")
    shift: float = Field(
        default=0.19, ge=0, lt=0.5, description="maximum shift between the pictures of a pair, as a share of the side"
    )
    zoom: tuple[float, float] = Field(default=(0.8, 1.25), description="smallest and largest ground per pixel")
    look: float = Field(default=1.0, ge=0, description="strength of other looks")


class RetrievalRecipe(Frozen):
    """Features of places: the first of ``sources`` says the scale, and its tiles are the gallery of the package."""

    task: Literal["retrieval"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    license: str = Field(min_length=2, description="SPDX licence of the weights")
    data_license: str = Field(min_length=2, description="licence of the pictures that trained it")
    sources: tuple[Source, ...] = Field(min_length=1)
    tests: tuple[Source, ...] = Field(default=(), description="other ground, used for queries and never trained on")
    training: RetrievalTraining = RetrievalTraining()
    half: bool = Field(default=True, description="store the weights in half precision")
    seed: int = Field(default=0, ge=0)

    @property
    def hash(self) -> str:
        """sha256 of what changes the weights."""
        return digest(self.model_dump(mode="json", exclude={"description"}))


def read_stacks(source: StacYears | FileYears) -> list[DateStack]:
    """The grounds of a source. Raises InputError, NothingFound and DataError as
    `geoml.geolocation.training.positives`."""
    if isinstance(source, StacYears):
        options = source.model_dump(include={"crs", "bands", "filter", "mask", "composite", "stretch"})
        return [from_stac(source.catalog, source.collection, source.bbox, source.dates, source.gsd, **options)]
    root, pattern = resolve(source.root), source.images
    if pattern.count("{date}") != 1:
        raise InputError(f"sources.images: {pattern!r}; expected one {{date}} in the path")
    named = [pattern.replace("{date}", date) for date in source.dates]
    if "{id}" in pattern:
        by_date = [rasters.find(root, name) for name in named]
        files = [[paths[i] for paths in by_date if i in paths] for i in sorted(set().union(*by_date))]
    else:
        files = [[p for name in named if (p := root / name).is_file()]]
    stacks = [_from_files(source, dated) for dated in files if len(dated) > 1]
    if not stacks:
        raise NothingFound(f"{root / pattern}: nothing is there at two of the dates {', '.join(source.dates)}")
    return stacks


def _from_files(source: FileYears, files: list[Path]) -> DateStack:
    gsd = source.gsd
    if gsd is None:
        box = rasters.header(files[0]).geobox
        if box is None:
            raise InputError(f"{files[0]}: no georeference")
        gsd = abs(box.affine.a)
    return from_files(files, gsd, bounds=source.bounds, positions=source.bands, stretch=source.stretch)
