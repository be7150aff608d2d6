"""Ranges of wavelengths of a learning: the bands that they stand for, by the first item that is found."""

from __future__ import annotations

from collections.abc import Sequence

import shapely

from geoml.engine.learn.recipe import LearnRecipe
from geoml.errors import DataError, InputError
from geoml.io import spectrum
from geoml.io.cog.spectrum import lines_of_item
from geoml.io.stac import search as stac
from geoml.recipe import Query


def settled(recipe: LearnRecipe, query: Query, region: shapely.MultiPolygon) -> LearnRecipe:
    """The recipe with the bands that its ranges of wavelengths stand for, by wavelength, bad ones left out.

    A recipe without a range is returned as it is, and nothing is searched. Raises InputError for a name that means
    several bands in another spelling, items whose wavelengths are not known, a range without a band and a band that is
    named twice; else as a search.
    """
    _check_spelling(recipe.bands)
    ranges = [span for span in map(spectrum.range_of, recipe.bands) if span]
    if not ranges:
        return recipe
    catalog = stac.open_catalog(query.catalog)
    item = stac.search(catalog, query, region, query.datetime[0])[0]
    profile = catalog.profile(query.collection or item.collection_id or catalog.default_collection or "")
    try:
        lines = lines_of_item(item, spectrum.Asked(ranges[0][0]), profile, catalog)
    except DataError as err:
        raise InputError(f"bands: {recipe.bands[0]}; {err}") from err
    return recipe.model_copy(update={"bands": spectrum.expanded(recipe.bands, lines)})


def _check_spelling(names: Sequence[str]) -> None:
    for name in names:
        if "," in name:
            raise InputError(f"bands: {name!r}; expected one name: repeat --bands for each")
        if ".." in name and spectrum.range_of(name) is None:
            raise InputError(f"bands: {name!r}; expected a range in nanometres, such as 400nm..900nm")
