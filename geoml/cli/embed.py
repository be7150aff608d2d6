"""``geoml embed``: a region, a series of dates and an encoder in; a map of embeddings and a table of chips out."""

from __future__ import annotations

import typer

from geoml.cli import options
from geoml.cli.common import Runs, command
from geoml.cli.predict import DryRun, Out, look, run
from geoml.engine.images.recipe import EmbedAsked
from geoml.errors import InputError


def register(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "embed")(embed)


@options.from_recipe(EmbedAsked)
def embed(asked: EmbedAsked, out: Out, dry_run: DryRun = False, backend: Runs = None) -> None:
    """Write embeddings: int8 COGs, chip vectors as GeoParquet, STAC items and a report in OUT. Run it again to resume.

    Example:
    geoml embed -m presto -c earth-search -C sentinel-2-l1c \\
      -b 12.2 45.3 12.4 45.5 -t 2024-05 -t 2024-07 -o venice
    """
    _check_encoder(asked.model)
    if not dry_run:
        run(asked, out, backend=backend)
        return
    from geoml.engine.images.settle import looked_at

    with looked_at(asked) as recipe:
        look(recipe, backend=backend)


def _check_encoder(model: str) -> None:
    from geoml.engine.cards.encoder import EMBEDDING, EncoderCard
    from geoml.engine.packages import cards

    card = cards.read_any(model)
    if not isinstance(card, EncoderCard) and card.task != EMBEDDING:
        raise InputError(
            f"model: {card.name} is for {card.task}; expected an encoder, as geoml models import makes one"
        )
