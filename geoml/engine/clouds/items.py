"""What `geoml clouds` has to do: the items of its query, those that need a mask, and the run that makes it of each."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import pyproj
import pystac
import shapely
from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

from geoml.engine.clouds import catalog as written
from geoml.engine.clouds.mask import Mask, write_mask
from geoml.engine.clouds.networks import check_classes, network_of, package
from geoml.engine.clouds.recipe import CloudMaskRecipe
from geoml.engine.run.data_crs import data_crs
from geoml.engine.run.search import region_of, search
from geoml.errors import DataError, GeomlError, ModelError, NothingFound
from geoml.grid.region import from_geometry, utm_crs
from geoml.io.cards.map_card import MapCard
from geoml.io.stac import search as stac
from geoml.io.stac.bands import select
from geoml.io.stac.items import file_name
from geoml.io.stac.left_out import LeftOut
from geoml.io.stac.times import rfc3339, span
from geoml.io.stores.store import within
from geoml.recipe import PredictRecipe, parse

DEGREE = 111_000.0
"""Metres of a degree of latitude, about."""


@dataclass
class CloudWork:
    """The items of a query in ``out``, and what becomes of them. ``masks`` are those made, by the id of their item."""

    recipe: CloudMaskRecipe
    out: Path
    state: str
    catalog: stac.Catalog
    collection: str
    items: list[pystac.Item]
    masked: bool
    """Whether all of the items have the mask that their catalog's YAML describes."""
    region: MultiPolygon
    left: LeftOut
    masks: dict[str, Mask] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: CloudMaskRecipe, out: Path, state: str) -> CloudWork:
        """Search. Raises InputError, NothingFound, DataError or TransientError as the search does."""
        if recipe.model is not None:
            check_classes(recipe.model)
        left = LeftOut(recipe.query.strict)
        items = list({i.id: i for i in search(recipe.query, left)}.values())
        catalog = stac.open_catalog(recipe.query.catalog)
        collection = recipe.query.collection or items[0].collection_id or catalog.default_collection or "items"
        rule = catalog.profile(collection).mask
        masked = rule is not None and all(rule.asset in item.assets for item in items)
        return cls(recipe, out, state, catalog, collection, items, masked, region_of(recipe.query), left)

    def todo(self) -> list[pystac.Item]:
        """Items that need a mask; all or none, for a collection has one rule."""
        return [] if self.masked and not self.recipe.again else self.items

    def place(self, item: pystac.Item) -> Path:
        """The folder of the run over an item."""
        return within(self.out, f"{self.state}/items/{file_name(item.id)}/run.json").parent

    def run_of(self, item: pystac.Item) -> PredictRecipe:
        """The run that makes the mask of an item, on the item's own grid. Raises InputError or DataError."""
        profile = self.catalog.profile(self.collection)
        model = self.recipe.model
        if model is None:
            name = network_of(item, self.recipe, profile, self.catalog)
            model = str(package(name, self.out.absolute() / self.state / "models"))
        card = check_classes(model)
        spec = select(item, [card.bands[0].asked], profile, self.catalog)[0]
        code, _ = data_crs([(item, spec)], card.gsd, card.anchor)
        query = {
            "catalog": self.recipe.query.catalog,
            "collection": self.recipe.query.collection,
            "region": json.loads(shapely.to_geojson(_grown(self.region, self.recipe.buffer + 2 * card.gsd))),
            "datetime": "/".join(map(rfc3339, span(item.properties))),
        }
        given = {
            "model": model,
            "query": query,
            "crs": metric_crs(code, item, self.region),
            "block_size": self.recipe.block_size,
        }
        plain = {"mask": "none", "composite": "first", "features": False, "map": False}
        return parse(PredictRecipe, {**given, **plain}, "clouds")

    def add(self, item: pystac.Item, recipe: PredictRecipe) -> None:
        """The mask of an item from its finished run. Raises NothingFound where no pixel is known."""
        card: MapCard = check_classes(recipe.model)
        path = written.mask_path(self.out, item.id)
        asked = shapely.intersection(self.region, shapely.buffer(from_geometry(item.geometry or {}), 1.0))  # in its CRS
        self.masks[item.id] = write_mask(self.place(item), path, card, asked, self.recipe.buffer)

    def leave_out(self, item: pystac.Item, err: GeomlError) -> None:
        """Note an item that has no mask. Where it is not the item's fault, what is finished is published and ``err``
        raised."""
        if err.left_out or isinstance(err, NothingFound | DataError | ModelError):  # a band in kelvin, say
            self.left.add(item.id, err)
            return
        if self.masks:
            self.publish()
        raise err

    def publish(self) -> Path:
        """Write the catalog; gives its YAML. Raises the class of the first reason where no item is left."""
        kept = [i for i in self.items if i.id in self.masks] if self.todo() else self.items
        if not kept:
            raise self.left.none_left(f"catalog {self.catalog.name}")
        self.left.warn(f"catalog {self.catalog.name}")
        return written.write(kept, self.masks, self.catalog, self.collection, self.out)


def _grown(region: MultiPolygon, metres: float) -> BaseGeometry:
    """A region with a margin, so that what is masked covers it with all of its pixels."""
    _, south, _, north = region.bounds
    widest = min(max(abs(south), abs(north)), 85.0)
    grown = shapely.buffer(region, metres / DEGREE / math.cos(math.radians(widest)), join_style="mitre")
    return shapely.intersection(grown, shapely.box(-180, -90, 180, 90))


def metric_crs(code: str, item: pystac.Item, region: BaseGeometry) -> str:
    """The CRS of an item, ``data``, where its unit is a metre, else the UTM zone of the place asked for."""
    crs = pyproj.CRS.from_user_input(code)
    metric = crs.is_projected and {a.unit_name for a in crs.axis_info[:2]} == {"metre"}
    if metric and crs.to_epsg() != 3857:
        return "data"
    outline = from_geometry(item.geometry or {})
    asked = shapely.intersection(outline, region)
    middle = (outline if asked.is_empty else asked).representative_point()
    return utm_crs(middle.x, middle.y)
