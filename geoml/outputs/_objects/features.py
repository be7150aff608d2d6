"""Objects of a run from those of its blocks: suppressed strip by strip, as if once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import shapely
from shapely.geometry.base import BaseGeometry

from geoml.engine.contract import FinishedRun
from geoml.engine.packages.score_scale import ScoreScale
from geoml.grid.plane import Plane
from geoml.io.tables.geoparquet import HELD, Extent, Spill, bounds_of, scratch, types_of, write_sorted
from geoml.io.tables.objects import SCHEMA, ObjectRows, Searched, box_areas, read_found, write_summary
from geoml.outputs._objects.summary import Summary
from geoml.outputs._objects.tables import FEATURES, SUMMARY
from geoml.vector.boxes import Boxes, Suppression, take, together


def kept(run: FinishedRun, overlap: float, searched: Searched) -> Iterator[tuple[Plane, Boxes]]:
    """What is kept of all blocks, as soon as that is certain: of two boxes that overlap by more than ``overlap`` the
    better one. Counts what was ``searched``.

    Blocks come row by row, so a row of them is a strip.
    """
    reach = run.plan.card.chip_size * max((1, *run.plan.recipe.pyramid))
    strips: dict[Plane, Suppression] = {}
    for (plane, _), row in groupby(run.parts(read_found), key=lambda part: (part[0].plane, part[0].iy)):
        found: list[Boxes] = []
        for block, part in row:
            found.append(part.boxes)
            searched.add(plane, part.searched, block.window.y0)
        strip = strips.setdefault(plane, Suppression(overlap, reach))
        yield plane, strip.add(together(found), block.window.y1)
    for plane, strip in strips.items():
        if strip.held is not None:
            yield plane, strip.end()


def write_tables(run: FinishedRun, overlap: float, score: float) -> None:
    """Write `FEATURES` and `SUMMARY` into the folder of the run. Raises DataError.

    Of what is kept, candidates below the threshold of their class (``score`` where the card has none) are counted for
    what they are worth and are not rows.
    """
    card, plan, path = run.plan.card, run.plan, run.out / FEATURES
    region: BaseGeometry = shapely.union_all([zone.geometry for zone in plan.zones])
    model_id = f"{card.name}/{card.version}/{card.sha256[:12]}"
    rows, scale, least = ObjectRows(card, model_id, run.sources, region), ScoreScale(card, score), plan.recipe.min_area
    summary, searched, extent = Summary(card, scale, plan.recipe.pyramid), Searched(), Extent()
    with scratch(path) as folder:
        found = Spill(folder / "found", SCHEMA, HELD)
        for plane, boxes in kept(run, overlap, searched):
            large = take(boxes, box_areas(plane, boxes) >= least) if least else boxes
            every = {**large, "confidence": scale.confidence(large)}
            reported = scale.reported(every)
            summary.add(every, reported)
            table = rows.made(plane, take(every, reported))
            found.add(table)
            extent.add(bounds_of(table), types_of(table))
        write_sorted(found.tables(), extent, SCHEMA, path, folder)
    write_summary(summary.table(searched, region, plan.pixels), run.out / SUMMARY)
