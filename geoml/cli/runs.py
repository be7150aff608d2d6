"""``geoml runs``: how one run stands, or all runs of a folder, once or until they end."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.table import Column, Table

from geoml.cli.common import Json, command, out_console
from geoml.errors import GeomlError, InputError
from geoml.io.stores.bucket import is_bucket
from geoml.texts import counted

if TYPE_CHECKING:
    from geoml.engine.run.state import RunState

STATE = ".geoml"
"""Folder of the state of a run, which makes a folder one."""
EVERY = 2.0
"""Seconds between two looks."""
INSIDE = frozenset({STATE, "cogs", "items", "model", "features.parquet", "items.parquet", "sources.parquet"})
"""What lies in a run and holds no other run."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "runs")(runs)


def runs(
    out: Annotated[str, typer.Argument(help="folder or URL of a run, or a folder with runs below it")],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="refresh every 2 s until nothing is running")] = False,
    as_json: Json = False,
) -> None:
    """Show the state of a run: running, died, finished, failed or stopped, and what is done.

    For a folder with several runs, such as the nights of a monitor, show a table of all.

    Example:
    geoml runs itaipu --watch
    """
    several = not is_bucket(out) and not (Path(out) / STATE).is_dir()

    def look() -> list[RunState]:
        return list(map(_state_or_damage, places(Path(out)))) if several else [_state(out)]

    def shown(found: list[RunState]) -> Table:
        return _table(found) if several else _page(found[0])

    def told(found: list[RunState]) -> str:
        each = [run.as_dict() for run in found]
        return json.dumps(each if several else each[0])

    if not watch:
        found = look()
        print(told(found)) if as_json else out_console.print(shown(found))
    elif out_console.is_terminal and not as_json:
        with Live(console=out_console, auto_refresh=False) as live:
            for found in _until_ended(look):
                live.update(shown(found), refresh=True)
    else:
        for found in _until_ended(look):
            if as_json:
                print(told(found), flush=True)
            for run in () if as_json else found:
                out_console.print(f"{run.out}: {run.status}, {_blocks(run)}", highlight=False)


def places(folder: Path) -> list[str]:
    """The runs below a folder of this machine, by name. Raises InputError if there is none."""
    if not folder.is_dir():
        raise InputError(f"out: {folder} is not a folder; expected that of a run, or one with runs below it")
    found = []
    for at, folders, _ in os.walk(folder):
        if STATE in folders and any((Path(at) / STATE / name).exists() for name in ("plan.json", "lock.json")):
            found.append(at)
        folders[:] = sorted(name for name in folders if name not in INSIDE)
    if not found:
        raise InputError(f"out: {folder} contains no run; expected a folder that geoml predict wrote, or one with such")
    return found


def _state(out: str) -> RunState:
    from geoml.engine.run.state import state

    return state(out)


def _state_or_damage(out: str) -> RunState:
    """One of several: a run that cannot be read hides no other."""
    from geoml.engine.run.state import RunState

    try:
        return _state(out)
    except GeomlError as err:
        return RunState(out, "damaged", 0, 0, reason=str(err))


def _until_ended(look: Callable[[], list[RunState]]) -> Iterator[list[RunState]]:
    """What ``look`` finds, whenever it has changed, until nothing is running."""
    before: list[object] = []
    while True:
        found = look()
        now: list[object] = [(run.out, run.status, run.done, len(run.failed), run.planned) for run in found]
        if now != before:
            yield found
        before = now
        if not any(run.status == "running" for run in found):
            return
        time.sleep(EVERY)


def _blocks(run: RunState) -> str:
    if run.reason is not None:
        return run.reason
    return f"{run.done} of {run.planned} done, {len(run.failed)} failed, {run.left} left"


def _table(found: list[RunState]) -> Table:
    table = Table("run", "status", "blocks", Column("updated", no_wrap=True), title=counted(len(found), "run"))
    for run in found:
        table.add_row(run.out, run.status, _blocks(run), _moment(run.updated))
    return table


def _moment(time: str | None) -> str:
    """An ISO 8601 time as a person reads it; "" for none."""
    try:
        return f"{dt.datetime.fromisoformat(time).astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC" if time else ""
    except (ValueError, OverflowError):  # of a damaged record
        return str(time)


def _page(run: RunState) -> Table:
    table = Table("", run.status, title=run.out)
    table.add_row("blocks", _blocks(run))
    if run.holder:
        table.add_row("worked on by", "pid {pid} on {host}, last heard of {renewed}".format(**run.holder))
    rows = {
        "started": _moment(run.started),
        "updated": _moment(run.updated),
        "seconds": "  ".join(f"{k} {v:.1f}" for k, v in run.seconds.items()),
        "megabytes": "  ".join(f"{k} {v / 1e6:.1f}" for k, v in run.bytes.items()),
    }
    for key, why in ({k: v for k, v in rows.items() if v} | dict(run.failed)).items():
        table.add_row(key, why)
    return table
