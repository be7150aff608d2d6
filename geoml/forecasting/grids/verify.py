"""Verification of a forecast on a grid: its COGs compared with the later steps of the cube."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoml.engine.packages import cards
from geoml.engine.run.plan import STATE
from geoml.errors import DataError
from geoml.forecasting.grids.frames import CubeFrames
from geoml.forecasting.grids.run import ASKED, PACKAGE, reference_asked, source_asked
from geoml.forecasting.grids.score import climatology_of, simple
from geoml.forecasting.grids.seen import SeenCube
from geoml.forecasting.recipe import ForecastRunRecipe
from geoml.io.cards.forecast import ForecastTerms, spelled
from geoml.io.cards.map_card import MapCard
from geoml.io.cubes.cube import Cube, open_cube
from geoml.io.cubes.spec import load_cube_spec
from geoml.io.stores.store import read_small
from geoml.io.tables.verification import lead_row
from geoml.nn.forecast.fields import FieldScores
from geoml.recipe import parse

Floats = NDArray[np.float32]

PIXELS = 4_000_000
"""Of a field, as many as all methods are held beside."""


def verified(run: Path, cube: str | None = None, opener: Callable[..., Cube] = open_cube) -> list[dict[str, Any]]:
    """A row of each lead. ``cube`` is where its steps lie now; by default as the run was told.

    Beside it stand the simple methods of `geoml.forecasting.grids.score.simple`, of fields of more than `PIXELS`
    persistence alone.

    Raises InputError for a folder that is not a run of a forecast, DataError for files that cannot be read.
    """
    asked = parse(ForecastRunRecipe, json.loads(read_small(run / STATE / ASKED) or b"{}"), str(run))
    card = cards.read_in(run / STATE / PACKAGE, MapCard)
    terms = parse(ForecastTerms, dict(card.made), f"{card.name}: made")
    source, reference = source_asked(asked, card), reference_asked(asked)
    rows = []
    with opener(Path(cube or str(asked.cube)), load_cube_spec(source.cube), source.factor) as opened:
        frames = CubeFrames(opened)
        now = frames.number(reference, between=terms.latest)
        known = {int(n): k for k, n in enumerate(frames.numbers)}
        due = [lead for lead in terms.written if now + lead // terms.step in known]
        others = _simple(run / STATE / PACKAGE, card, terms, frames, now) if due else {"persistence": None}
        for lead in terms.written:
            mine = FieldScores(terms.quantiles or (0.5,), (), (), 0.0)
            sums: dict[str, FieldScores] = {}
            for found, part in _blocks(run, f"lead_{spelled(lead)}.tif", opened.geobox.affine, opened.shape):
                if lead not in due:
                    continue
                truth = opened.read(known[now + lead // terms.step], *part)
                mine.update(found, truth)
                for name, fields in others.items():
                    if fields is not None:
                        field = fields[terms.leads.index(lead)][0][part][None]
                        sums.setdefault(name, FieldScores((0.5,))).update(field, truth)
            about = {
                "model": card.name, "variable": terms.variable, "unit": terms.unit, "reference_time": reference,
                "valid_time": reference + lead, "lead": spelled(lead),
            }  # fmt: skip
            maes = {name: sums[name].compute()["mae"] if name in sums else None for name in others}
            rows.append(lead_row(about, mine.compute(), maes))
    return rows


def _simple(
    package: Path, card: MapCard, terms: ForecastTerms, frames: CubeFrames, now: int
) -> dict[str, Sequence[Floats] | None]:
    """By method (lead)(1, y, x) in the unit; None if what it is made of is not known."""
    seen = SeenCube(frames, terms, card.bands[0].mean, card.bands[0].std)
    if frames.step(now) is None and not terms.latest:
        return {"persistence": None}
    if frames.shape[0] * frames.shape[1] > PIXELS and not terms.latest:
        return {"persistence": [seen.frame(now)[None]] * len(terms.leads)}
    seen.climatology = climatology_of(package, terms)
    methods = {name: method for name, method in simple(seen).items() if name != card.name or name == "persistence"}
    return {name: list(method(now)) for name, method in methods.items()}


def _blocks(run: Path, name: str, grid: Any, shape: tuple[int, int]) -> Iterator[tuple[Floats, tuple[slice, slice]]]:
    """(quantile, y, x) of each block where it lies on the grid, NaN where nothing is said, and the rows and columns."""
    for path in sorted(run.glob(f"cogs/*/{name}")):
        try:
            with rasterio.open(path) as file:
                known = file.read_masks(1) > 0
                values = file.read().astype(np.float32) * np.float32(file.scales[0])
                column, row = (round(v) for v in ~grid * (file.transform.c, file.transform.f))
        except rasterio.errors.RasterioError as err:
            raise DataError(f"{path}: cannot be read ({err})") from err
        y0, x0 = max(row, 0), max(column, 0)
        y1, x1 = (min(a + n, m) for a, n, m in zip((row, column), known.shape, shape, strict=True))
        if y0 >= y1 or x0 >= x1:
            continue
        here = slice(y0 - row, y1 - row), slice(x0 - column, x1 - column)
        yield np.where(known, values, np.float32(np.nan))[:, *here], (slice(y0, y1), slice(x0, x1))


def is_grid(run: Path) -> bool:
    """Whether the folder is that of a forecast on a grid."""
    return (run / STATE / ASKED).is_file()
