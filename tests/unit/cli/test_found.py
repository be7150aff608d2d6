"""Commands and demos are files that are found: a new one is no edit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import geoml.cli
from geoml.cli import demo, demos, main

DEMO = '''"""Maps of few labels.

It writes what it was given.
"""

def run(out):
    out.mkdir()
    (out / "said.txt").write_text("few")
'''
COMMAND = '''"""Greets."""

from geoml.cli.common import command, out_console


def register(app):
    command(app, "greet")(greet)


def greet(name: str) -> None:
    """Say hello."""
    out_console.print(f"hello {name}")
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder beside those of commands and of demos."""
    for package in (geoml.cli, demos):
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / package.__name__)])
        (tmp_path / package.__name__).mkdir()
    yield tmp_path
    for name in ("geoml.cli.greeting", "geoml.cli.demos.few_labels"):
        sys.modules.pop(name, None)


def app(*registers: object) -> typer.Typer:
    made = typer.Typer()
    made.callback()(lambda: None)
    for register in registers:
        register(made)  # type: ignore[operator]
    return made


def test_a_demo_is_a_flag_of_its_name(folder: Path) -> None:
    (folder / demos.__name__ / "few_labels.py").write_text(DEMO)
    run = CliRunner().invoke(app(demo.register), ["demo", "--help"], env={"COLUMNS": "200"})
    assert "--few-labels" in run.stdout
    assert "maps of few labels" in run.stdout
    assert "--geolocate" in run.stdout
    assert "geoml.cli.demos.few_labels" not in sys.modules, "help runs no demo's file"
    run = CliRunner().invoke(app(demo.register), ["demo", "--few-labels", "--out", str(folder / "out")])
    assert run.exit_code == 0, run.output
    assert (folder / "out" / "said.txt").read_text() == "few"


def test_one_demo_at_a_time(folder: Path) -> None:
    run = CliRunner().invoke(app(demo.register), ["demo", "--change", "--geolocate", "--out", str(folder / "out")])
    assert run.exit_code == 2
    assert not (folder / "out").exists()


def test_a_command_is_a_file_that_registers(folder: Path) -> None:
    (folder / geoml.cli.__name__ / "greeting.py").write_text(COMMAND)
    found = {module.__name__: module for module in main.COMMANDS.having("register")}
    assert {"geoml.cli.demo", "geoml.cli.geolocate", "geoml.cli.greeting", "geoml.cli.train"} <= set(found)
    run = CliRunner().invoke(app(found["geoml.cli.greeting"].register), ["greet", "you"])
    assert run.stdout == "hello you\n"
