"""Options of `geoml train` for your own files: an image and a file of labels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from geoml.errors import InputError
from geoml.io.cog.scene_fields import SceneFields
from geoml.recipe import Place, When


class OwnRecipe(SceneFields):
    """Images, labels and the column with the class, instead of a recipe; all else has a default."""

    image: tuple[Place, ...] = Field(default=(), description="GeoTIFF file or URL; repeat for several")
    labels: Place = Field(
        default="",
        description="points or polygons: GeoPackage, GeoJSON, shapefile (or zipped), FlatGeobuf, KML or GeoParquet;"
        " FILE:LAYER for a file with several layers; or the URL of an ArcGIS feature layer",
    )
    field: str = Field(default="", description="column of the labels with the class, a name or a number")
    add: tuple[Place, ...] = Field(
        default=(),
        description="further labels with the same column, such as corrected places; where labels differ, the last"
        " file wins",
    )
    color: str = Field(
        default="", description="column with a colour for each class, such as #1f78b4; by default colours are chosen"
    )
    few: Literal["refuse", "drop"] = Field(
        default="refuse",
        description="classes in too few places to hold any out: refuse them, or leave them out",
    )
    contradictions: Literal["refuse", "allow"] = Field(
        default="refuse", description="whether the field may contradict another column that names the same classes"
    )
    ground: float | None = Field(
        default=None,
        gt=0,
        description="metres: side of the squares of ground that are held out whole; by default as large as the labels"
        " allow",
    )
    datetime: tuple[When, ...] = Field(
        default=(), description="when the images were taken, one for all or one for each; by default from tags or names"
    )
    name: str = Field(default="", description="name of the package; by default that of the folder")
    epochs: int = Field(default=30, ge=1, description="maximum number of epochs; the best on held-out ground is kept")
    seed: int = Field(default=0, ge=0, description="seed of the split, the weights and the crops")

    @property
    def given(self) -> list[str]:
        """Names of the fields that say something."""
        return [n for n, f in type(self).model_fields.items() if getattr(self, n) != f.default]

    def check(self) -> None:
        """Raise InputError for a field that is missing."""
        lost = [n for n in ("image", "labels", "field") if not getattr(self, n)]
        if lost:
            raise InputError(
                f"{', '.join(lost)}: not given; expected a recipe, or --image scene.tif --labels labels.gpkg --field"
                " class"
            )
