"""Options of a command from the fields of a recipe: their spelling, their help, and what comes of what is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from geoml.cli import options
from geoml.cli.common import Commands, command
from geoml.fields import Spelled

ROOT = Path(__file__).parents[3]


class Inner(BaseModel):
    place: Annotated[tuple[float, float] | None, Spelled("X Y")] = None
    when: tuple[str, ...] = Field(description="when")


class Recipe(BaseModel):
    what: str = Field(description="what it is")
    inner: Inner
    how_many: int = Field(default=3, ge=1, le=9, description="number")
    way: Literal["fast", "well"] = Field(default="well", description="how")
    loud: bool = Field(default=False, description="say more")
    neat: bool = Field(default=True, description="tidy up")
    sizes: Annotated[tuple[float, ...], Spelled(name="size")] = Field(default=(1.0,), description="sizes")


@pytest.fixture
def made() -> tuple[typer.Typer, list[Any]]:
    """A program with the command ``do`` and what it was called with."""
    app, called = typer.Typer(cls=Commands, pretty_exceptions_enable=False), []

    @command(app, "do")
    @options.from_recipe(Recipe, argument="what")
    def do(recipe: Recipe, out: Annotated[str, typer.Option("--out", help="where")]) -> None:
        """Do it."""
        called.append((recipe, out))

    @app.callback()
    def main() -> None:
        """So that the command has a name."""

    return app, called


def test_what_is_typed_comes_to_its_field(made: tuple[typer.Typer, list[Any]]) -> None:
    app, called = made
    words = "do it --when a --when b --place -1.5 2 --how-many 4 --way fast --loud --no-neat --size 2 --size 4 --out o"
    ended = CliRunner().invoke(app, words.split())
    assert ended.exit_code == 0, ended.output
    ((recipe, out),) = called
    assert out == "o"
    assert recipe.model_dump() == {
        "what": "it", "inner": {"place": (-1.5, 2.0), "when": ("a", "b")}, "how_many": 4, "way": "fast", "loud": True,
        "neat": False, "sizes": (2.0, 4.0),
    }  # fmt: skip
    CliRunner().invoke(app, ["do", "it", "--when", "a", "--out", "o"])
    assert called[1][0] == Recipe(what="it", inner=Inner(when=("a",)))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--how-many ten", "do: how_many: Input should be a valid integer"),
        ("--how-many 10", "do: how_many: Input should be less than or equal to 9"),
        ("--way slow", "do: way: Input should be 'fast' or 'well'"),
        ("--place 1 north", "do: inner.place.1: Input should be a valid number"),
        ("--size big", "do: sizes.0: Input should be a valid number"),
        ("--colour red", "No such option"),
    ],
)
def test_what_is_wrong_names_its_field(made: tuple[typer.Typer, list[Any]], words: str, says: str) -> None:
    ended = CliRunner().invoke(made[0], ["do", "it", "--when", "a", "--out", "o", *words.split()])
    assert (ended.exit_code, made[1]) == (2, [])
    assert says in " ".join(ended.stderr.replace("│", " ").split())


def test_the_help_has_values_bounds_and_defaults(made: tuple[typer.Typer, list[Any]]) -> None:
    told = CliRunner().invoke(made[0], ["do", "--help"], env={"COLUMNS": "160"}).stdout
    rows = {line.split()[1 + ("*" in line)]: " ".join(line.split()) for line in told.splitlines() if "  --" in line}
    for option, *words in [
        ("--when", "<list[str]>", "when", "[required]"),
        ("--place", "X Y"),
        ("--how-many", "<int>", "number; 1 to 9", "[default: 3]"),
        ("--way", "fast|well", "how", "[default: well]"),
        ("--neat", "--no-neat", "tidy up"),
        ("--size", "<list[float]>", "sizes", "[default: 1.0]"),
    ]:
        assert [w for w in words if w not in rows[option]] == [], rows[option]
    assert "--no-loud" not in told
    assert "what it is" in told


@pytest.mark.parametrize("words", ["--help", "predict --help", "search --help", "geolocate run --help"])
def test_help_loads_nothing_heavy(words: str) -> None:
    program = (
        "import sys\nfrom geoml.cli import app\n"
        f"try: app({words.split()})\n"
        "except SystemExit as end: assert not end.code\n"
        "print([m for m in ('torch', 'prefect', 'rasterio', 'numpy', 'pystac', 'shapely') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stdout.splitlines()[-1] == "[]"
