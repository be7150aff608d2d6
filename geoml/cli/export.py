"""``geoml export``: what geoml made, as other platforms take it. Each platform is one file in ``geoml/cli/exports``."""

from __future__ import annotations

import typer

from geoml.cli.common import example
from geoml.registry import Registry

EXPORTS = Registry("geoml.cli.exports", "platform")
"""A file of that folder with ``register(group)`` adds its command to ``geoml export``."""

export = typer.Typer(
    help="Runs and model packages for other platforms.",
    epilog=example(
        "geoml export earth-engine itaipu --bucket gs://maps/itaipu --asset projects/mine/assets/itaipu -o upload"
    ),
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for platform in EXPORTS.having("register"):
        platform.register(export)
    app.add_typer(export, name="export")
