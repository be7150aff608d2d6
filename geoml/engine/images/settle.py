"""Turn the options of a run, over a catalog or your own files, into the recipe of a run over a catalog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from geoml import fields
from geoml.engine.images.recipe import Asked, PredictAsked, plain
from geoml.engine.packages import cards
from geoml.engine.run.plan import STATE
from geoml.errors import InputError
from geoml.io.stores.bucket import is_bucket
from geoml.io.stores.claim import claim
from geoml.recipe import PredictRecipe, parse


def asked(value: Mapping[str, object]) -> PredictAsked:
    """The fields of a prediction, those of its query among them or apart. Raises InputError."""
    known = fields.options(PredictAsked)
    nested = {} if "query" in value else fields.nested(PredictAsked, value)
    return parse(PredictAsked, {**nested, **{k: v for k, v in value.items() if k not in known or not nested}}, "recipe")


@contextmanager
def looked_at(recipe: Asked) -> Iterator[PredictRecipe]:
    """`settled` for a look at the plan, of images in a folder that is gone afterwards."""
    if not recipe.image:
        yield plain(recipe, dict(recipe.query))
        return
    from geoml.engine.images.catalog import over_files  # what opens files, which a run over a catalog begins without

    with TemporaryDirectory(prefix="geoml-") as folder:
        yield over_files(recipe, Path(folder), contents=False)


def check(recipe: Asked, out: str | Path) -> None:
    """What is said before a folder is made. Raises InputError for images and a bucket as ``out``, an unknown model,
    files that cannot be used, bands that are not known and another number of images than the model takes."""
    if recipe.image and is_bucket(out):
        raise InputError(f"out: {out} is a bucket; a run over files keeps its catalog beside it, expected a folder")
    cards.find(recipe.model)
    with looked_at(recipe):
        pass


def settled(recipe: Asked, out: str | Path) -> PredictRecipe:
    """The recipe of a run over a catalog: as asked, or over that of the images, which lies in ``out`` then.

    To be called by who holds the lock of ``out``, after `check`. Raises InputError for a folder with the map
    of other images, DataError for a damaged folder.
    """
    if not recipe.image:
        return plain(recipe, dict(recipe.query))
    from geoml.engine.images.catalog import over_files

    return over_files(recipe, (claim(out, STATE).local / STATE).resolve(), contents=True)
