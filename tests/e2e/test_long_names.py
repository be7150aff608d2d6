"""A name that no system takes was asked wrongly: an InputError before any work, whatever takes an output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

import geoml
from geoml import pipeline, testing
from geoml.errors import InputError

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 64, 64), seed=5), bands=("red", "nir"))


@pytest.fixture
def recipe(catalog: Path, constant: str) -> dict[str, Any]:
    query = {"catalog": str(catalog), "bbox": list(SCENE.bbox(inner=0.2)), "datetime": ["2020/2026"]}
    return {"model": constant, "query": query, "block_size": 64}


def long_names(folder: Path) -> list[Path]:
    """A part that is too long, a path that is, and paths that leave room for some names in a run only."""
    near = [Path(f"{folder}/{'/'.join('n' * 99 for _ in range(99))}"[:size]) for size in (3830, 3900, 4000, 4060, 4094)]
    return [
        folder / ("n" * 256),
        folder / ("ü" * 200),
        folder / ("n" * 300) / "out",
        Path(f"{folder}{'/n' * 4000}"),
        *near,
    ]


def test_a_run(recipe: dict[str, Any], tmp_path: Path) -> None:
    for out in long_names(tmp_path):
        if len(str(out)) < 3840 and max(map(len, out.parts)) < 256 and "ü" not in str(out):
            assert geoml.predict(recipe, out)["valid_pixels"], "with room for all names"
            continue
        with pytest.raises(InputError, match=r"out: .* the name is too long") as told:
            geoml.predict(recipe, out)
        assert len(str(told.value)) < 700


def test_a_series(recipe: dict[str, Any], tmp_path: Path) -> None:
    for out in long_names(tmp_path)[:4]:
        with pytest.raises(InputError, match="out"):
            pipeline.monitor(recipe, out, until="2024-06-02")


def test_commands(
    recipe: dict[str, Any], cli: Callable[..., Result], catalog: Path, constant: str, tmp_path: Path
) -> None:
    """Each with its exit code, and without a traceback."""
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / "a.jpg")
    box = ["--bbox", *map(str, SCENE.bbox(inner=0.2)), "--datetime", "2020/2026"]
    for out in long_names(tmp_path)[:4]:
        for words in (
            ("predict", "--model", constant, "--catalog", catalog, *box, "--out", out),
            ("geolocate", "strip-exif", tmp_path / "a.jpg", "--out", out),
            ("geolocate", "predict", tmp_path / "a.jpg", "--out", out.with_name(f"{out.name}.parquet")),
            ("runs", out),
            ("models", "show", out),
            ("predict", "--model", out, "--catalog", catalog, *box, "--out", tmp_path / "out"),
            ("predict", "--model", constant, "--catalog", out, *box, "--out", tmp_path / "out"),
            (
                "predict",
                "--model",
                constant,
                "--catalog",
                catalog,
                "--region",
                out,
                "--datetime",
                "2024",
                "--out",
                tmp_path / "out",
            ),
            ("train", out, "--out", tmp_path / "out"),
            ("evaluate", "--model", constant, out),
            ("models", "new", "unet", "--out", out),
        ):
            ended = cli(*words)
            assert ended.exit_code == InputError.exit_code, (
                words[:2],
                ended.exit_code,
                ended.output[-500:],
                ended.exception,
            )
