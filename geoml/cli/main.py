"""The commands. Each parses its words, calls one step and prints; exit codes are those of the error table."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from geoml import logs
from geoml.cli import scores as cli_scores
from geoml.cli.common import Commands, Json, command, err_console, out_console, say_left_out, warn
from geoml.cli.geolocate import geolocate
from geoml.errors import InputError, unknown
from geoml.texts import listed, short

app = typer.Typer(
    cls=Commands,
    help="A region, a time range and a model in; a map that people can trust out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models = typer.Typer(help="Model packages.", no_args_is_help=True)
app.add_typer(models, name="models")
area = typer.Typer(help="Areas of a map with confidence intervals, from checked places.", no_args_is_help=True)
app.add_typer(area, name="area")
app.add_typer(geolocate, name="geolocate")

Bbox = Annotated[
    tuple[float, float, float, float] | None,
    typer.Option("--bbox", metavar="W S E N", help="degrees; west > east crosses the antimeridian"),
]
Region = Annotated[str | None, typer.Option("--region", help="GeoJSON, GeoPackage or GeoParquet file")]
Dates = Annotated[
    list[str], typer.Option("--datetime", help="RFC 3339 date or interval; once for each date of the model")
]
Collection = Annotated[str | None, typer.Option("--collection", help="collection id")]
Filter = Annotated[str | None, typer.Option("--filter", help="CQL2 text")]
Sort = Annotated[str | None, typer.Option("--sortby", help="property, with - in front for descending")]
Limit = Annotated[int | None, typer.Option("--limit", help="at most this many items")]
Strict = Annotated[bool, typer.Option("--strict", help="refuse items that cannot be used, instead of leaving them out")]


@app.callback()
def main(verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log what happens")] = False) -> None:
    logs.setup(logging.INFO if verbose else logging.WARNING)


def _query(
    catalog: str, collection: str | None, bbox: Any, region: str | None, dates: Sequence[str], **more: Any
) -> dict[str, Any]:
    query = {"catalog": catalog, "collection": collection, "region": region, "datetime": list(dates), **more}
    return query | {"bbox": list(bbox) if bbox else None}


@command(app, "search")
def search(
    catalog: Annotated[str, typer.Argument(help="name in catalogs/, URL of a STAC API, or a local catalog")],
    datetime: Dates,
    collection: Collection = None,
    bbox: Bbox = None,
    region: Region = None,
    filter: Filter = None,
    sortby: Sort = None,
    limit: Limit = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Print the items that a catalog has for a region and a time."""
    from geoml import pipeline

    more = {"filter": filter, "sortby": sortby, "limit": limit, "strict": strict}
    items = pipeline.search(_query(catalog, collection, bbox, region, datetime, **more))
    if as_json:
        features = [i.to_dict(include_self_link=False, transform_hrefs=False) for i in items]
        print(json.dumps({"type": "FeatureCollection", "features": features}))
        return
    table = Table(Column("item", overflow="fold"), "datetime", "cloud %", "gsd", "assets", title=f"{len(items)} items")
    for item in items:
        p = item.properties
        when = p.get("datetime") or f"{p.get('start_datetime')}/{p.get('end_datetime')}"
        cloud = p.get("eo:cloud_cover")
        shown = f"{cloud:.0f}" if isinstance(cloud, int | float) and abs(cloud) < 1e6 else short(cloud or "", 20)
        words = short(item.id), short(when), shown, short(p.get("gsd", ""), 20), listed(item.assets, "", joined=" ")
        table.add_row(*map(str, words))
    out_console.print(table)


@command(models, "list")
def models_list(as_json: Json = False) -> None:
    """The model packages that are installed."""
    from geoml.engine.packages import cards

    known = [cards.read_any(name) for name in cards.names()]
    if as_json:
        print(json.dumps([c.model_dump(mode="json") for c in known]))
        return
    table = Table("name", "task", "bands", "gsd", "classes")
    for card in known:
        table.add_row(card.name, *card.row())
    out_console.print(table)


@command(models, "show")
def models_show(name: Annotated[str, typer.Argument(help="name or package directory")], as_json: Json = False) -> None:
    """A model's card: what it needs, what it gives, how well it did."""
    from geoml.engine.packages import cards

    card = cards.read_any(name).model_dump(mode="json")
    if as_json:
        print(json.dumps(card))
        return
    table = Table("field", "value", show_lines=True)
    for key, value in sorted(card.items(), key=lambda field: isinstance(field[1], dict)):  # long ones last
        table.add_row(key, value if isinstance(value, str) else json.dumps(value))
    out_console.print(table)


