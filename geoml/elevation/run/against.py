"""What a run is compared with: check points, another model of the heights, and ground that it did not see."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from rasterio.merge import merge
from rasterio.windows import Window

from geoml.elevation.accuracy.assessed import HEAD, assessed, row
from geoml.elevation.accuracy.check_points import read_check_points
from geoml.elevation.accuracy.compared import compared
from geoml.elevation.accuracy.left_out import EVERY, SIDE, left_out
from geoml.elevation.accuracy.sampled import sampled
from geoml.elevation.recipe import ElevationRecipe
from geoml.engine.run.plan import STATE, Plan
from geoml.errors import InputError
from geoml.inputs.points import Input, sources_of, squares_of
from geoml.io.cards.elevation import HeightTerms
from geoml.io.dem import heights_crs, heights_of, opened, same_heights, vertical_part
from geoml.io.local_files import local_files
from geoml.io.stac.item_table import item_table
from geoml.io.stores.remote import RunStore
from geoml.io.stores.store import within
from geoml.recipe import parse

RASTERS: Final = (".tif", ".tiff")


def check_first(asked: ElevationRecipe, crs: str, vertical: str | None) -> None:
    """Raise what `scored` would of the check file, before a block of the run in ``crs`` is done."""
    if asked.check_points is None:
        return
    if is_raster(asked.check_points):
        check_datum(Path(asked.check_points), crs, vertical)
    else:
        read_check_points(asked.check_points, crs, vertical, asked.check_crs)


def is_raster(place: str) -> bool:
    """Whether a check file is another model of the heights, by its name."""
    return Path(place).suffix.lower() in RASTERS


def scored(asked: ElevationRecipe, plan: Plan, store: RunStore) -> dict[str, Any]:
    """Contents of ``accuracy.json``. Raises what `read_check_points` and `compared` do, and what reading points
    does.
    """
    found: dict[str, Any] = {"unit": "m", "notes": [], "table": [list(HEAD)]}
    terms = parse(HeightTerms, dict(plan.card.made), "made")
    if asked.check_points is not None and is_raster(asked.check_points):
        found["dem"] = against_dem(Path(asked.check_points), plan, terms, store)
        found["notes"] = [told(Path(asked.check_points).name, found["dem"])]
    elif asked.check_points is not None:
        (zone,) = plan.zones
        points = read_check_points(asked.check_points, zone.crs, terms.vertical, asked.check_crs)
        place = zone.plane, plan.recipe.block_size, done(store), points.x, points.y
        found = assessed(points, sampled(store.local, *place, terms.layers))
    if asked.left_out and terms.kind == "points":
        found["left_out"] = without_some(plan, store)
        found["table"] += [
            row(f"1 in {EVERY} left out by chance", found["left_out"]["random"]),
            row(f"squares of {SIDE:g} m left out", found["left_out"]["squares"]),
        ]
    return found


def done(store: RunStore) -> list[str]:
    """Ids of the blocks that are done."""
    return sorted(path.stem for path in (store.local / "items").glob("*.json"))


def against_dem(dem: Path, plan: Plan, terms: HeightTerms, store: RunStore) -> dict[str, Any]:
    """The shift between a model of heights and the terrain of a run, or its surface where it has no terrain.

    Raises InputError if both say above what their heights are and it differs, and what `compared` does.
    """
    layer = "dtm" if "dtm" in terms.layers else "dsm"
    (zone,) = plan.zones
    check_datum(dem, zone.crs, terms.vertical)
    files = [within(store.local, f"cogs/{key}/{layer}.tif") for key in done(store)]
    with TemporaryDirectory(dir=store.local / STATE, prefix=".dem.") as folder, local_files():
        whole = Path(folder) / f"{layer}.tif"
        merge(files, dst_path=whole)
        return compared(dem, whole)


def check_datum(dem: Path, crs: str, vertical: str | None) -> None:
    """Raise InputError for heights above another datum than those of a run in ``crs``, and what reading them raises."""
    with opened(dem, "check_points") as file:
        heights_of(file, Window(0, 0, 1, 1))
        theirs = heights_crs(file)
    if theirs is None or vertical is None:
        return
    ours = vertical_part(crs, vertical)
    if not same_heights(theirs, ours):
        raise InputError(
            f"check_points: heights of {dem.name}: {theirs.name}; of the run: {ours.name}; expected one datum, see"
            " --datum"
        )


def told(name: str, found: dict[str, Any]) -> str:
    """In words."""
    return (
        f"{name}: {found['n']} cells compared; the run lies on it when moved by {found['east']:.2f} m east,"
        f" {found['north']:.2f} m north ({found['pixels']:.3f} pixels) and {found['up']:.2f} m up; NMAD"
        f" {found['nmad_before']:.2f} m before and {found['nmad_after']:.2f} m after"
    )


def without_some(plan: Plan, store: RunStore) -> dict[str, Any]:
    """Errors of the terrain of the block in the middle without some points of its ground, at these points."""
    blocks, ids = plan.by_id(), done(store)
    block = plan.block(blocks[ids[len(ids) // 2]])
    reads, table = Input(plan.card, plan.recipe), item_table(store.local / "sources.parquet")
    sources = sources_of(table.items(table.ids), squares_of(plan.recipe))
    cloud, ground = reads.classified(sources, block.plane, block.window)
    return {"block": block.id, **left_out(cloud, ground, block.plane, reads.options)}
