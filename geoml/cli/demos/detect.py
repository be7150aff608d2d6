"""Cars in an aerial photo, found by a shipped model, compared with boxes that people drew.

The photo shows a place that was not used in training. It has no georeference, so its place is invented: the sea off
Africa, on the equator at 3 degrees east. Its pixels, their size of about 0.11 m and the boxes are real.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.table import Table

from geoml import testing
from geoml.cli.common import out_console
from geoml.cli.demo import run_recipe
from geoml.nn.objects.box_scores import AT, PictureBoxes
from geoml.settings import shipped

MODEL = "kit-cars"
GSD = 0.11
CRS, ORIGIN = "EPSG:32631", (4_545_455 * GSD, 9_091 * GSD)
"""The made place: zone and upper left corner, on the pixel plane."""
RIGHT, WRONG, MISSED = "#00e5ff", "#ff1744", "#ffea00"
LINE = 16
"""Pixels of the line of text below the picture."""


@dataclass(frozen=True)
class FoundCars:
    """Boxes (n, 4) and (m, 4): top, left, bottom, right in pixels of the photo; the rows of both that match at `AT`."""

    found: NDArray[np.float64]
    labelled: NDArray[np.float64]
    right: NDArray[np.intp]
    seen: NDArray[np.intp]

    def sentence(self) -> str:
        """Counts of the three kinds of boxes."""
        labelled, seen, wrong = len(self.labelled), len(self.seen), len(self.found) - len(self.right)
        return f"{labelled} cars are labelled: {seen} found, {labelled - seen} missed; {wrong} boxes match none"


def run(out: Path) -> None:
    """OUT/given holds the photo at its made place, OUT/run is the run, OUT/cars.png both kinds of boxes."""
    run_recipe(make_recipe(out / "given"), out / "run")
    cars = compare_with_labels(out / "run")
    (row,) = pq.read_table(out / "run" / "summary.parquet").to_pylist()
    known = row["expected_low"] is not None
    table = Table("class", "reported", "expected", "95 % interval", "labelled", title="how many there are")
    expected = (f"{row['expected']:.1f}", f"{row['expected_low']} to {row['expected_high']}") if known else ("", "")
    table.add_row(row["name"], str(row["count"]), *expected, str(len(cars.labelled)))
    out_console.print(table)
    out_console.print(f"{cars.sentence()} (at an overlap of {AT:g})", highlight=False)
    out_console.print("photo: KIT AIS Data Set, (c) KIT, CC BY 3.0; some parked and half hidden cars have no label")
    picture(cars).save(out / "cars.png")
    out_console.print(f"Look at {(out / 'cars.png').resolve()}")


def given() -> Path:
    """The folder of the photo and its labels."""
    return shipped() / "demo" / "cars"


def make_recipe(folder: Path) -> Path:
    """Write the photo as a scene with a catalog to ``folder``; gives the file of the recipe that runs over it."""
    with Image.open(given() / "frame.jpg") as photo:
        data = np.moveaxis(np.asarray(photo), -1, 0)
    scene = testing.Scene(
        id="photo",
        data=data,
        bands=("red", "green", "blue"),
        crs=CRS,
        origin=ORIGIN,
        res=GSD,
        nodata=None,
        scale=1.0,
        unit="DN",
    )
    catalog = testing.write_catalog(folder / "photo", [scene], licence="CC-BY-3.0")
    query = {"catalog": str(catalog.absolute()), "bbox": list(scene.bbox()), "datetime": [scene.datetime[:10]]}
    recipe = {"model": MODEL, "query": query, "crs": "data", "block_size": 512}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder / "recipe.yaml"


def compare_with_labels(run: Path) -> FoundCars:
    """The boxes of a run against those that people drew."""
    table = geopandas.read_parquet(run / "features.parquet").to_crs(CRS).sort_values("score", ascending=False)
    west, south, east, north = table.bounds.to_numpy().T
    found = np.column_stack([ORIGIN[1] - north, west - ORIGIN[0], ORIGIN[1] - south, east - ORIGIN[0]]) / GSD
    with Image.open(given() / "frame.jpg") as photo:
        width, height = photo.size
    shares = np.loadtxt(given() / "labels.txt", usecols=(1, 2, 3, 4), ndmin=2)
    x, y, wide, high = (shares * [width, height, width, height]).T
    labelled = np.column_stack([y - high / 2, x - wide / 2, y + high / 2, x + wide / 2])
    boxes = PictureBoxes(table["score"].to_numpy(np.float64), found, labelled, np.zeros(len(labelled), bool))
    _, pairs = boxes.sure(0.0)
    return FoundCars(found, labelled, pairs.found, pairs.truth)


def picture(cars: FoundCars) -> Image.Image:
    """The photo with what was found, what matches no label and what was missed, and their counts below."""
    with Image.open(given() / "frame.jpg") as photo:
        page = Image.new("RGB", (photo.width, photo.height + LINE), "white")
        page.paste(photo)
    draw = ImageDraw.Draw(page)
    wrong = np.delete(cars.found, cars.right, axis=0)
    missed = np.delete(cars.labelled, cars.seen, axis=0)
    for boxes, color in ((cars.found[cars.right], RIGHT), (wrong, WRONG), (missed, MISSED)):
        for top, left, bottom, right in boxes.round().tolist():
            draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="black", width=4)
            draw.rectangle((left, top, right, bottom), outline=color, width=2)
    draw.rectangle((0, page.height - LINE, page.width, page.height), fill="white")
    colours = "blue: found, yellow: missed, red: match none"
    draw.text((4, page.height - LINE + 2), f"{cars.sentence()} ({colours})", fill="black")
    return page
