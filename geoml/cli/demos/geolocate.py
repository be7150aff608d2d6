"""Where twelve pictures from above were taken.

They are of a month that was not used in training, and their places were drawn at random.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
from rich.table import Table

from geoml.cli.common import out_console
from geoml.cli.demo import has_prefect, run_flow
from geoml.grid.sphere import distance
from geoml.settings import shipped


def run(out: Path) -> None:
    """Their answers against where they are."""
    table, page = out / "places.parquet", out / "places.html"
    if has_prefect():
        run_flow("geolocate", pictures(), "--model", "world-overhead", "--out", table, "--map", page)
    else:
        from geoml.geolocation.steps import geolocate

        geolocate([str(pictures())], model="world-overhead", out=table, map=page)
    shown = Table("picture", "status", "lat, lon", "disclosed", "truth", "off by", title="where they were taken")
    for row in answers_and_truth(table):
        shown.add_row(*row)
    out_console.print(shown)
    out_console.print(f"Look at {page.resolve()}")


def pictures() -> Path:
    """The folder of the pictures, whose ``truth.csv`` holds their places."""
    return shipped() / "demo" / "pictures"


def answers_and_truth(table: Path) -> list[tuple[str, ...]]:
    """Picture, status, answer, how finely it is told, truth and distance in km, as text, of a file of answers."""
    with (pictures() / "truth.csv").open(encoding="utf-8", newline="") as file:
        truth = {row["path"]: (float(row["lon"]), float(row["lat"])) for row in csv.DictReader(file)}
    found: list[tuple[str, ...]] = []
    for row in pq.read_table(table).to_pylist():
        place = truth[row["image_id"]]
        told = row["lon"] is not None
        off = f"{float(distance(row['lon'], row['lat'], *place)):.0f} km" if told else ""
        answer = _degrees(row["lon"], row["lat"]) if told else ""
        found.append((row["image_id"], row["status"], answer, row["disclosed_precision"], _degrees(*place), off))
    return found


def _degrees(lon: float, lat: float) -> str:
    return f"{lat:.1f}, {lon:.1f}"
