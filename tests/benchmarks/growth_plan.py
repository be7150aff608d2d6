"""How the plan of a run, its files and the reading of a block grow with items and blocks, all made in code.

    python -m tests.benchmarks.growth_plan [--items 1000 10000] [--blocks 100 2000]

Each figure is that of a process of its own: CPU seconds and peak memory. No pixel is there, and none is read.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pystac

from geoml import testing
from geoml.engine.run.blocks import BlockReader, predictor_of
from geoml.engine.run.plan import make_plan, read_plan, write_plan
from geoml.pipeline import todo
from geoml.recipe import PredictRecipe, parse

DEPTH = 12
"""Items of one place."""
TILE = 0.6
"""Degrees of a side of an item, of which a twentieth is shared with each neighbour."""
SIZE = 64
"""Pixels of a side of a block."""
BANDS = ("blue", "green", "red", "nir")
DAYS = np.datetime64("2023-01-01"), 365


def _layout(items: int) -> tuple[int, int]:
    """Rows and columns of places."""
    places = max(1, round(items / DEPTH))
    rows = max(1, round(math.sqrt(places / 2)))
    return rows, -(-places // rows)


def _corner(items: int) -> tuple[float, float]:
    """West and south of the first place: about 20 degrees east on the equator."""
    rows, columns = _layout(items)
    return 20 - columns * TILE / 2, -rows * TILE / 2


def make_items(count: int) -> list[pystac.Item]:
    """``count`` items of four bands in a layout of places, newest first, as a search gives them."""
    _, columns = _layout(count)
    west, south = _corner(count)
    values = []
    for n in range(count):
        place, look = divmod(n, DEPTH)
        y, x = place // columns, place % columns
        x0, y0 = west + x * TILE - 0.03, south + y * TILE - 0.03
        x1, y1 = x0 + TILE + 0.06, y0 + TILE + 0.06
        when = DAYS[0] + np.timedelta64((look * DAYS[1]) // DEPTH + place % 30, "D")
        values.append((str(when), f"T{place:05d}-{look:02d}", (x0, y0, x1, y1)))
    values.sort(key=lambda v: v[1])
    values.sort(key=lambda v: v[0], reverse=True)
    return [_item(*value) for value in values]


def _item(when: str, key: str, box: tuple[float, float, float, float]) -> pystac.Item:
    x0, y0, x1, y1 = box
    bands = [{"name": b, "data_type": "uint16", "nodata": 0, "raster:scale": 1e-4, "raster:offset": 0.0} for b in BANDS]
    assets = {
        b["name"]: {
            "href": f"https://data.example.com/made/{key}/{b['name']}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "gsd": 10,
            "bands": [b],
        }
        for b in bands
    }
    return pystac.Item.from_dict(
        {
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": [],
            "id": key,
            "collection": "made",
            "geometry": {"type": "Polygon", "coordinates": [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]},
            "bbox": [x0, y0, x1, y1],
            "properties": {
                "datetime": f"{when}T10:00:00Z",
                "eo:cloud_cover": float(hash_of(key) % 100),
                "platform": "made-1",
                "updated": f"{when}T20:00:00Z",
            },
            "links": [],
            "assets": assets,
        },
        preserve_dict=False,
    )


def hash_of(text: str) -> int:
    """The same number in every process."""
    return int.from_bytes(text.encode(), "big") % 1_000_003


def recipe(folder: Path, items: int, blocks: int) -> PredictRecipe:
    """A recipe over the places of so many items whose region is about so many blocks; writes catalog and model."""
    rows, columns = _layout(items)
    west, south = _corner(items)
    region = [west + 0.01, south + 0.01, west + columns * TILE - 0.01, south + rows * TILE - 0.01]
    gsd = math.sqrt(rows * columns * (TILE * 111_000.0) ** 2 / blocks) / SIZE
    folder.mkdir(parents=True, exist_ok=True)
    about = {"type": "Catalog", "stac_version": "1.1.0", "id": "made", "description": "made", "links": []}
    (folder / "catalog.json").write_text(json.dumps(about))
    testing.threshold_model(folder / "model", BANDS, (0.5,), gsd=gsd, chip_size=32, overlap=0)
    query = {"catalog": str(folder / "catalog.json"), "collection": "made", "bbox": region, "datetime": "2023"}
    value = {"model": str(folder / "model"), "query": query, "block_size": SIZE, "mask": "none"}
    return parse(PredictRecipe, value, "growth")


def plan(items: int, blocks: int) -> dict[str, float]:
    """CPU seconds of making, writing and reading the plan of so many items and blocks, and of one look at its state;
    bytes of its files, blocks, and the peak of memory, MB."""
    with tempfile.TemporaryDirectory() as folder:
        asked, found, out = recipe(Path(folder), items, blocks), make_items(items), Path(folder) / "out"
        base, clock = _peak(), _Clock()
        made, used = make_plan(asked, [found])
        seconds = {"plan": clock.lap()}
        write_plan(made, used, out)
        seconds["write"] = clock.lap()
        read = read_plan(out)
        first = read.blocks[0]
        seconds["read"] = clock.lap()
        assert first.hash == made.blocks[0].hash
        again = [read_plan(out) for _ in range(100)]
        seconds["read again"] = clock.lap() / len(again)
        assert len(todo(out)) == len(made.blocks)
        seconds["todo"] = clock.lap()
        sizes = {path.name: path.stat().st_size for path in out.rglob("*") if path.is_file()}
        return {
            **{f"{name}, s": value for name, value in seconds.items()},
            "blocks": len(made.blocks),
            "items of a block": sum(len(items) for _, items in made.blocks.users()) / len(made.blocks),
            "files, MB": sum(sizes.values()) / 1e6,
            "peak, MB": _peak(),
            "before the plan, MB": base,
        }


def read_block(items: int, blocks: int, count: int = 200) -> dict[str, float]:
    """CPU milliseconds a block of all that comes before its pixels, over ``count`` neighbours, with what comes once.

    The pixels are zeros that cost nothing, and the headers of files are not read.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        write_plan(*make_plan(recipe(Path(folder), items, blocks), [make_items(items)]), out)
        made = read_plan(out)
        predictor = predictor_of(made)
        with no_pixels():
            middle = len(made.blocks) // 2
            clock = _Clock()
            reader = BlockReader(out, made, predictor)
            reader.read(made.blocks[middle])
            once, each = clock.lap(), []
            for planned in made.blocks[middle + 1 : middle + 1 + count]:
                reader.read(planned)
                each.append(clock.lap())
        return {"first, s": once, "each, ms": 1000 * float(np.mean(each)), "peak, MB": _peak()}


