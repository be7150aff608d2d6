"""``geoml clouds``: masks of clouds for items of a catalog that has none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from geoml.cli import options
from geoml.cli.common import Runs, command, out_console, use_backend
from geoml.engine.clouds.recipe import CloudMaskRecipe
from geoml.io.stac.left_out import summary
from geoml.texts import counted, short

if TYPE_CHECKING:
    from geoml.engine.clouds.items import CloudWork


def register(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "clouds")(clouds)


@options.from_recipe(CloudMaskRecipe)
def clouds(
    recipe: CloudMaskRecipe,
    out: Annotated[Path, typer.Option("--out", help="folder of the masks and of the catalog with them")],
    backend: Runs = None,
) -> None:
    """Mask clouds: write a catalog of the items found to OUT, whose clouds all other commands leave out.

    Example:
    geoml clouds -c earth-search -C sentinel-2-l1c \\
      -b 11.9 45.1 12.5 45.6 -t 2024-06 -o masked
    """
    use_backend(backend)
    from geoml import pipeline
    from geoml.cli.progress import counter

    with counter("masks", out) as done:
        work = pipeline.cloud_masks(recipe, out, done=done)
    _print(work)


def _print(work: CloudWork) -> None:
    if not work.masks:
        rule = work.catalog.profile(work.collection).mask
        assert rule is not None  # else there was something to do
        out_console.print(
            f"{counted(len(work.items), 'item')}, all with the mask {rule.asset}; --again makes others", highlight=False
        )
    else:
        names = list(dict.fromkeys(name for mask in work.masks.values() for name in mask.pixels))
        table = Table(
            Column("item", overflow="fold"),
            *(Column(f"{name.replace('_', ' ')} %", justify="right") for name in names),
            title=f"{counted(len(work.masks), 'mask')} in {work.out}",
        )
        for item, mask in work.masks.items():
            known = sum(mask.pixels.values())
            table.add_row(short(item), *(f"{100 * mask.pixels.get(name, 0) / known:.1f}" for name in names))
        out_console.print(table)
    if work.left.items:
        out_console.print(summary(work.left.items), highlight=False)
    out_console.print(f"Use it with --catalog {work.out / 'catalog.yaml'}", highlight=False)
