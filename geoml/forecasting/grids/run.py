"""Prepare a run over blocks that forecasts a grid: a catalog of the steps, a package, and the run's recipe.

Steps after the reference time are not opened. Both lie in the folder of the run, so that it can be repeated when the
service that gave the data has deleted them.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import shapely

from geoml.engine.packages import cards, package
from geoml.engine.run.plan import STATE
from geoml.errors import InputError, ModelError, NothingFound
from geoml.forecasting.grids.fit import TASK, metres_of, phase_of
from geoml.forecasting.grids.frames import CubeFrames, resolution_of, step_seconds
from geoml.forecasting.recipe import CubeSource, ForecastFrom, ForecastRunRecipe, check_trained, utc
from geoml.io.cards.forecast import ForecastTerms, period, spelled
from geoml.io.cards.map_card import Band, MapCard
from geoml.io.cubes.catalog import outline_of, write_catalog
from geoml.io.cubes.cube import Cube, open_cube
from geoml.io.cubes.spec import CubeSpec, load_cube_spec
from geoml.io.stac.step_times import steps_of
from geoml.io.stores.bucket import is_bucket
from geoml.io.stores.claim import claim
from geoml.io.stores.store import read_small, within, write_json
from geoml.recipe import PredictRecipe, differences, parse

ASKED = "forecast.json"
"""In the folder of the run's state: what was asked."""
PACKAGE = "forecast"
SIMPLE = ("persistence", "advection")
"""Models that need no package."""
LEAST, WIDEST = 64, 30.0
"""Pixels of a side of a block, and degrees."""
ROOM = 2**27
"""Values of a block, of all its leads and quantiles."""
HISTORY = 4
"""Steps that they see, of which advection takes its motion."""


Opener = Callable[[Path, CubeSpec, int, dt.datetime], Cube]
"""Of a cube: what it is of, how it is read, its factor, and when it has to be known."""


def prepared(asked: ForecastRunRecipe, out: str | Path, opener: Opener = open_cube) -> PredictRecipe:
    """The recipe of the run in ``out``, whose folder has its catalog and its package then.

    Raises InputError for a reference time in the future or between steps, a lead that the model does not have, a cube
    that does not fit it and a folder with the forecast of another recipe; NothingFound if nothing is known at the
    reference time; and what reading raises.
    """
    reference = reference_asked(asked)
    if asked.cube is None:
        raise InputError("cube: not given; expected a file or a folder")
    if is_bucket(out):
        raise InputError(f"out: {out} is a bucket; a forecast of a grid keeps its steps beside it, expected a folder")
    card = None
    if asked.model not in SIMPLE:
        check_trained(asked.model, cards.names(), SIMPLE)
        card = cards.read(asked.model, MapCard)
    source = source_asked(asked, card)
    folder = claim(out, STATE).local / STATE
    _check_same(asked, folder)
    with opener(Path(asked.cube), load_cube_spec(source.cube, "reads"), source.factor, reference) as cube:
        card, terms = untrained(asked, cube) if card is None else (card, _terms(card, cube))
        terms = terms.asking([period(text) for text in asked.leads])
        size = block_size(asked.block_size, cube, terms.values * len(terms.written))
        catalog = write_catalog(cube, _steps(cube, terms, reference), folder / "steps")
        region = _region(asked, cube, folder)
    made = terms.model_dump(mode="json", exclude_defaults=True)
    _write_package(asked.model, card.model_copy(update={"made": made}), folder / PACKAGE)
    write_json(within(folder, ASKED), asked.model_dump(mode="json"))
    query = {"catalog": str(catalog), "datetime": steps_of(terms, reference), **region}
    run = {"model": str(folder / PACKAGE), "crs": "data", "block_size": size, "query": query}
    return parse(PredictRecipe, run, "forecast")


def reference_asked(asked: ForecastRunRecipe) -> dt.datetime:
    """The reference time in UTC. Raises InputError for invalid text, and for one in the future."""
    found = utc(asked.reference_time, "reference-time")
    if found > dt.datetime.now(dt.UTC):
        raise InputError(f"reference-time: {found:%FT%TZ} is in the future; expected now or earlier")
    return found


def _check_same(asked: ForecastRunRecipe, folder: Path) -> None:
    """Raise InputError if blocks of another forecast are done."""
    before = read_small(folder / ASKED)
    if before is None or not any((folder.parent / "items").glob("*.json")):
        return
    if changes := differences(json.loads(before), asked, ("block_size",)):
        raise InputError(f"out: {folder.parent} contains a different forecast: {changes}; expected an empty folder")


