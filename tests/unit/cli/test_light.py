"""Commands that only look, and a run that is finished, load no network library and nothing that they do not ask.

Each in a process of its own or after others that are held to more, on what is really there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from geoml import pipeline, testing
from geoml.engine.packages import calibrate, cards, package

HEAVY = {
    "dask", "distributed", "geopandas", "lightning", "matplotlib", "odc", "pandas", "prefect", "pyogrio", "safetensors",
    "scipy", "segmentation_models_pytorch", "skimage", "sklearn", "stac_geoparquet", "timm", "torch", "torchmetrics",
    "torchvision", "xarray", "zstandard",
}  # fmt: skip
"""What none of them loads: each costs between 0.1 and 3 seconds of CPU."""
NETWORKS = {"lightning", "prefect", "segmentation_models_pytorch", "timm", "torch", "torchmetrics", "torchvision"}
CARDS = {"numpy", "pyarrow", "pyproj", "pystac", "pystac_client", "rasterio", "requests", "shapely"}
"""What cards of models do without, too."""

PROGRAM = """
import contextlib, io, json, sys
from geoml.cli import app
from geoml.cli.common import out_console

opened = set()
sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)

for line in sys.stdin.read().splitlines():
    opened.clear()
    out_console.file = said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            app(line.split())
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, said.getvalue(), sorted({m.partition(".")[0] for m in sys.modules}), sorted(opened)]))
"""
"""Runs a command for each line; its exit code, what it prints, packages loaded by then, files it opened."""

HELP = """
import contextlib, io, json, sys, typer
from geoml.cli import app

def helped(command, words):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        command.main([*words, "--help"], "geoml")
    assert "Usage: geoml" in said.getvalue(), words
    print(*words)
    for name in getattr(command_at(command, words), "commands", {}):
        helped(command, [*words, name])

def command_at(command, words):
    for word in words:
        command = command.commands[word]
    return command

helped(typer.main.get_command(app), [])
print(json.dumps(sorted({m.partition(".")[0] for m in sys.modules})))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalog ``made/catalog.json`` of one place on two dates, two models, and ``run``, a finished run."""
    place = tmp_path_factory.mktemp("light")
    scene = testing.Scene(id="scene", data=testing.smooth((2, 32, 48)), bands=("red", "nir"))
    catalog = testing.write_catalog(
        place / "made", [replace(scene, id="before", datetime="2020-06-01T10:00:00Z"), scene]
    )
    testing.constant_model(place / "model", ("red", "nir"), ("a", "b"), 1)
    change = calibrate.new("cva", ("red", "nir"), 10)
    package.save(change.module, change.card, place / "change")
    for task, more in MORE.items():  # of which a dry run needs the card alone
        (place / task).mkdir()
        (place / task / "model.safetensors").touch()
        cards.write(testing.card(task, ("red", "nir"), ("a", "b"), task=task, **more), place / task)
    query = {"catalog": str(catalog), "bbox": (-55, 64, -54, 65), "datetime": ["2024"]}
    pipeline.predict({"model": str(place / "model"), "query": query, "crs": "data"}, place / "run")
    return place


MORE: dict[str, dict[str, object]] = {
    "detection": {},
    "regression": {"channels": 2, "made": {"name": "height", "unit": "m"}},
}
QUERY = "--catalog {place}/made/catalog.json --datetime 2024 --bbox -55 64 -54 65 --crs data"
AGAIN = "predict --model {place}/model " + QUERY + " --out run"
DRY = "predict --model {task} " + QUERY + " --out new --dry-run"
COMMANDS = {
    "models list": "world-overhead",
    "models list --json": "world-overhead",
    "models show model": "Where not to use it",
    "models show world-overhead --json": "geolocation",
    "search made/catalog.json --datetime 2024 --bbox -180 -90 180 90": "1 item",
    "search made/catalog.json --datetime 2024 --bbox -180 -90 180 90 --json": "FeatureCollection",
    "runs run": "1 of 1 done",
    "runs run --json": '"finished"',
    "predict --model model --catalog made/catalog.json --datetime 2024 --bbox -55 64 -54 65 --out new --dry-run": (
        "1 item, 1 block"
    ),
    "predict --model change --catalog made/catalog.json --datetime 2020 --datetime 2024 --bbox -55 64 -54 65 --out new "
    "--dry-run": "1 block",
    **{DRY.replace("{task}", task): "1 item, 1 block" for task in MORE},
    AGAIN: "1 block in run",
    "area draw run --places 10 --out places.gpkg": "10 places",
}
"""What each prints; one after the other in one process, so that each may load what those before it did."""


def run(program: str, given: str = "", cwd: Path | None = None) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_commands_that_look_load_no_torch(place: Path) -> None:
    lines = [words.replace("{place}", str(place)) for words in COMMANDS]
    before = {p: p.stat().st_mtime_ns for p in (place / "run").rglob("*") if p.is_file()}
    found = dict(zip(COMMANDS, map(json.loads, run(PROGRAM, "\n".join(lines), place)), strict=True))
    for words, shown in COMMANDS.items():
        code, said, modules, _ = found[words]
        assert (words, code) == (words, 0), said
        assert shown in said
        without = NETWORKS if words.startswith("area") else HEAVY | (CARDS if words.startswith("models") else set())
        assert (words, set(modules) & without) == (words, set())
    assert {p: p.stat().st_mtime_ns for p in before} == before, "the repeat of a finished run writes nothing"
    *_, opened = found[AGAIN]
    (item,) = (place / "run" / "items").iterdir()
    read = {Path(name).name for name in opened if Path(place / "run") in (place / name).parents}
    (blocks,) = (place / "run" / ".geoml" / "blocks").iterdir()
    asked = {"plan.json", blocks.name, item.name, "run.json"}
    assert read - {".geoml", "lock.json"} == asked, "nor does it read more than it asks"


def test_importing_the_pipeline_loads_no_torch() -> None:
    program = "import json, sys, geoml.pipeline; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    (modules,) = map(json.loads, run(program))
    assert set(modules) & HEAVY == set()


def test_a_search_from_python_loads_no_torch(place: Path) -> None:
    program = (
        "import json, sys, geoml; from geoml.recipe import Query\n"
        "query = Query(catalog='made/catalog.json', bbox=(-180, -90, 180, 90), datetime='2024')\n"
        "print(json.dumps([len(geoml.search(query)), sorted({m.partition('.')[0] for m in sys.modules})]))"
    )
    ((count, modules),) = map(json.loads, run(program, cwd=place))
    assert count == 1
    assert set(modules) & HEAVY == set()


def test_the_help_of_every_command_loads_no_torch() -> None:
    *commands, modules = run(HELP)
    assert {"", "runs", "models list", "predict", "train", "geolocate map", "geolocate index add"} <= set(commands)
    assert set(json.loads(modules)) & HEAVY == set()