@contextmanager
def no_pixels() -> Iterator[None]:
    """Blocks are read as ever, but their pixels are zeros that cost nothing, and no header of a file is read."""

    def nothing(plan: Any, threads: int) -> tuple[np.ndarray, np.ndarray]:
        shape = plan.geobox.shape
        return np.zeros((len(plan.numbers.scale), *shape), plan.numbers.dtype), np.zeros(shape, np.uint16)

    with (
        mock.patch("geoml.cube.load.MosaicPlan.read", nothing),
        mock.patch("geoml.engine.run.blocks.check_projection"),
        mock.patch("geoml.engine.run.blocks.check_offset"),
    ):
        yield


class _Clock:
    """CPU seconds of this process since the last lap."""

    def __init__(self) -> None:
        self.last = time.process_time()

    def lap(self) -> float:
        before, self.last = self.last, time.process_time()
        return self.last - before


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(what: str, items: int, blocks: int) -> dict[str, float]:
    """`plan` or `read_block` in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.growth_plan", "--one", what, str(items), str(blocks)]
    told = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    found: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Print the figures of each size, and the exponents between the first and the last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--blocks", type=int, nargs="+", default=[700, 7000])
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "ITEMS", "BLOCKS"))
    given = parser.parse_args(words)
    if given.one:
        what = {"plan": plan, "read_block": read_block}[given.one[0]]
        print(json.dumps(what(*map(int, given.one[1:]))))
        return
    sizes = list(zip(given.items, given.blocks, strict=True))
    for what in ("plan", "read_block"):
        rows = [alone(what, *size) for size in sizes]
        for size, row in zip(sizes, rows, strict=True):
            print(f"{what} {size[0]} items, {size[1]} blocks:", {k: round(v, 4) for k, v in row.items()})
        if len(rows) > 1:
            factor = math.log(sizes[-1][0] / sizes[0][0])
            print(
                "exponents:",
                {k: round(math.log(max(rows[-1][k], 1e-9) / max(v, 1e-9)) / factor, 2) for k, v in rows[0].items()},
            )


if __name__ == "__main__":
    main()
