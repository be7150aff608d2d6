"""``geoml embed``: a region, a series of dates and an encoder in; a map of embeddings and a table of chips out."""

from __future__ import annotations

import typer

from geoml.cli import options
from geoml.cli.common import Runs, command
from geoml.cli.predict import DryRun, Out, run
from geoml.engine.images.recipe import EmbedAsked
from geoml.errors import InputError


def register(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "embed")(embed)


@options.from_recipe(EmbedAsked)
def embed(asked: EmbedAsked, out: Out, dry_run: DryRun = False, backend: Runs = None) -> None:
    """Embeddings: int8 COGs, chip vectors as GeoParquet, STAC items and a report in OUT. Run it again to go on.

    Example:
    geoml embed -m presto -c earth-search -C sentinel-2-l1c \\
      -b 12.2 45.3 12.4 45.5 -t 2024-05 -t 2024-07 -o venice
    """
    from geoml.engine.cards.encoder import EMBEDDING
    from geoml.engine.images.settle import planned
    from geoml.engine.run.planned import card_of

    with planned(asked, None if dry_run else out) as recipe:
        if (card := card_of(recipe)).task != EMBEDDING:
            raise InputError(
                f"model: {card.name} is for {card.task}; expected an encoder, as geoml models import makes one"
            )
        run(recipe, out, dry_run=dry_run, backend=backend)
