"""A run of a hundred tiny blocks over many items: one worker, two processes and Dask end with the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from geoml import testing
from tests.benchmarks import growth_workers

ITEMS, ROWS, COLUMNS = 600, 8, 13

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*is already in use:UserWarning:distributed")]


def test_two_workers_and_dask_end_with_the_bytes_of_one(
    tmp_path: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = growth_workers.make(tmp_path, ITEMS, ROWS, COLUMNS)
    for name, value in growth_workers.MACHINE.items():
        monkeypatch.setenv(name, value)
    trees: dict[str, dict[str, str]] = {}
    for name, workers in growth_workers.WORKERS.items():
        monkeypatch.setenv("GEOML_WORKERS", workers)
        result = cli(*command, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        trees[name] = testing.tree(tmp_path / name)
        run = json.loads((tmp_path / name / "run.json").read_text())
        assert len(run["blocks"]["done"]) >= ROWS * COLUMNS
        assert len(run["sources"]) > ITEMS / 2
    assert not growth_workers.different(trees["one"], trees["two"])
    assert not growth_workers.different(trees["one"], trees["dask"])
