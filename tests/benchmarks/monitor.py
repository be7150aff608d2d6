"""What a night of the monitor costs in a series of 10, 100 and 400 days of one tiny block: bytes and seconds.

python tests/benchmarks/monitor.py [DAYS …]
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from geoml import pipeline, testing
from geoml.engine.run.monitor import Scan
from geoml.errors import NothingFound
from geoml.io.stac import search as stac

FIRST = dt.date(2023, 1, 1)
SCENE = testing.Scene(id="item", data=testing.smooth((2, 256, 256), seed=5), bands=("red", "nir"))


class Series:
    """A catalog of one item a day, and the monitor over it."""

    def __init__(self, folder: Path) -> None:
        self.made, self.out = folder / "made", folder / "out"
        testing.write_catalog(self.made, [SCENE])
        testing.threshold_model(folder / "model", SCENE.bands, (0.2, 0.4))
        query = {"catalog": str(self.made / "catalog.json"), "datetime": [".."], "bbox": list(SCENE.bbox(inner=0.05))}
        self.recipe = {"model": str(folder / "model"), "query": query, "block_size": 256}

    def night(self, number: int) -> None:
        """A look at one day, which has one item that is new."""
        day, file = str(FIRST + dt.timedelta(days=number)), self.made / "item" / "item.json"
        item = json.loads(file.read_text())
        item["id"], item["properties"]["datetime"] = f"item-{number}", f"{day}T12:00:00Z"
        file.write_text(json.dumps(item))
        pipeline.monitor(self.recipe, self.out, lookback=0, until=day)

    def grow(self, first: int, last: int) -> None:
        """Days as they would be after as many nights: copies of the first day's run, put together at once."""
        source = self.out / "days" / str(FIRST)
        days = [str(FIRST + dt.timedelta(days=n)) for n in range(first, last)]
        (item,) = stac.read_items(source / "sources.parquet")
        for number, day in enumerate(days, first):
            run = self.out / "days" / day
            shutil.copytree(source, run)
            item.id, item.datetime = f"item-{number}", dt.datetime.fromisoformat(f"{day}T12:00:00+00:00")
            stac.write_items([item], run / "sources.parquet")
            plan = run / ".geoml" / "plan.json"
            plan.write_text(plan.read_text().replace('"item-0"', f'"{item.id}"'))
        found: Any = Scan(json.loads((self.out / ".geoml" / "series.json").read_text())["id"], days=days)
        with pipeline.locked(self.out):
            pipeline.gather(self.out, found)
        (self.out / ".geoml" / "looked.json").unlink(missing_ok=True)  # of these days no night has told

    def written(self, since: float) -> tuple[int, int]:
        """Bytes in the files of the series itself that were written since, and of the run of the new day."""
        files = [p for p in self.out.rglob("*") if p.is_file() and p.stat().st_mtime >= since]
        run = sum(p.stat().st_size for p in files if p.is_relative_to(self.out / "days"))
        return sum(p.stat().st_size for p in files) - run, run


def main(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        series = Series(Path(folder))
        series.night(0)
        print("| days | series: bytes written | run of the day | night | with nothing new |\n|---|---|---|---|---|")
        held = 1
        for size in sizes:
            series.grow(held, size)
            time.sleep(0.1)
            since, start = time.time(), time.perf_counter()
            series.night(size)
            night, (bytes_, run) = time.perf_counter() - start, series.written(since)
            start = time.perf_counter()
            try:
                series.night(size)
            except NothingFound:
                print(
                    f"| {size} | {bytes_:,} | {run:,} | {night:.2f} s | {time.perf_counter() - start:.2f} s |",
                    flush=True,
                )
            held = size + 1


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [10, 100, 400])