def block_size(asked: int, cube: Cube, bands: int) -> int:
    """What is asked; no more than there is room for in memory with so many bands, and of degrees no more than lies on
    the globe, since what lies beyond has no place on a map."""
    box = cube.geobox
    widest = WIDEST if box.crs is not None and box.crs.geographic else math.inf
    while asked > LEAST and (asked**2 * bands > ROOM or asked * abs(box.affine.e) > widest):
        asked = max(LEAST, asked // 2)
    return asked


def source_asked(asked: ForecastFrom, card: MapCard | None) -> CubeSource:
    """How the cube is read: as the recipe of the package says, or as asked."""
    trained = {} if card is None else card.training.get("recipe", {}).get("source", {})
    reads = asked.reads or trained.get("cube")
    if reads is None:
        raise InputError(
            "reads: not given, so it is not known what the cube's numbers mean; expected a name in catalogs/cubes"
        )
    how = {"kind": "cube", "path": asked.cube, **{k: v for k, v in trained.items() if k != "path"}, "cube": reads}
    return parse(CubeSource, how, "forecast")


def _steps(cube: Cube, terms: ForecastTerms, reference: dt.datetime) -> list[int]:
    """Positions of the steps up to the reference time that are there. Raises NothingFound without the last one."""
    frames = CubeFrames(cube)
    last = frames.number(reference, between=terms.latest)
    wanted = range(last - terms.history + 1, last + 1)
    if terms.latest:
        if not (found := [step for n in wanted if (step := frames.step(n)) is not None]):
            raise NothingFound(
                f"reference-time: nothing is known in the {terms.history} steps up to {reference:%FT%TZ}"
            )
        return found
    if frames.step(last) is None:
        before = [n for n in frames.numbers if n < last]
        said = f"the latest before it is of {frames.time(int(before[-1])):%FT%TZ}" if before else "none is before it"
        raise NothingFound(f"reference-time: no step of {reference:%FT%TZ}; {said}")
    return [step for n in wanted if (step := frames.step(n)) is not None]


def _terms(card: MapCard, cube: Cube) -> ForecastTerms:
    """Of a package. Raises ModelError for one that is of other data than the cube."""
    if card.task != TASK:
        raise ModelError(f"model: {card.name} is for {card.task}; expected a forecast of a grid")
    terms = parse(ForecastTerms, dict(card.made), f"{card.name}: made")
    for name, mine, theirs in (
        ("variable", terms.variable, cube.variable),
        ("unit", terms.unit, cube.unit),
        ("step", terms.step.total_seconds(), step_seconds(cube)),
    ):
        if mine != theirs:
            raise ModelError(f"{name}: the cube has {theirs}; {card.name} was trained on {mine}")
    if abs(card.gsd - metres_of(cube)) > 1e-6 * card.gsd:
        raise ModelError(f"gsd: the cube has {metres_of(cube):g} m; {card.name} was trained on {card.gsd:g} m")
    return terms


def untrained(asked: ForecastRunRecipe, cube: Cube) -> tuple[MapCard, ForecastTerms]:
    """The card of a simple method, for what the cube holds."""
    advected = asked.model == "advection"
    if not asked.leads:
        raise InputError(f"leads: {asked.model} is for any; expected some, such as PT15M,PT30M")
    low, leads = cube.spec.plausible[0], sorted(map(period, set(asked.leads)))
    terms = parse(
        ForecastTerms,
        {
            "variable": cube.variable, "standard_name": cube.variable, "unit": cube.unit, "step": cube.spec.step,
            "history": HISTORY, "leads": [spelled(v) for v in leads], "advected": advected,
            "accumulated": cube.spec.time.label != "instant", "floor": 0.0 if low == 0 else None,
            "resolution": resolution_of(cube),
        },
        "forecast",
    )  # fmt: skip
    config = {"history": HISTORY, "leads": list(terms.numbers), "levels": [0.5], "guess": advected}
    card = MapCard(
        name=asked.model,
        description="Untrained: a single value, without an interval.",
        task=TASK,
        architecture=asked.model,
        config=config,
        bands=(Band(name=cube.variable, unit=cube.unit),),
        gsd=metres_of(cube),
        anchor=phase_of(cube),
        dates=terms.channels,
        chip_size=512,
        classes=(),
        channels=len(terms.leads),
        float32=True,
    )
    return card, terms


def _write_package(model: str, card: MapCard, folder: Path) -> None:
    """The package as this run asks for it: its own weights, and of its leads those that are written."""
    if (folder / cards.CARD).is_file():
        before = cards.read_in(folder, MapCard)
        if before.made == card.made and (model in SIMPLE or before.sha256 == card.sha256):
            return
    if model in SIMPLE:
        package.save(package.build(card), card, folder)
        return
    shutil.copytree(cards.find(model), folder, dirs_exist_ok=True)
    cards.write(card, folder)


def _region(asked: ForecastRunRecipe, cube: Cube, folder: Path) -> dict[str, object]:
    """What is asked, or all of the grid."""
    if asked.bbox is not None:
        return {"bbox": asked.bbox}
    if asked.region is not None:
        return {"region": asked.region}
    path = within(folder, "grid.geojson")
    shape = json.loads(shapely.to_geojson(outline_of(cube.geobox)))
    write_json(path, {"type": "Feature", "properties": {}, "geometry": shape})
    return {"region": str(path)}
