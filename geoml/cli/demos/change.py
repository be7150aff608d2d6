"""Change between a real and a synthetic date.

The pair is a real Landsat scene, and the same scene with known changes. The second date is synthetic, not observed:
real pixels of other classes are pasted over patches of the first, and the illumination differs. So the truth is exact,
and the task is easier than in reality.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
import yaml
from numpy.typing import NDArray
from rasterio.windows import from_bounds
from rich.table import Table

from geoml import testing
from geoml.cli.common import out_console
from geoml.cli.demo import run_recipe
from geoml.engine.packages import cards, package
from geoml.engine.packages.compare import compare
from geoml.io.cards.map_card import MapCard
from geoml.settings import shipped
from geoml.texts import percent

ITEM = "LC08_L1TP_224078_20200518_20200518_01_RT"
MODEL = "demo-itaipu"
BOUNDS = (732_075.0, -2_818_155.0, 748_095.0, -2_801_265.0)
"""West, south, east, north in metres of EPSG:32621."""
BANDS = ("blue", "green", "red")
GAIN, OFFSET, NOISE = 1.03, -0.002, 0.0005
"""The other light: reflectance of the second date is that of the first times the gain plus the offset, with noise."""


@dataclass(frozen=True)
class PastedPatch:
    """An ellipse around ``to`` (row, column) of the window gets the pixels around ``source``."""

    before: str
    after: str
    to: tuple[int, int]
    source: tuple[int, int]
    radius: tuple[int, int]

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        y, x = np.ogrid[: shape[0], : shape[1]]
        (row, column), (high, wide) = self.to, self.radius
        inside: NDArray[np.bool_] = ((y - row) / high) ** 2 + ((x - column) / wide) ** 2 <= 1
        return inside


PATCHES = (
    PastedPatch("tree", "crop", (165, 280), (170, 128), (16, 18)),
    PastedPatch("crop", "developed", (125, 235), (360, 165), (9, 14)),
    PastedPatch("tree", "water", (200, 370), (250, 450), (14, 14)),
    PastedPatch("crop", "tree", (150, 62), (165, 236), (9, 10)),
)


def run(out: Path) -> None:
    """OUT/given holds the pair that is made, its model and its truth; OUT/run is the run."""
    recipe, truth = make_pair(out / "given")
    run_recipe(recipe, out / "run")
    table = Table("change", "pixels", "found as changed", "found as such",
                  title="What was found of the changes in the second date, which is synthetic")  # fmt: skip
    for name, pixels, changed, right in compare_with_truth(out / "run", truth):
        table.add_row(name, str(pixels), percent(changed), percent(right))
    out_console.print(table)


def make_pair(folder: Path) -> tuple[Path, Path]:
    """Write catalog and model of the demo to ``folder``: the recipe file, and the truth (y, x) uint8 as a GeoTIFF.

    The truth holds the number of the patch, from 1; 0 is unchanged. The same bytes every time.
    """
    first = _scene()
    shape = first.data.shape[1:]
    data, truth = first.data.astype(np.float64) * first.scale + first.offset, np.zeros(shape, np.uint8)
    changed = data.copy()
    for number, patch in enumerate(PATCHES, 1):
        mask = patch.mask(shape)
        shift = patch.source[0] - patch.to[0], patch.source[1] - patch.to[1]
        rows, columns = np.nonzero(mask)
        changed[:, rows, columns] = data[:, rows + shift[0], columns + shift[1]]
        truth[mask] = number
    noise = np.random.default_rng(0).normal(0, NOISE, data.shape)
    stored = np.rint((changed * GAIN + OFFSET + noise - first.offset) / first.scale)
    later = replace(
        first, id="made", data=np.clip(stored, 1, 65_535).astype(np.uint16), datetime="2022-05-18T13:30:00Z"
    )
    catalog = testing.write_catalog(folder / "pair", [first, later], collection="synthetic-pair")
    model = compare(package.load(MODEL))
    package.save(model.module, model.card, folder / "model")
    west, south, east, north = first.bbox()
    recipe = {
        "model": str((folder / "model").absolute()),
        "query": {
            "catalog": str(catalog.absolute()),
            "bbox": [west, south, east, north],
            "datetime": ["2020", "2022"],
        },
        "crs": "data",
        "block_size": 512,
        "harmonise": "invariant",
        "min_area": 9000.0,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    testing.write_cog(folder / "truth.tif", truth[None], crs=first.crs, transform=first.transform)
    return folder / "recipe.yaml", folder / "truth.tif"


def _scene() -> testing.Scene:
    """The window of the real scene."""
    folder = shipped() / "demo" / ITEM
    item = json.loads((folder / "item.json").read_text(encoding="utf-8"))
    described = item["assets"][BANDS[0]]["bands"][0]
    layers = []
    for band in BANDS:
        with rasterio.open(folder / f"{band}.tif", driver="GTiff") as file:
            layers.append(file.read(1, window=from_bounds(*BOUNDS, file.transform)))
    return testing.Scene(
        id="real",
        data=np.stack(layers),
        bands=BANDS,
        crs=item["properties"]["proj:code"],
        origin=(BOUNDS[0], BOUNDS[3]),
        res=item["properties"]["gsd"],
        scale=described["raster:scale"],
        offset=described["raster:offset"],
        datetime="2020-05-18T13:30:00Z",
    )


def compare_with_truth(out: Path, truth: Path) -> list[tuple[str, int, float, float]]:
    """For each patch and for what did not change: name, pixels, share called changed, share called the right class."""
    with rasterio.open(truth, driver="GTiff") as file:
        patches, bounds = file.read(1), file.bounds
    classes = {c.value: c for c in cards.read(truth.parent / "model", MapCard).classes}
    (pixels,) = testing.read_map(out).values()
    mapped = pixels.part(pixels.plane.window(*bounds))[0]
    rows = []
    for number, patch in enumerate(PATCHES, 1):
        here = mapped[patches == number]
        right = [v for v, c in classes.items() if (c.before, c.after) == (patch.before, patch.after)]
        name = f"{patch.before} to {patch.after}"
        rows.append((name, here.size, float((here != 0).mean()), float(np.isin(here, right).mean())))
    rest = mapped[patches == 0]
    return [*rows, ("unchanged", rest.size, float((rest != 0).mean()), float((rest == 0).mean()))]
