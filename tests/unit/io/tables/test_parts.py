"""Parts of blocks: what was written comes back, what is damaged is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geoml.errors import DataError
from geoml.grid.plane import Block, Plane
from geoml.io.tables.features import GROUND
from geoml.io.tables.parts import read_edges, read_inside, write_part
from geoml.vector.polygonise import polygonise

BLOCK = Block(Plane("EPSG:32621", 10.0), 16, -45_000, 1_900)


def write(path: Path, *, whole: bool = True) -> None:
    classes = np.zeros((16, 16), np.uint8)
    classes[3:6, 4:9] = 1
    classes[10:, 2:4] = 2
    write_part(BLOCK, polygonise(classes, classes, 255, BLOCK.window), path, whole=whole)


def test_a_part_holds_edges_and_finished_rows(tmp_path: Path) -> None:
    write(tmp_path / "part.parquet")
    edges, inside = read_edges(tmp_path / "part.parquet"), read_inside(tmp_path / "part.parquet")
    assert sorted(edges.edge.value.tolist()) == [0, 2]
    assert inside.inner.column_names == list(GROUND)
    (row,) = inside.inner.to_pylist()
    assert (row["value"], row["pixels"], row["row"] - BLOCK.window.y0, row["col"] - BLOCK.window.x0) == (1, 15, 3, 4)
    assert row["area_m2"] == pytest.approx(1500, rel=2e-3)
    assert edges.inner["area_m2"].to_pylist() == [row["area_m2"]]
    assert "geometry" not in edges.inner.column_names
    assert len(inside.edge) == 0
    assert edges.finished(BLOCK) is edges


def test_nothing_is_finished_where_all_are_wanted(tmp_path: Path) -> None:
    write(tmp_path / "part.parquet", whole=False)
    assert sorted(read_edges(tmp_path / "part.parquet").edge.value.tolist()) == [0, 1, 2]
    assert len(read_inside(tmp_path / "part.parquet").inner) == 0


def test_damage_is_said(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write(path)
    whole = path.read_bytes()
    for broken in (b"", whole[:-9], whole[: len(whole) // 2], b"PAR1" + whole[40:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="not readable"):
            read_inside(path)
    with pytest.raises(DataError):
        read_edges(tmp_path / "none.parquet")
