"""Options of a run for heights: from which points or pair, by which ground filter, above which datum."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from geoml.fields import Spelled, Unhashed
from geoml.recipe import FeatureFormats, Frozen, Place, RegionPlace, When

POINTS_ONLY = ("ground", "reach", "buildings", "features_format", "min_area", "left_out", "write_classes")
PAIRS_ONLY = ("dem", "heights", "margin", "matching")
"""Options that say nothing of the other kind of source."""


class ElevationRecipe(Frozen):
    """One run of heights."""

    model_config = ConfigDict(allow_inf_nan=False)

    points: tuple[Place, ...] = Field(
        default=(),
        description="LAS, LAZ, COPC or EPT: files, folders of them, or URLs. Give this, stereo or catalog",
    )
    stereo: Annotated[tuple[Place, Place] | None, Spelled("ITEM ITEM")] = Field(
        default=None, description="two images of one place with RPCs: local files or STAC items"
    )
    catalog: Place | None = Field(
        default=None, description="a name in catalogs/, a STAC API or a static catalog whose items are point clouds"
    )
    collection: str | None = Field(default=None, description="collection id")
    datetime: When | None = Field(default=None, description="RFC 3339 instant or interval for the catalog search")
    bbox: Annotated[tuple[float, float, float, float] | None, Spelled("W S E N")] = Field(
        default=None, description="west, south, east, north in degrees; by default everything there is"
    )
    region: RegionPlace | None = Field(default=None, description="polygons, instead of a bbox")
    ground: Place = Field(
        default="smrf",
        description="which points are ground: smrf, pmf, delivered (the classes in the files), or a package",
    )
    res: float = Field(default=1.0, gt=0, le=1000, description="cell size in metres")
    crs: str | None = Field(
        default=None,
        description="horizontal CRS of the points, overriding the files, such as EPSG:28992; for pictures, CRS"
        " of the output",
    )
    vertical: str | None = Field(
        default=None,
        description="CRS of the heights, overriding the files, such as EPSG:5709; or only their unit: m, ft or ftUS",
    )
    datum: str | None = Field(
        default=None,
        description="CRS to convert heights to, such as EPSG:5773 or ellipsoid; by default they are not converted",
    )
    reach: float = Field(
        default=40.0,
        gt=0,
        le=1000,
        description="metres; a terrain triangle whose circumcircle has a larger radius is a void",
    )
    dem: Place | None = Field(
        default=None,
        description="coarse heights that bound the search between two images; --vertical states their datum",
    )
    heights: Annotated[tuple[float, float] | None, Spelled("LOW HIGH")] = Field(
        default=None, description="lowest and highest height to search, in metres above the ellipsoid, instead of a DEM"
    )
    margin: float = Field(default=60.0, gt=0, le=2000, description="metres below and above the DEM to search")
    matching: Place = Field(
        default="census",
        description="matching cost for two images: census, mccnn (its weights, if installed), or a network's"
        " .safetensors",
    )
    buildings: bool = Field(default=True, description="also outline buildings, if the classes mark them")
    features_format: FeatureFormats = Field(
        default=("parquet",),
        description="also write the buildings as gpkg, fgb or pmtiles; once for each. GeoParquet is always written",
    )
    min_area: float = Field(default=10.0, ge=0, description="m²; smaller buildings are left out")
    check_points: Annotated[Place | None, Unhashed("it scores the heights and changes none")] = Field(
        default=None,
        description="independently measured points with x, y, z (GeoPackage, GeoParquet, CSV), or another height"
        " model (GeoTIFF)",
    )
    check_crs: Annotated[str | None, Unhashed("it scores the heights and changes none")] = Field(
        default=None, description="CRS of check points that state none; compound if their heights have another datum"
    )
    left_out: Annotated[bool, Unhashed("it scores the heights and changes none")] = Field(
        default=False,
        description="also report terrain errors at ground points held out in one block, at random and in squares"
        " of 10 m",
    )
    write_classes: Annotated[bool, Unhashed("it adds files")] = Field(
        default=False, description="also write the points as LAZ with the classes that were used"
    )
    block_size: Annotated[int, Unhashed("a height does not depend on its block")] = Field(
        default=192, ge=64, le=65536, description="side of a block in cells; does not change the result"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [n for n in ("points", "stereo", "catalog") if getattr(self, n)]
        if len(given) != 1:
            raise ValueError(f"points, stereo, catalog: {' and '.join(given) or 'none'} given; expected one of them")
        if self.stereo is not None and (self.dem is None) == (self.heights is None):
            raise ValueError("dem, heights: expected one of them for two pictures")
        if self.stereo is not None and self.dem is not None and self.vertical is None:
            raise ValueError("vertical: not given; expected the datum of the DEM, such as EPSG:5773 or ellipsoid")
        other = POINTS_ONLY if self.stereo else PAIRS_ONLY
        if strange := [n for n in other if getattr(self, n) != type(self).model_fields[n].default]:
            raise ValueError(f"{', '.join(strange)}: not of {'two pictures' if self.stereo else 'points'}")
        if self.bbox is not None and self.region is not None:
            raise ValueError("bbox, region: both given; expected one of them")
        if self.catalog is None and (self.collection or self.datetime):
            raise ValueError("collection, datetime: only for a catalog; expected --catalog")
        if self.catalog is not None and self.datetime is None:
            raise ValueError("datetime: not given; a catalog is searched by time, such as 2019 or ../..")
        if self.catalog is not None and self.bbox is None and self.region is None:
            raise ValueError("bbox, region: none given; expected one of them for a catalog")
        return self
