"""The items of a query: its region, its catalog and all of its dates."""

from __future__ import annotations

from collections.abc import Mapping

import pystac
from shapely.geometry import MultiPolygon

from geoml.errors import limits
from geoml.grid.region import from_bbox
from geoml.io.stac import search as stac
from geoml.io.tables.regions import load_region
from geoml.recipe import Query, parse


def region_of(query: Query) -> MultiPolygon:
    """The region of a query as a polygon in degrees. Raises InputError for a region that cannot be read."""
    return from_bbox(*query.bbox) if query.bbox else load_region(str(query.region))


@limits("search")
def search(query: Query | Mapping[str, object], left_out: stac.LeftOut | None = None) -> list[pystac.Item]:
    """The items that match a query, for all its dates.

    Items that cannot be placed in time or space are added to ``left_out``; see `geoml.io.stac.search.search`. Raises
    InputError, NothingFound, DataError or TransientError.
    """
    query = query if isinstance(query, Query) else parse(Query, dict(query), "query")
    region = region_of(query)
    catalog = stac.open_catalog(query.catalog)
    return [item for when in query.datetime for item in stac.search(catalog, query, region, when, left_out)]
