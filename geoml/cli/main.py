"""The commands. Each parses its words, calls one step and prints; exit codes are those of the error table."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from geoml import __version__, logs
from geoml.cli.common import Commands, Json, command, example, out_console, print_warnings
from geoml.errors import InputError
from geoml.io.report.score_table import number
from geoml.registry import Registry
from geoml.texts import counted

app = typer.Typer(
    cls=Commands,
    help="A region, a time range and a model in; a map that people can trust out.",
    epilog=example("geoml demo --out demo-out", "geoml models list"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
models = typer.Typer(
    help="Model packages.", epilog=example("geoml models list", "geoml models show demo-itaipu"), no_args_is_help=True
)
app.add_typer(models, name="models")
area = typer.Typer(
    help="Areas of a map with confidence intervals, from checked places.",
    epilog=example("geoml area draw itaipu --out places.gpkg", "geoml area estimate itaipu places.gpkg"),
    no_args_is_help=True,
)
app.add_typer(area, name="area")
COMMANDS = Registry("geoml.cli", "command")
"""A file of this folder with ``register(app)`` adds its commands to those here."""


def _print_version(asked: bool) -> None:
    if asked:
        print(f"geoml {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
]


@app.callback()
def main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log what happens")] = False, version: Version = False
) -> None:
    logs.setup(logging.INFO if verbose else logging.WARNING)


@command(models, "list")
def models_list(as_json: Json = False) -> None:
    """List the installed model packages.

    Example:
    geoml models list
    """
    from geoml.engine.packages import cards

    packages = [cards.read_any(name) for name in cards.names()]
    if as_json:
        print(json.dumps([c.model_dump(mode="json") for c in packages]))
        return
    table = Table("name", "task", "bands", "gsd", "classes")
    for card in packages:
        table.add_row(card.name, *card.row())
    out_console.print(table)


@command(models, "show")
def models_show(name: Annotated[str, typer.Argument(help="name or package directory")], as_json: Json = False) -> None:
    """Show a model's card: what it needs, what it returns, how well it did, where not to use it.

    Example:
    geoml models show demo-itaipu
    """
    from geoml.cli.card_page import print_card
    from geoml.engine.packages import cards

    card = cards.read_any(name)
    if as_json:
        print(json.dumps(card.model_dump(mode="json")))
        return
    print_card(card, name)


@command(models, "new")
def models_new(
    architecture: Annotated[str, typer.Argument(help="cva, image_difference, ir_mad, index_{difference,crossing}")],
    bands: Annotated[list[str], typer.Option("--bands", help="common names, such as red,nir")],
    gsd: Annotated[float, typer.Option("--gsd", help="metres")],
    out: Annotated[Path, typer.Option("--out", help="folder of the new package; its name is the model's")],
    config: Annotated[list[str] | None, typer.Option("--config", help="key=value; repeat for each option")] = None,
) -> None:
    """Write the package of a model that needs no training: its parameters are estimated on the pixels of each run.

    Example:
    geoml models new index_difference --bands red,nir --gsd 10 \\
      --config first=1 --config second=0 -o ndvi
    """
    from geoml.engine.packages import calibrate, package

    names = " ".join(bands).replace(",", " ").split()
    new = calibrate.new(architecture, names, gsd, _options(config or []), out.resolve().name)
    package.save(new.module, new.card, out)
    out_console.print(f"wrote {out}")


def _options(words: Sequence[str]) -> dict[str, object]:
    """key=value words with values as in JSON; what is not JSON is text."""
    options: dict[str, object] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"config: {word!r}; expected key=value")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


@command(models, "compare")
def models_compare(
    model: Annotated[str, typer.Argument(help="name or package directory of a segmentation")],
    out: Annotated[Path, typer.Option("--out", help="folder of the new package; its name is the model's")],
    binary: Annotated[bool, typer.Option("--binary", help="only changed or unchanged, instead of from-to")] = False,
) -> None:
    """Write a change model that compares the maps which a segmentation makes of two dates.

    Example:
    geoml models compare demo-itaipu -o itaipu-change
    """
    from geoml.engine.packages import package
    from geoml.engine.packages.compare import compare

    loaded = package.load(model)
    change = compare(loaded, binary=binary)
    package.save(change.module, change.card.model_copy(update={"name": out.resolve().name}), out, loaded.path)
    out_console.print(f"wrote {out}")


@command(area, "draw")
def area_draw(
    run: Annotated[str, typer.Argument(help="folder or URL of a finished run")],
    out: Annotated[Path, typer.Option("--out", help=".gpkg or .geojson file to fill in")],
    places: Annotated[int, typer.Option("--places", help="approximate number of places")] = 400,
    seed: Annotated[int, typer.Option("--seed", help="another seed draws other places")] = 0,
) -> None:
    """Draw random places in every class of a map for people to check; the file does not contain the map's class.

    Example:
    geoml area draw itaipu --places 400 -o places.gpkg
    """
    from geoml.engine.run.estimate import sample_places

    frame = sample_places(run, places, out, seed)
    out_console.print(f"{counted(len(frame), 'place')} in {out}; fill in the column reference", highlight=False)


@command(area, "next")
def area_next(
    run: Annotated[str, typer.Argument(help="folder of a run with classes")],
    out: Annotated[Path, typer.Option("--out", help=".gpkg or .geojson file to fill in")],
    places: Annotated[int, typer.Option("--places", help="maximum number of places")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="for a run of geoml learn: another seed uses other pixels")] = 0,
) -> None:
    """Propose places to label next: where the map is least certain, spread over the area.

    Example:
    geoml area next learnt --places 20 -o next.gpkg
    """
    from geoml.engine.learn.next_places import next_places
    from geoml.engine.packages import cards
    from geoml.io.cards.map_card import MapCard

    frame = next_places(run, places, out, seed)
    card, told = (
        cards.read(run, MapCard),
        f"{counted(len(frame), 'place')} in {out}; fill in the column {frame.columns[1]}",
    )
    if card.takes_more_labels:
        told += ", then give the geoml learn or geoml train that made the model again with"
        told += f" --add {out} and another --out"
    elif card.task != "change":
        told += "; the file can then be labels of geoml learn or geoml train --labels for a model of your own"
    out_console.print(told, highlight=False)
    if len(frame) < places:
        print_warnings({"warnings": [f"{places:,} places were asked for; no more lie far enough from each other"]})


@command(area, "estimate")
def area_estimate(
    run: Annotated[str, typer.Argument(help="folder or URL of the run that the places were drawn from")],
    reference: Annotated[Path, typer.Argument(help="the places, filled in: GeoPackage, GeoJSON or GeoParquet")],
    column: Annotated[str, typer.Option("--column", help="column with names or values of classes")] = "reference",
    as_json: Json = False,
) -> None:
    """Estimate areas and accuracies of the classes of a map with 95 % intervals (Olofsson et al. 2014).

    Example:
    geoml area estimate itaipu places.gpkg
    """
    from geoml.engine.run.estimate import estimate

    areas = estimate(run, reference, column)
    if as_json:
        print(json.dumps(areas))
        return
    numbers = ("mapped", "estimated", "from", "to", "user's", "producer's")
    table = Table(Column("class", overflow="fold"), *(Column(name, no_wrap=True) for name in numbers),
                  title="areas in km² with 95 % intervals, and accuracies")  # fmt: skip
    for name, row in areas["classes"].items():
        square = (areas["mapped"][name], row["area"], *row["area_95"])
        table.add_row(name, *map(_km2, square), *(number(row[k]) for k in ("user", "producer")))
    out_console.print(table)
    left = areas["left_out"]
    out_console.print(
        f"overall accuracy {areas['overall']:.3f} ± {1.96 * areas['overall_se']:.3f} from"
        f" {counted(areas['places'], 'place')}; "
        f"left out: {left['without_reference']} without reference, {left['off_the_map']} off the map"
    )
    print_warnings(areas)


def _km2(square_metres: float) -> str:
    """Four digits, none of those before the point left out."""
    value = square_metres / 1e6
    return f"{value:.{3 - min(len(str(int(value))) - 1, 3)}f}"


for file in COMMANDS.having("register"):
    file.register(app)
