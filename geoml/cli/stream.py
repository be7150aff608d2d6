"""``geoml stream``: chips or frames, one after the other, through one warm model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from geoml.cli import options
from geoml.cli.common import Json, command, out_console, print_warnings
from geoml.engine.stream.recipe import StreamRecipe
from geoml.texts import counted


def register(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "stream")(stream)


@options.from_recipe(StreamRecipe, argument="model")
def stream(
    recipe: StreamRecipe,
    source: Annotated[str, typer.Argument(help="a folder of GeoTIFF, PNG, JPEG or BMP, one such file, or a video")],
    out: Annotated[Path, typer.Option("--out", help="new folder: one file per frame, frames.parquet, stream.json")],
    as_json: Json = False,
) -> None:
    """Run a model on a stream of frames, and time each.

    Example:
    geoml stream demo-itaipu chips/ -o answers
    """
    from geoml.cli.progress import counter, print_domain
    from geoml.engine.stream import run

    with counter("frames") as advance:
        record = run.stream(source, out, progress=advance, **dict(recipe))
    if as_json:
        print(json.dumps(record))
        return
    _print(record, out)
    print_warnings(record)
    print_domain(record)


def _print(record: dict[str, Any], out: Path) -> None:
    counts = ", ".join(f"{n} {status}" for status, n in record["frames"].items() if n)
    sizes = ", ".join(f"{n} of {shape}" for shape, n in record["shapes"].items())
    table = Table("stage", "p50 ms", "p99 ms", "mean ms", title=f"frames: {counts} ({sizes})")
    for stage, ms in record["latency_ms"].items():
        table.add_row(stage, *(f"{ms[k]:.1f}" for k in ("p50", "p99", "mean")))
    out_console.print(table)
    rate, warm, backend = record["rate"], record["warmup"], record["backend"]
    out_console.print(
        f"{rate['frames_per_second']:.2f} frames/s, {rate['megapixels_per_second']:.2f} Mpx/s; latency is read, wait "
        f"and model; {warm['answers']} warm-up frames ({warm['seconds']:.2f} s) are not counted"
    )
    about = f"{backend['name']} in {backend['precision']} on {backend['device']}"
    out_console.print(
        f"{about}, {counted(record['threads'], 'thread')}; {counted(record['files'], 'file')} in {out}", highlight=False
    )
