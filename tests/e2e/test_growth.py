"""Nothing grows as items × blocks: the work of a plan, of a block, of a run and of its tables at 1, 8 and 64 times.

Work is calls of functions in all threads and bytes of files, which are the same on every machine; what is done once is
taken off by looking at what more blocks add. `make bench-growth` measures seconds and memory at real sizes.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from geoml import pipeline, testing
from geoml.engine.run.blocks import BlockReader, predictor_of
from geoml.engine.run.plan import make_plan, read_plan, write_plan
from tests.benchmarks import growth_features, growth_plan

TIMES = (1, 8, 64)
MOST = 1.2


def exponent(costs: Sequence[float]) -> float:
    """The power of the size with which costs at `TIMES` grow, beside what is paid once."""
    one, eight, all_of_them = costs
    return math.log((all_of_them - eight) / (eight - one)) / math.log(8)


@contextmanager
def calls() -> Iterator[list[int]]:
    """Puts into the list how many functions were called, by every thread that was begun here too."""
    said: list[int] = []
    number = count()

    def seen(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            next(number)

    threading.setprofile(seen)
    sys.setprofile(seen)
    try:
        yield said
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        said.append(next(number))


def test_the_exponent_is_that_of_the_growth() -> None:
    assert exponent([7 + n for n in TIMES]) == pytest.approx(1)
    assert exponent([7 + n * n for n in TIMES]) == pytest.approx(2)
    with calls() as said:
        worker = threading.Thread(target=lambda: [exponent((1, 2, 3)) for _ in range(1000)])
        worker.start()
        worker.join()
    assert 1000 <= said[0] < 10_000


def test_a_plan_and_the_reading_of_a_block(tmp_path: Path) -> None:
    planned, read, sizes = [], [], []
    for times in TIMES:
        folder = tmp_path / str(times)
        recipe, items = growth_plan.recipe(folder, 24 * times, 6 * times), growth_plan.make_items(24 * times)
        with calls() as said:
            write_plan(*make_plan(recipe, [items]), folder / "out")
        planned.append(said[0])
        plan = read_plan(folder / "out")
        assert len(plan.blocks) >= 4 * times
        sizes.append(sum(p.stat().st_size for p in (folder / "out").rglob("*") if p.is_file()))
        with growth_plan.no_pixels():
            reader = BlockReader(folder / "out", plan, predictor_of(plan))
            first, *_, middle = plan.blocks[: len(plan.blocks) // 2 + 1]
            reader.read(first)
            with calls() as said:
                reader.read(middle)
        read.append(said[0])
    assert exponent(planned) <= MOST
    assert exponent(sizes) <= MOST
    assert read[2] <= 1.2 * read[1], "a block asks for its own items only"  # the one of the first has no neighbours


def test_a_run_with_its_tables_and_its_report(tmp_path: Path) -> None:
    testing.threshold_model(tmp_path / "model", growth_plan.BANDS[:2], (0.2, 0.4))
    called, sizes = [], []
    for times in TIMES:
        folder = tmp_path / str(times)
        side = 64 * math.isqrt(times - 1) + 64
        scene = testing.Scene(
            id="scene",
            data=testing.smooth((2, side, side), seed=5, cell=16),
            bands=growth_plan.BANDS[:2],
            origin=(601_600.0, 7_200_000.0),
        )
        catalog = testing.write_catalog(folder / "made", [scene])
        query = {"catalog": str(catalog), "bbox": scene.bbox(inner=0.001), "datetime": ["2024"]}
        recipe = {"model": str(tmp_path / "model"), "query": query, "block_size": 64}
        with calls() as said:
            run = pipeline.predict(recipe, folder / "out")
        called.append(said[0] / len(run["blocks"]["done"]) * times)
        sizes.append(sum(p.stat().st_size for p in (folder / "out").rglob("*") if p.is_file()))
    assert called[2] / TIMES[2] <= called[1] / TIMES[1] * 8 ** (MOST - 1)
    assert exponent(sizes) <= MOST


def test_polygons_over_many_blocks(tmp_path: Path) -> None:
    called, sizes = [], []
    for times in TIMES:
        folder = tmp_path / str(times)
        folder.mkdir()
        found = growth_features.write_blocks(times, 8.0, folder)
        with calls() as said:
            written = growth_features.collect(times, 8.0, folder)
        assert 0.3 * found < written <= found  # those on edges become one
        called.append(said[0])
        sizes.append((folder / "features.parquet").stat().st_size)
    assert exponent(called) <= MOST
    assert exponent(sizes) <= MOST
