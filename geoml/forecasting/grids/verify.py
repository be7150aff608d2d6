"""What came true of a forecast on a grid: its COGs against the steps of the cube that have come since."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
from geoml.forecasting.grids.seen import SeenCube
from geoml.forecasting.recipe import ForecastRunRecipe
from geoml.io.cards.forecast import ForecastTerms, spelled
from geoml.io.cards.map_card import MapCard
from geoml.io.cubes.cube import open_cube
from geoml.io.cubes.spec import load_cube_spec
from geoml.io.stores.store import read_small
from geoml.io.tables.verification import lead_row
from geoml.nn.forecast.fields import FieldScores
from geoml.recipe import parse

Floats = NDArray[np.float32]


def verified(run: Path, cube: str | None = None) -> list[dict[str, Any]]:
    """A row of each lead. ``cube`` is where its steps lie now; by default as the run was told.

    Raises InputError for a folder that is no run of a forecast, DataError for files that cannot be read.
    """
    asked = parse(ForecastRunRecipe, json.loads(read_small(run / STATE / ASKED) or b"{}"), str(run))
    card = cards.read_in(run / STATE / PACKAGE, MapCard)
    terms = parse(ForecastTerms, dict(card.made), f"{card.name}: made")
    source, reference = source_asked(asked, card), reference_asked(asked)
    rows = []
    with open_cube(Path(cube or str(asked.cube)), load_cube_spec(source.cube), source.factor) as opened:
        frames = CubeFrames(opened)
        now = frames.number(reference, between=terms.latest)
        plain = SeenCube(frames, terms.model_copy(update={"background": None}))
        known = {int(n): k for k, n in enumerate(frames.numbers)}
        for lead in terms.written:
            mine, stays = (FieldScores(q, (), (), 0.0) for q in (terms.quantiles or (0.5,), (0.5,)))
            step = known.get(now + lead // terms.step)
            for found, part in _blocks(run, f"lead_{spelled(lead)}.tif", opened.geobox.affine, opened.shape):
                if step is None:
                    continue
                truth = opened.read(step, *part)
                mine.update(found, truth)
                if terms.latest:
                    stays.update(plain.physical(plain.latest(now)[:1])[:, *part], truth)
                elif (last := known.get(now)) is not None:
                    stays.update(opened.read(last, *part)[None], truth)
            about = {
                "model": card.name, "variable": terms.variable, "unit": terms.unit, "reference_time": reference,
                "valid_time": reference + lead, "lead": spelled(lead),
            }  # fmt: skip
            rows.append(lead_row(about, mine.compute(), stays.compute()["mae"]))
    return rows


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