@command(models, "import")
def models_import(
    kind: Annotated[str, typer.Argument(help="dynamic-world")],
    source: Annotated[Path, typer.Argument(help="folder with the published weights")],
    out: Annotated[Path, typer.Option("--out", help="folder of the new package")] = Path("dynamic-world"),
) -> None:
    """Turn published weights into a model package."""
    from geoml.engine.packages.imports import import_dynamicworld

    if kind != "dynamic-world":
        raise unknown("import", kind, ["dynamic-world"])
    import_dynamicworld(source, out)
    out_console.print(f"wrote {out}")


@command(models, "new")
def models_new(
    architecture: Annotated[str, typer.Argument(help="cva, image_difference, ir_mad, index_{difference,crossing}")],
    bands: Annotated[list[str], typer.Option("--bands", help="common names, as red,nir")],
    gsd: Annotated[float, typer.Option("--gsd", help="metres")],
    out: Annotated[Path, typer.Option("--out", help="folder of the new package; its name is the model's")],
    config: Annotated[list[str] | None, typer.Option("--config", help="key=value, for each option")] = None,
) -> None:
    """Write the package of a model that needs no training: it is calibrated on the pixels of each run."""
    from geoml.engine.packages import calibrate, package

    names = " ".join(bands).replace(",", " ").split()
    made = calibrate.new(architecture, names, gsd, _options(config or []), out.resolve().name)
    package.save(made.module, made.card, out)
    out_console.print(f"wrote {out}")


def _options(words: Sequence[str]) -> dict[str, Any]:
    """key=value words with values as in JSON; what is no JSON is text."""
    options: dict[str, Any] = {}
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
    binary: Annotated[bool, typer.Option("--binary", help="only changed or not, instead of from-to")] = False,
) -> None:
    """A model of change that compares the maps which a segmentation makes of two dates."""
    from geoml.engine.packages import package
    from geoml.engine.packages.compare import compare

    made = compare(package.load(model), binary=binary)
    package.save(made.module, made.card.model_copy(update={"name": out.resolve().name}), out)
    out_console.print(f"wrote {out}")


@command(app, "predict")
def predict(
    model: Annotated[str, typer.Option("--model", help="name or package directory")],
    catalog: Annotated[str, typer.Option("--catalog", help="name, URL or path")],
    datetime: Dates,
    out: Annotated[str, typer.Option("--out", help="folder of the run, or s3://bucket/prefix (gs, az)")],
    collection: Collection = None,
    bbox: Bbox = None,
    region: Region = None,
    filter: Filter = None,
    sortby: Sort = None,
    limit: Limit = None,
    strict: Strict = False,
    crs: Annotated[str, typer.Option("--crs", help="utm, data or EPSG:code")] = "utm",
    block_size: Annotated[int, typer.Option("--block-size", help="pixels; does not change the result")] = 2048,
    composite: Annotated[str, typer.Option("--composite", help="first, least_cloudy, median or mean")] = "least_cloudy",
    mask: Annotated[str, typer.Option("--mask", help="auto or none")] = "auto",
    join: Annotated[str, typer.Option("--join", help="auto, exact or blend")] = "auto",
    tta: Annotated[bool, typer.Option("--tta", help="average over flips and turns")] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="write every class's probability")] = False,
    features: Annotated[bool, typer.Option("--features/--no-features", help="polygonise")] = True,
    min_area: Annotated[float, typer.Option("--min-area", help="m²; smaller polygons are left out")] = 0.0,
    simplify: Annotated[float, typer.Option("--simplify", help="metres")] = 0.0,
    harmonise: Annotated[str, typer.Option(help="colours of a later date: none, histogram or invariant")] = "none",
    shift_limit: Annotated[float, typer.Option(help="pixels; a later date further off is moved back")] = 0.5,
    max_shift: Annotated[float, typer.Option(help="pixels; dates further off are an error; 0: do not look")] = 8.0,
    max_failed: Annotated[float, typer.Option("--max-failed", help="share of blocks that may fail")] = 1.0,
    out_of_domain: Annotated[str, typer.Option(help="images unlike the training data: warn, refuse, allow")] = "warn",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done")] = False,
) -> None:
    """A map: COGs, GeoParquet, STAC items and a report in OUT. Run it again to go on after a stop."""
    from geoml import pipeline
    from geoml.engine.run.plan import make_plan
    from geoml.recipe import PredictRecipe, parse

    more = {"filter": filter, "sortby": sortby, "limit": limit, "strict": strict}
    recipe = parse(
        PredictRecipe,
        {
            "model": model,
            "query": _query(catalog, collection, bbox, region, datetime, **more),
            "crs": crs,
            "block_size": block_size,
            "composite": composite,
            "mask": mask,
            "join": join,
            "tta": tta,
            "probabilities": probabilities,
            "features": features,
            "min_area": min_area,
            "simplify": simplify,
            "harmonise": harmonise,
            "shift_limit": shift_limit,
            "max_shift": max_shift,
            "max_failed": max_failed,
            "out_of_domain": out_of_domain,
        },
        "predict",
    )
    if dry_run:
        made, items = make_plan(recipe)
        zones = ", ".join(z.plane.code for z in made.zones)
        out_console.print(
            f"{len(items)} items, {len(made.blocks)} blocks of {block_size} pixels in {zones}; nothing was read"
        )
        say_left_out(made.left_out)
        return
    from geoml.cli.progress import show

    with show() as bar:
        run = pipeline.predict(recipe, out, progress=bar.advance, started=bar.start)
    outputs(out, run)
    warn(run)


