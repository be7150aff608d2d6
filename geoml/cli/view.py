"""``geoml view``: the map of a run at full resolution, in the browser of this machine."""

from __future__ import annotations

import threading
import webbrowser
from typing import Annotated

import typer

from geoml.cli.common import command, out_console
from geoml.errors import GeomlError, InputError
from geoml.texts import counted


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "view")(view)


def view(
    out: Annotated[str, typer.Argument(metavar="OUT", help="folder of a finished run, or s3://bucket/prefix")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="port on 127.0.0.1; 0 for any free port")] = 0,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="open the browser")] = True,
) -> None:
    """Show the map of a run with tiles of its COGs at full resolution, until Ctrl-C. Only this machine can see it.

    Example:
    geoml view out
    """
    from geoml.io.stores.remote import run_store
    from geoml.io.webmap.server import serve
    from geoml.io.webmap.tiles import RunTiles

    def ready(address: str) -> None:
        out_console.print(f"The map of {out} is at {address} (Ctrl-C stops it)", highlight=False)
        if browser:
            # some browsers, such as those of a terminal, do not return before they have shown the page
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    try:
        tiles = RunTiles.of(run_store(out))
    except InputError as err:
        raise _unfinished(out) or err from err
    serve(tiles, port, ready)


def _unfinished(out: str) -> InputError | None:
    """The error for a run that has no map because it is not finished; None for any other place."""
    from geoml.engine.run.state import state

    try:
        run = state(out)
    except GeomlError:
        return None
    if run.status == "finished":
        return None
    then = "it is still running" if run.status == "running" else "repeat its command"
    return InputError(f"out: {out} is not finished ({run.done} of {counted(run.planned, 'block')}); {then}")
