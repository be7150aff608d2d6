"""features.parquet of a run: the same rows for any blocks, whatever fits into memory and whoever wrote the parts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
import scipy.ndimage
import shapely
from numpy.typing import NDArray

from geoml.engine.contract import FinishedRun
from geoml.grid.plane import Block, Plane, Window, blocks_touching
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.io.tables import geoparquet
from geoml.io.tables.geoparquet import Spill
from geoml.io.tables.parts import write_part
from geoml.outputs._class_features import write_rows
from geoml.vector.polygonise import polygonise

PLANE = Plane("EPSG:32621", 10.0)
WHOLE = Window(-700_020, 30_010, -700_020 + 120, 30_010 + 150)
CARD = MapCard(
    name="demo", architecture="unet", bands=(Band(name="red"),), gsd=10, chip_size=256,
    classes=tuple(ClassInfo(value=k, name=f"class {k}", color="#336699") for k in range(3)),
)  # fmt: skip


def classes() -> NDArray[np.uint8]:
    field = scipy.ndimage.gaussian_filter(np.random.default_rng(1).normal(size=WHOLE.shape), 2)
    found = np.digitize(field, np.quantile(field, [0.3, 0.7])).astype(np.uint8)
    found[:20, :30] = 255
    return found


def write_old(block: Block, polygons: Any, path: Path, *, whole: bool = True) -> None:
    """As geoml 0.13 did."""
    columns = {
        "geometry": pa.array(shapely.to_wkb(polygons.geometry), pa.binary()),
        "value": pa.array(polygons.value),
        "pixels": pa.array(polygons.pixels),
        "confidence_sum": pa.array(polygons.confidence_sum),
        "outside": pa.array(polygons.outside),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def table_of(
    out: Path, size: int, write: Callable[..., None] = write_part, *, min_area: float = 0.0, simplify: float = 0.0
) -> pa.Table:
    """The table of a run in blocks of ``size``, without their names."""
    out.mkdir()
    values, blocks = classes(), blocks_touching(PLANE, size, WHOLE)
    for block in blocks:
        part, here = block.window.intersect(WHOLE), np.full(block.window.shape, 255, np.uint8)
        here[part.slices(block.window)] = values[part.slices(WHOLE)]
        sure = np.where(here == 255, 0, here * 100).astype(np.uint8)
        traced = polygonise(here, sure, 255, block.window, here == 1)
        write(block, traced, out / f"{block.id}.parquet", whole=not simplify)

    def parts(read: Callable[[Path], Any]) -> Iterator[tuple[Block, Any]]:
        return ((block, read(out / f"{block.id}.parquet")) for block in blocks)

    plan = SimpleNamespace(card=CARD, recipe=SimpleNamespace(min_area=min_area, simplify=simplify))
    items = [pystac.Item("one", None, None, dt.datetime(2024, 5, 1, tzinfo=dt.UTC), {})]
    run = FinishedRun(out, cast(Any, plan), [b.id for b in blocks], items, items, parts)
    write_rows(run, 1 / 250, out / "features.parquet")
    assert not list(out.glob(".*"))
    return pq.read_table(out / "features.parquet").drop_columns(["blocks"])


@pytest.mark.parametrize("options", [{}, {"min_area": 900.0}, {"simplify": 15.0}])
def test_any_blocks_give_the_same_rows(
    tmp_path: Path, conforms: Callable[[Path], bool], options: dict[str, float]
) -> None:
    first = table_of(tmp_path / "whole", 1024, **options)
    for size in (37, 64):
        assert table_of(tmp_path / str(size), size, **options).equals(first, check_metadata=True)
    assert conforms(tmp_path / "37" / "features.parquet")
    areas = first["area_m2"].to_numpy()
    assert areas.min() >= options.get("min_area", 0.0)
    if not options:
        assert areas.sum() == pytest.approx((classes() != 255).sum() * 100, rel=2e-3)
        assert set(first["name"].to_pylist()) == {"class 0", "class 1", "class 2"}


@pytest.mark.parametrize("simplify", [0.0, 15.0])
def test_parts_of_before_are_read(tmp_path: Path, simplify: float) -> None:
    new = table_of(tmp_path / "new", 37, simplify=simplify)
    assert table_of(tmp_path / "old", 37, write_old, simplify=simplify).equals(new, check_metadata=True)
    count = iter(range(1000))

    def some(*args: Any, **more: Any) -> None:
        (write_old if next(count) % 2 else write_part)(*args, **more)

    assert table_of(tmp_path / "some", 37, some, simplify=simplify).equals(new, check_metadata=True)


def test_what_does_not_fit_goes_by_way_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = table_of(tmp_path / "memory", 37)
    monkeypatch.setattr(geoparquet, "HELD", 20)
    monkeypatch.setattr(geoparquet, "ROW_GROUP", 50)
    files, most, sorted_rows = [], [0], []
    add, ordered = Spill.add, geoparquet._ordered

    def counted(self: Spill, table: pa.Table) -> None:
        add(self, table)
        most[0] = max(most[0], sum(map(len, self._fresh)))
        files.append(self.path.exists())

    def seen(spill: Spill, extent: geoparquet.Extent) -> pa.Table:
        sorted_rows.append(spill.rows)
        return ordered(spill, extent)

    monkeypatch.setattr(Spill, "add", counted)
    monkeypatch.setattr(geoparquet, "_ordered", seen)
    found = table_of(tmp_path / "disk", 37)
    assert found.equals(first, check_metadata=True)
    assert len(first) > 5 * 20
    assert any(files)
    assert most[0] <= 20
    assert max(sorted_rows) <= 20
    assert sum(sorted_rows) == len(first)
    file = pq.ParquetFile(tmp_path / "disk" / "features.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups - 1)] == [50] * (len(first) // 50)