def outputs(out: str | Path, run: dict[str, Any]) -> None:
    """A table of what a run wrote, and whether its images are like the training data."""
    from geoml.cli.progress import domain
    from geoml.io.stores.remote import run_store

    sizes = run_store(out).sizes()
    table = Table("file", "size", "what", title=f"{len(run['blocks']['done'])} blocks in {out}")
    for name, what in run["files"].items():
        size = sum(n for key, n in sizes.items() if key == name or key.startswith(f"{name}/"))
        table.add_row(name, f"{size / 1e6:.2f} MB", what)
    out_console.print(table)
    out_console.print(f"{run['valid_percent']:.1f} % of the region has data", highlight=False)
    say_left_out(run.get("left_out", {}))
    domain(run)


@command(app, "runs")
def runs(
    out: Annotated[str, typer.Argument(help="folder or URL of a run")],
    as_json: Json = False,
) -> None:
    """How a run stands: running, died, finished, failed or stopped, and what is done."""
    from geoml.engine.run.state import state

    found = state(out)
    if as_json:
        print(json.dumps(found.as_dict()))
        return
    table = Table("", found.status, title=found.out)
    table.add_row("blocks", f"{found.done} of {found.planned} done, {len(found.failed)} failed, {found.left} left")
    if found.holder:
        table.add_row("worked on by", "pid {pid} on {host}, last heard of {renewed}".format(**found.holder))
    table.add_row("started", found.started or "")
    table.add_row("updated", found.updated or "")
    table.add_row("seconds", "  ".join(f"{k} {v:.1f}" for k, v in found.seconds.items()))
    table.add_row("megabytes", "  ".join(f"{k} {v / 1e6:.1f}" for k, v in found.bytes.items()))
    for key, why in found.failed.items():
        table.add_row(key, why)
    out_console.print(table)


@command(app, "train")
def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file, or a name in catalogs/recipes")],
    out: Annotated[Path, typer.Option("--out", help="folder of the new package")],
) -> None:
    """Train a model by a recipe; resumes where it was stopped."""
    from geoml import pipeline

    def show(epoch: dict[str, float]) -> None:
        shown = f"  val mIoU {epoch['miou']:.4f}  best {epoch['best']:.4f}" if "miou" in epoch else ""
        err_console.print(f"epoch {epoch['epoch']:.0f}  loss {epoch['loss']:.4f}{shown}", highlight=False)

    pipeline.train(recipe, out, on_epoch=show)
    models_show(str(out))


@command(app, "evaluate")
def evaluate(
    recipe: Annotated[Path, typer.Argument(help="training recipe, whose held-out split is scored")],
    model: Annotated[str, typer.Option("--model", help="name or package directory")],
    split: Annotated[
        str, typer.Option("--split", help="test, val or train; all: of a model that learns nothing")
    ] = "test",
    as_json: Json = False,
    report: Annotated[Path | None, typer.Option("--report", help="also write an HTML report")] = None,
) -> None:
    """Scores of a model on a split of a recipe."""
    from geoml import pipeline

    scores = pipeline.evaluate(model, recipe, split)
    if as_json:
        print(json.dumps(scores))
    else:
        cli_scores.show(scores)
    if report:
        cli_scores.write_report(report, scores)


@command(area, "draw")
def area_draw(
    run: Annotated[str, typer.Argument(help="folder or URL of a finished run")],
    out: Annotated[Path, typer.Option("--out", help=".gpkg or .geojson file to fill in")],
    places: Annotated[int, typer.Option("--places", help="about so many")] = 400,
    seed: Annotated[int, typer.Option("--seed", help="another one draws other places")] = 0,
) -> None:
    """Places in every class of a map, drawn at random, for people to look at; the map's answer is not in the file."""
    from geoml import pipeline

    drawn = pipeline.draw_places(run, places, out, seed)
    out_console.print(f"{drawn} places in {out}; fill in the column reference", highlight=False)


