"""A distribution adds a model, a task, an input, an output and a back end by its entry points, and geoml runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from geoml import testing
from tests.docs.documents import ROOT, blocks

TASK = '''"""Segmentation by another name."""

from geoml.tasks.segmentation import Task as Segmentation


class Task:
    name, input, output = "fields", "one_date", "field_classes"
    recipe, card = Segmentation.recipe, Segmentation.card
    key, larger_is_better = Segmentation.key, Segmentation.larger_is_better
'''
INPUT = (
    '"""As the core reads one date."""\n\nfrom geoml.inputs.stacked import *\nfrom geoml.inputs.stacked import Input\n'
)
OUTPUT = '"""As the core writes classes."""\n\nfrom geoml.outputs.classes import TINY, Output\n'
BACKEND = '''"""PyTorch by another name."""

from geoml.backends.torch import Backend as Torch, Device, choose


class Backend(Torch):
    name = "other_torch"
'''
GROUPS = {
    "models": "dilated",
    "tasks": "fields",
    "inputs": "one_date",
    "outputs": "field_classes",
    "backends": "other_torch",
}

PROGRAM = """
import sys, torch
from geoml import models
from geoml.engine.packages import package
from geoml.io.cards.map_card import Band, ClassInfo, MapCard

torch.manual_seed(0)
config = {"width": 8, "dilations": [1, 2]}
module = models.build("dilated", {"bands": 2, "classes": 2, **config})
bands = tuple(Band(name=n, unit="reflectance") for n in ("red", "nir"))
classes = tuple(ClassInfo(value=k, name=n, color="#00000" + str(k)) for k, n in enumerate(("other", "field")))
card = MapCard(name="mine", architecture="dilated", config=config, task="fields", bands=bands, gsd=10, chip_size=64,
               classes=classes)
package.save(module, card, sys.argv[1])

from geoml.cli import app
from geoml.engine.contract import BACKENDS

assert "other_torch" in BACKENDS.names()
app(sys.argv[2:])
"""


def wheel(folder: Path, points: dict[str, tuple[str, str]], name: str = "geoml_something") -> Path:
    """A wheel with the model of docs/add-a-model.md and what stands above; ``points``: name and module by group."""
    (model,) = [b.text for b in blocks("docs/add-a-model.md") if b.get("as") == "geoml/models/dilated.py"]
    files = {"dilated": model, "fields": TASK, "one_date": INPUT, "field_classes": OUTPUT, "other_torch": BACKEND}
    info = f"{name}-1.0.dist-info"
    lines = [f"[geoml.{group}]\n{key} = {module}\n" for group, (key, module) in points.items()]
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        for module, text in files.items():
            archive.writestr(f"{name}/{module}.py", text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", "\n".join(lines))
        archive.writestr(f"{info}/RECORD", "")
    return path


def installed(folder: Path, made: Path) -> dict[str, str]:
    """The environment of a process that has the wheel, installed as a user would."""
    target = folder / "site"
    uv = shutil.which("uv") or str(Path(sys.prefix) / "bin" / "uv")
    words = [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--target", str(target), str(made)]
    subprocess.run(words, check=True, capture_output=True, text=True)
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{target}", "PYTHONWARNINGS": "error::SyntaxWarning"}


def python(env: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, words)], env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_what_a_distribution_adds_makes_a_map(tmp_path: Path) -> None:
    points = {group: (name, f"geoml_something.{name}") for group, name in GROUPS.items()}
    env = installed(tmp_path, wheel(tmp_path, points))
    scene = testing.Scene(id="s", data=testing.smooth((2, 96, 96), seed=0), bands=("red", "nir"))
    catalog = testing.write_catalog(tmp_path / "catalog", [scene])
    words = ["predict", "--model", tmp_path / "mine", "--catalog", catalog, "--datetime", "2024", "--no-features"]
    words += ["--bbox", *map(str, scene.bbox()), "--backend", "other_torch", "--out", tmp_path / "run"]
    done = python(env, "-c", PROGRAM, tmp_path / "mine", *words)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["backend"]["name"] == "other_torch"
    (made,) = testing.read_map(tmp_path / "run", "class").values()
    assert {0, 1} & set(np.unique(made.data))
    assert set(np.unique(made.data)) <= {0, 1, 255}
    without = python({**env, "PYTHONPATH": str(ROOT)}, "-m", "geoml.cli", *words[:-4], "--out", tmp_path / "not")
    assert without.returncode == 2
    assert "InputError" in without.stderr
