"""Options of a run: a recipe over a catalog, or over your own files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from geoml.io.cog.scene_fields import SceneFields
from geoml.recipe import EmbedRecipe, Place, PredictRecipe, Query, When, parse


class OverImages(Query):
    """A query that says nothing of a catalog where images are given, and less of the region and of the time."""

    catalog: Place = Field(
        default="", description=f"{Query.model_fields['catalog'].description}. Give this or an image"
    )
    datetime: Annotated[tuple[When, ...], *Query.model_fields["datetime"].metadata] = Field(
        default=(),
        description=f"{Query.model_fields['datetime'].description}. For images: when they were taken, by default"
        " from their tags or names",
    )

    @model_validator(mode="after")
    def _one_region(self) -> Self:
        if self.bbox is not None and self.region is not None:
            raise ValueError("bbox, region: give one of them, or neither beside images")
        return self


class Images(SceneFields):
    """The files of a run."""

    image: tuple[Place, ...] = Field(
        default=(),
        description="GeoTIFF file or URL instead of a catalog; repeat for several; for a model of several dates one"
        " for each, the earlier first",
    )
    query: OverImages

    @model_validator(mode="after")
    def _whole(self) -> Self:
        query = self.query
        if self.image and (query.catalog or query.collection or query.filter):
            raise ValueError("image, catalog: give one of them; collection and filter belong to a catalog")
        told = [n for n in SceneFields.model_fields if getattr(self, n) not in (None, ())]
        if not self.image and told:
            raise ValueError(f"{told[0]}: is of an image; expected --image too, or geoml catalogs new")
        if not self.image and not query.catalog:
            raise ValueError("catalog: not given; expected a catalog, or an image such as scene.tif")
        if not self.image and not query.datetime:
            raise ValueError("datetime: not given; expected such as 2020-05-18")
        if not self.image and query.bbox is None and query.region is None:
            raise ValueError("bbox, region: give exactly one of them")
        return self


CRS = Field(
    default="auto",
    description=f"{PredictRecipe.model_fields['crs'].description}; auto: data for images with one CRS in"
    " metres, else utm",
)


class PredictAsked(PredictRecipe, Images):
    """A prediction over a catalog or over files."""

    query: OverImages
    crs: str = CRS


class EmbedAsked(EmbedRecipe, Images):
    """An embedding over a catalog or over files."""

    query: OverImages
    crs: str = CRS


Asked = PredictAsked | EmbedAsked


def plain(recipe: Asked, query: Mapping[str, Any], crs: str = "utm") -> PredictRecipe:
    """The recipe of a run over a catalog, with another query; ``crs`` is what auto stands for. Raises InputError."""
    kind = EmbedRecipe if isinstance(recipe, EmbedRecipe) else PredictRecipe
    given = {name: getattr(recipe, name) for name in kind.model_fields if name != "query"}
    given |= {"crs": crs} if recipe.crs == "auto" else {}
    return parse(kind, {**given, "query": dict(query)}, "recipe")