@command(area, "estimate")
def area_estimate(
    run: Annotated[str, typer.Argument(help="folder or URL of the run that the places were drawn from")],
    reference: Annotated[Path, typer.Argument(help="the places, filled in: GeoPackage, GeoJSON or GeoParquet")],
    column: Annotated[str, typer.Option("--column", help="column with names or values of classes")] = "reference",
    as_json: Json = False,
) -> None:
    """Areas and accuracies of the classes of a map with 95 % intervals (Olofsson et al. 2014)."""
    from geoml import pipeline

    found = pipeline.estimate_areas(run, reference, column)
    if as_json:
        print(json.dumps(found))
        return
    table = Table("class", "mapped km²", "estimated km²", "95 %", "user's", "producer's", title="areas and accuracies")
    for name, row in found["classes"].items():
        low, high = (f"{v / 1e6:.3f}" for v in row["area_95"])
        shares = (cli_scores.number(row[k]) for k in ("user", "producer"))
        table.add_row(name, f"{found['mapped'][name] / 1e6:.3f}", f"{row['area'] / 1e6:.3f}", f"{low}–{high}", *shares)
    out_console.print(table)
    left = found["left_out"]
    out_console.print(
        f"overall accuracy {found['overall']:.3f} ± {1.96 * found['overall_se']:.3f} from {found['places']} places; "
        f"left out: {left['without_reference']} without reference, {left['off_the_map']} off the map"
    )


@command(app, "demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="folder of the run")] = Path("demo-out"),
    change: Annotated[bool, typer.Option("--change", help="change between a real and a made date")] = False,
    geolocate: Annotated[bool, typer.Option("--geolocate", help="where twelve pictures from above were taken")] = False,
) -> None:
    """The main job on the embedded catalog and model, as a Prefect flow; no network."""
    from geoml.engine.packages import cards
    from geoml.settings import settings

    if change:
        _demo_change(out)
        return
    if geolocate:
        _demo_geolocate(out)
        return
    _flow(settings().catalogs / "recipes" / "demo-predict.yaml", out)
    card = cards.read_any("demo-itaipu")
    if not card.scores:
        raise InputError("demo-itaipu: the card has no held-out scores")
    out_console.print(f"held-out scores of {card.name} (labels that training never saw):")
    cli_scores.show(card.scores)


def _demo_change(out: Path) -> None:
    """OUT/given holds the pair that is made, its model and its truth; OUT/run is the run."""
    from geoml.cli.demo import compare_with_truth, make_pair

    recipe, truth = make_pair(out / "given")
    _flow(recipe, out / "run")
    table = Table("made change", "pixels", "called changed", "called right", title="the second date is made, so known")
    for name, pixels, changed, right in compare_with_truth(out / "run", truth):
        table.add_row(name, str(pixels), f"{changed:.1%}", f"{right:.1%}")
    out_console.print(table)


def _demo_geolocate(out: Path) -> None:
    """Twelve pictures of a month that trained nothing, their places drawn by chance, against where they are."""
    from geoml.cli.demo import answers_and_truth, pictures

    table, page = out / "places.parquet", out / "places.html"
    _run_flow("flows.geolocate", pictures(), "--model", "world-overhead", "--out", table, "--map", page)
    shown = Table("picture", "status", "lat, lon", "disclosed", "truth", "off by", title="where they were taken")
    for row in answers_and_truth(table):
        shown.add_row(*row)
    out_console.print(shown)
    out_console.print(f"Look at {page.resolve()}")


def _flow(recipe: Path, out: Path) -> None:
    """Run the flow of a recipe and show what it wrote."""
    _run_flow("flows.predict", recipe, "--out", out)
    outputs(out, json.loads((out / "run.json").read_text(encoding="utf-8")))
    out_console.print(f"Look at {(out / 'report.html').resolve()}")


def _run_flow(module: str, *words: object) -> None:
    """Run a flow as a program; its exit code becomes ours when it fails."""
    # the flow is a process of its own: orchestration stands above the commands and is never imported by them
    with tempfile.TemporaryDirectory(prefix="geoml-prefect-") as home:
        given = [sys.executable, "-m", module, *map(str, words)]
        run = subprocess.run(given, env=_quiet(home), check=False)
    if run.returncode:
        raise typer.Exit(run.returncode)


def _quiet(home: str) -> dict[str, str]:
    """Prefect for a process that serves nobody else: its own home, no analytics; the environment has the last word."""
    own = {"PREFECT_HOME": home, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    return own | {"PREFECT_LOGGING_LEVEL": "WARNING"} | dict(os.environ)
