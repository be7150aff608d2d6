"""Every help: an example whose words the command takes, and short options that mean the same everywhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from geoml import __version__
from geoml.cli import app
from geoml.cli.common import SHORT, out_console
from tests.e2e.printed import Cli

LISTS = [
    *(("models", "list"), ("catalogs", "list"), ("recipes", "list")),
    ("search", "demo", "-b", "-54.73", "-25.46", "-54.46", "-25.15", "-t", "2020"),
    *(
        ("models", "show", name)
        for name in ("demo-itaipu", "kit-cars", "point-classes", "world-overhead", "dynamic-world")
    ),
]
PROGRAM: Any = typer.main.get_command(app)


def walk(name: str = "", command: Any = PROGRAM) -> Iterator[tuple[str, Any]]:
    """All commands and groups by their words."""
    yield name, command
    for word, inner in getattr(command, "commands", {}).items():
        yield from walk(f"{name} {word}".strip(), inner)


EVERY = dict(walk())


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_nothing_in_a_table_is_cut_in_80_columns(
    words: tuple[str, ...], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_console, "_width", 80)
    lines = cli(*words).stdout.splitlines()
    cells = [cell.strip() for line in lines if line.startswith(("│", "┃")) for cell in re.split("[│┃]", line)]
    assert len(cells) > 10
    assert not [cell for cell in cells if cell.endswith("…")]


@pytest.mark.parametrize("name", EVERY)
def test_the_example_of_every_help_is_one_that_its_command_takes(name: str) -> None:
    title, *lines = (EVERY[name].epilog or "").splitlines()
    assert title == "Example:", f"geoml {name}: its docstring has no example"
    examples = "\n".join(lines).replace("\\\n", " ").splitlines()
    assert examples
    for line in examples:
        geoml, *words = shlex.split(line)
        assert geoml == "geoml"
        # a default of geolocate is the command run
        assert " ".join(words).startswith(name.removesuffix(" run")), f"{line}: expected an example of geoml {name}"
        ended(words)


def ended(words: list[str]) -> None:
    """Parse the words as the program does, up to the command that would run; it complains of what it does not take."""
    here, name = PROGRAM, "geoml"
    while hasattr(here, "commands"):
        context = here.make_context(name, list(words))
        name, here, words = here.resolve_command(context, context._protected_args + context.args)
    here.make_context(name, list(words))


def test_an_example_that_lies_is_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        ended(shlex.split("predict -m demo-itaipu -c demo -t 2020 -o out --no-such-thing"))
    with pytest.raises(Exception, match="Missing parameter: out"):
        ended(shlex.split("predict -m demo-itaipu -c demo -t 2020"))


@pytest.mark.parametrize("name", EVERY)
def test_a_short_option_means_the_same_everywhere(name: str) -> None:
    for param in EVERY[name].params:
        shorts = [o for o in param.opts if len(o) == 2]
        for long, short in SHORT.items():
            assert (long in param.opts) == (short in param.opts), f"geoml {name}: {param.opts}"
        assert set(shorts) <= {*SHORT.values(), "-v", "-w"}, f"geoml {name}: {shorts} is in no list"


def test_short_options_do_what_long_ones_do(cli: Cli) -> None:
    words = [
        "-c",
        "demo",
        "-b",
        "-54.725",
        "-25.46",
        "-54.46",
        "-25.15",
        "-t",
        "2020",
        "-m",
        "demo-itaipu",
        "-o",
        "never",
        "-n",
    ]
    long = (
        "--catalog demo --bbox -54.725 -25.46 -54.46 -25.15 --datetime 2020 --model demo-itaipu --out never --dry-run"
    )
    one, other = cli("predict", *words), cli("predict", *long.split())
    assert one.exit_code == other.exit_code == 0, one.output
    assert one.stdout == other.stdout
    assert "nothing was read" in one.stdout


def test_the_version(cli: Cli) -> None:
    assert cli("--version").stdout == f"geoml {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(shell: str) -> None:
    """What a shell asks for, whichever shell the tests run under."""

    def completed(words: str) -> str:
        asked = {
            "_GEOML_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
            "_TYPER_COMPLETE_ARGS": words,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        code = "import sys; sys.argv = ['geoml']; from geoml.cli import app; app(prog_name='geoml')"
        return subprocess.run(
            [sys.executable, "-c", code], env=os.environ | asked, text=True, stdout=subprocess.PIPE
        ).stdout

    assert "predict" in completed("geoml pre")
    assert "--model" in completed("geoml predict --mo")
