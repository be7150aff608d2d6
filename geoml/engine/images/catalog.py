"""The catalog of the files that a run is over, in the folder of the run, and the recipe over it.

Model and files are enough: the region is where the files are, bands are what they say or what is told.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import ClassVar

import shapely
from shapely.geometry import MultiPolygon

from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.images.recipe import Asked, plain
from geoml.engine.packages import cards
from geoml.errors import DataError, InputError
from geoml.io.cards.kinds import card_of as kind_of
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.scene_fields import SceneFields
from geoml.io.cog.scene_files import FileScene, scenes_of
from geoml.io.cog.scene_items import footprint, shared_ground, write_scenes
from geoml.io.crs import true_metres
from geoml.io.stac.times import rfc3339
from geoml.io.stores.remote import is_url
from geoml.io.stores.store import read_small, within, write_json
from geoml.recipe import Frozen, PredictRecipe, differences
from geoml.redacted import bare

log = logging.getLogger(__name__)

FOLDER = "images"
"""In the folder of the run's state: the catalog of its files."""
ASKED = "images.json"
REGION = "region.geojson"
ANY_TIME = "../.."


def over_files(recipe: Asked, folder: Path, *, contents: bool) -> PredictRecipe:
    """The recipe of a run over the images, of which ``folder`` gets a catalog; see `geoml.engine.images.settle`."""
    query = recipe.query
    places = [p if is_url(p) else str(Path(p).absolute()) for p in recipe.image]
    try:
        scenes = scenes_of(places, recipe, query.datetime, field="image", undated=True)
    except InputError as err:
        takes = _takes(recipe.model) if str(err).startswith("bands: ") else ""
        raise InputError(f"{err}{takes}") from err
    for scene in () if contents else scenes:  # a run looks at them before, which says it
        (log.warning if scene.guessed else log.info)("%s", scene.said)
    dates, ground = _dates(recipe.model, scenes)
    now = _checked(recipe, scenes, folder)
    catalog = write_scenes(scenes, recipe, folder / FOLDER, "images of a run", contents=contents)
    write_json(within(folder, ASKED), now.model_dump(mode="json"))
    region: dict[str, object] = {"bbox": query.bbox, "region": query.region}
    if query.bbox is None and query.region is None:
        path = within(folder, REGION)
        shape = json.loads(shapely.to_geojson(ground))
        write_json(path, {"type": "Feature", "properties": {}, "geometry": shape})
        region = {"region": str(path)}
    return plain(recipe, {**dict(query), **region, "catalog": str(catalog), "datetime": dates}, _crs(scenes))


def _crs(scenes: list[FileScene]) -> str:
    """That of the images where they share one in true metres, so that their pixels stay as they are, else of zones."""
    found = {f.box.crs for s in scenes for f in s.files}
    metric = all(true_metres(f.box) for s in scenes for f in s.files)
    return "data" if len(found) == 1 and metric else "utm"


def _takes(model: str) -> str:
    """Which bands a model takes, to end an error."""
    found = cards.read_any(model)
    bands = getattr(found, "bands", ())
    return f"; {found.name} takes {','.join(b.name for b in bands)}" if bands else ""


def _dates(model: str, scenes: list[FileScene]) -> tuple[tuple[str, ...], MultiPolygon]:
    """The dates of a query and the ground that a model has them of: of all images one, or one of each."""
    each = tuple(rfc3339(s.when) for s in scenes)
    if kind_of(cards.read_item(cards.find(model) / cards.CARD)) is EncoderCard:
        return each, footprint(scenes)
    card = cards.read(model, MapCard)
    if card.dates == 1:
        return (ANY_TIME,), footprint(scenes)
    if len(scenes) != card.dates:
        raise InputError(
            f"image: {len(scenes)} given; {card.name} takes {card.dates} dates, one --image each, the earlier first"
        )
    return each, shared_ground(scenes)


class _Before(Frozen):
    """What a folder was made of."""

    later: ClassVar[tuple[str, ...]] = ()

    scenes: tuple[str, ...]
    told: SceneFields


def _checked(recipe: Asked, scenes: list[FileScene], folder: Path) -> _Before:
    """What the folder will be made of. A file with other contents has its blocks made again; raises InputError where
    blocks of other images are done, DataError if what was asked before is damaged."""
    told = {name: getattr(recipe, name) for name in SceneFields.model_fields}
    now = _Before(scenes=tuple(_called(s) for s in scenes), told=SceneFields(**told))
    before = read_small(folder / ASKED)
    if before is None or not any((folder.parent / "items").glob("*.json")):
        return now
    try:
        changes = differences(json.loads(before), now)
    except (ValueError, RecursionError, TypeError, AttributeError) as err:
        raise DataError(f"{folder / ASKED}: damaged ({err}); remove it if the images are the same as before") from err
    if changes:
        raise InputError(
            f"out: {folder.parent} contains a map of different images: {changes}; expected an empty folder"
        )
    return now


def _called(scene: FileScene) -> str:
    """A scene by its name, and by where its files are if they are elsewhere: names of those are often all the same."""
    return " ".join([scene.name, *(bare(f.href) for f in scene.files if is_url(f.href))])
