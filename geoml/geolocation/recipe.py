"""Recipes of geolocation: which locator or map, and all that changes the rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from geoml.fields import Spelled
from geoml.recipe import Frozen, Place, When


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _several(value: object) -> Iterable[object]:
    return value if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def _places(value: object) -> list[object]:
    """One or several paths, as texts."""
    return [*map(_plain, _several(value))]


def _words(value: object) -> tuple[str, ...]:
    """Names once each, of texts that may hold several with commas between."""
    return tuple(dict.fromkeys(word for text in _several(value) for word in str(text).replace(",", " ").split()))


REGION_KM = 50.0
"""Ground photos are rounded to this unless asked otherwise."""


def _rounding(precision: str) -> str:
    if precision not in ("auto", "exact"):
        try:
            km = float(precision)
        except ValueError:
            km = 0.0
        if not 1 <= km <= 5000:
            raise ValueError(f"{precision!r}; expected auto, exact, or 1 to 5000 km")
    return precision


File = Annotated[Place, BeforeValidator(_plain)]
Files = Annotated[tuple[str, ...], BeforeValidator(_places)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Latitude = Annotated[float, Field(ge=-90, le=90)]


class LocatorRecipe(Frozen):
    """Which locator looks at the pictures."""

    model_config = ConfigDict(allow_inf_nan=False)

    model: File | None = Field(
        default=None, description="a locator: name, folder or URL of a package; optional if there is only one"
    )


class VerifyRecipe(LocatorRecipe):
    """Does a picture fit the place where it is said to be taken?"""

    lon: Longitude | None = Field(default=None, description="claimed place, degrees; by default from the list or EXIF")
    lat: Latitude | None = Field(default=None, description="claimed place, degrees")
    radius_km: Annotated[float, Spelled(name="radius")] = Field(
        default=50.0, gt=0, le=5000, description="km within which the claim counts as right"
    )
    prior: Literal["training", "uniform"] = Field(
        default="training",
        description="prior over places: at the training places, or uniform",
    )

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.lon is None) != (self.lat is None):
            raise ValueError("lon, lat: expected both or neither")
        return self


class SimilarRecipe(LocatorRecipe):
    """Find the pictures of an index that look most like a given one."""

    k: int = Field(default=10, ge=1, description="number of pictures to return")
    bbox: Annotated[tuple[Longitude, Latitude, Longitude, Latitude] | None, Spelled("W S E N")] = Field(
        default=None, description="only pictures inside, degrees; west > east crosses the antimeridian"
    )
    datetime: When = Field(default="../..", description="date or interval, such as 2024-01-01/..")


class LocateRecipe(LocatorRecipe):
    """Where pictures were taken."""

    precision: Annotated[str, AfterValidator(_rounding)] = Field(
        default="auto",
        description="auto (answers for ground photos are rounded to regions of 50 km), exact, or km to round to",
    )
    use: Annotated[
        tuple[Literal["time", "text", "position", "altitude"], ...],
        BeforeValidator(_words),
        Spelled("time,text,position,altitude"),
    ] = Field(
        default=(),
        description="what to use besides the pixels: time (zone of the clock; daylight, for pictures from"
        " above), text (places named in a caption), position (from the list, else from EXIF) or"
        " altitude (from EXIF); nothing by default",
    )
    sigma_km: float = Field(default=25.0, gt=0, description="uncertainty in km of a position that is used")
    heights: File | None = Field(default=None, description="GeoTIFF of ground heights, in degrees; for altitudes")
    top: int = Field(default=5, ge=1, le=50, description="candidates per row")

    def round_km(self, kind: Literal["overhead", "photo"]) -> float | None:
        """Km that answers of a locator of this kind are rounded to; None for exact ones."""
        if self.precision == "auto":
            return REGION_KM if kind == "photo" else None
        return None if self.precision == "exact" else float(self.precision)


class MapRecipe(Frozen):
    """Where pictures from above lie on a map: one of ``reference``, ``frames`` and ``catalog``."""

    model_config = ConfigDict(allow_inf_nan=False)

    reference: Files = Field(
        default=(),
        description="GeoTIFF, folder of them or URL; repeat for several. Together they form one mosaic, in which"
        " the first wins in overlaps",
    )
    frames: Files = Field(
        default=(),
        description="pictures with a position in their list or EXIF; repeat for several sources. Pictures"
        " without one are left out and named in run.json",
    )
    catalog: File | None = Field(
        default=None,
        description="name, URL or file of a STAC catalog; its items are searched where the locator points",
    )
    collection: str | None = Field(default=None, description="collection of the catalog")
    datetime: When = Field(default="../..", description="RFC 3339 date or interval of the items")
    filter: str | None = Field(default=None, description='CQL2 text, such as "eo:cloud_cover" < 10')
    asset: str | None = Field(default=None, description="key of the asset to read; by default the most informative one")
    items: Annotated[int, Spelled(name="max-items")] = Field(
        default=12, ge=1, description="maximum number of items that a picture is matched with"
    )
    model: File | None = Field(
        default=None,
        description="with a catalog, the locator that says where to search; optional if there is only one",
    )
    use: Annotated[tuple[Literal["position"], ...], BeforeValidator(_words)] = Field(
        default=(), description="position: search around the position from the list, else from EXIF"
    )
    near: Annotated[tuple[Longitude, Latitude] | None, Spelled("LON LAT")] = Field(
        default=None, description="where pictures without a position were taken, degrees"
    )
    within_km: float = Field(
        default=1.0, gt=0, lt=20_000, description="maximum error of such positions in km; only this area is searched"
    )
    frames_sigma: float = Field(default=5.0, gt=0, description="uncertainty in metres of the positions of frames")
    scales: Annotated[tuple[float, ...], Spelled(name="scale")] = Field(
        default=(1.0,),
        min_length=1,
        description="pixel size to match at, in pixels of the map; repeat for several: 1 and 4 find pictures"
        " that are much coarser",
    )

    @property
    def has_prior(self) -> bool:
        """Whether anything is known of where the pictures are."""
        return "position" in self.use or self.near is not None

    @model_validator(mode="after")
    def _one_map(self) -> Self:
        if sum((bool(self.reference), bool(self.frames), self.catalog is not None)) != 1:
            raise ValueError("reference, frames, catalog: expected exactly one of them")
        if self.catalog is None and (self.collection or self.filter or self.asset or self.model is not None):
            raise ValueError("collection, filter, asset, model: only for a catalog")
        return self
