"""The parameters of a flow as a form in the Prefect UI: typed, with the names that are known here to choose from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from flows import signatures
from geoml.engine.packages.cards import names
from geoml.errors import InputError
from geoml.geolocation.cards.locator import LocatorCard
from geoml.io.cards.map_card import MapCard
from geoml.io.stac.catalog import catalog_names
from geoml.recipe import PredictRecipe, Query, parse
from geoml.settings import settings


def _choice(known: list[str], other: str) -> WithJsonSchema:
    """One of the names known when the flow was deployed, or any other text."""
    texts: list[dict[str, Any]] = [{"type": "string", "title": other, "pattern": signatures.PATTERN}]
    if known:
        texts.insert(0, {"type": "string", "title": "name", "enum": known})
    return WithJsonSchema({"anyOf": texts})


def _known(known: Callable[[], list[str]]) -> list[str]:
    """Names to choose from; none where a setting is wrong, which every run says by itself."""
    try:
        return known()
    except InputError:
        return []


def _recipes() -> list[str]:
    """Names of the training recipes in the catalogs."""
    files = sorted((settings().catalogs / "recipes").glob("*.yaml"))
    return [p.stem for p in files if "\nquery:" not in p.read_text(encoding="utf-8")]


Text = Annotated[str, WithJsonSchema({"type": "string", "pattern": signatures.PATTERN})]
Model = Annotated[str, _choice(_known(lambda: names(MapCard)), "folder or URL of a package")]
Locator = Annotated[str, _choice(_known(lambda: names(LocatorCard)), "folder or URL of a package")]
Catalog = Annotated[str, _choice(_known(catalog_names), "URL or file")]
TrainingRecipe = Annotated[str, _choice(_known(_recipes), "YAML file")]
Bbox = Annotated[list[float], Field(min_length=4, max_length=4)]
Dates = Annotated[list[str], Field(min_length=1)]
Sources = Annotated[list[Text], Field(min_length=1)]
Composite = Literal["first", "least_cloudy", "median", "mean"]
Mask = Literal["auto", "none"]
Join = Literal["auto", "exact", "blend"]
Harmonise = Literal["none", "histogram", "invariant"]
Allow = Literal["warn", "refuse", "allow"]
Pixels = Annotated[int, Field(ge=64)]
Count = Annotated[int, Field(ge=1)]
Top = Annotated[int, Field(ge=1, le=50)]
Days = Annotated[int, Field(ge=0, le=3660)]
Size = Annotated[float, Field(ge=0)]
Shift = Annotated[float, Field(ge=0, le=32)]
Share = Annotated[float, Field(ge=0, le=1)]


def recipe(given: Mapping[str, Any], **more: Any) -> PredictRecipe:
    """The recipe of flat parameters; what is no field of a recipe is left out. Raises InputError.

    Signatures that URLs name are filled in, see `flows.signatures`.
    """
    given = {k: signatures.filled(v) for k, v in {**given, **more}.items()}
    query = {k: given[k] for k in Query.model_fields if k in given}
    rest = {k: given[k] for k in PredictRecipe.model_fields if k in given and k != "query"}
    return parse(PredictRecipe, {**rest, "query": query}, "parameters")


def flat(asked: PredictRecipe) -> dict[str, Any]:
    """The parameters of a recipe, with what signs its URLs."""
    value = asked.model_dump(mode="json")
    signed = {"model": asked.model, "catalog": asked.query.catalog, "region": asked.query.region}
    return {**value.pop("query"), **value, **signed}
