"""A sample of the whole region before its blocks are run: for differences of two dates, and for untrained models.

Whatever decides pixels must be the same for every block, however the region is cut (design rule 2), so it is measured
once for a run: on squares of one lattice of the plane that lie in the region, drawn by the hash of their place.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pystac
from numpy.typing import NDArray

from geoml import models
from geoml.cube.region import inside
from geoml.engine.contract import input_of, output_of
from geoml.engine.pixels import Pixels
from geoml.engine.run.plan import STATE, Plan, RegionSample, SelfChange, Zone, item_version
from geoml.engine.run.planned import load_planned
from geoml.errors import DataError, NothingFound
from geoml.grid.plane import Block
from geoml.grid.region import blocks_of, project
from geoml.io.stores.remote import RunStore
from geoml.io.stores.store import read_small, write_json
from geoml.recipe import digest

log = logging.getLogger(__name__)

SIDE = 512
"""Pixels of a square."""
SQUARES = 24
"""Squares that are read at most."""
PIXELS = 1_000_000
"""Pixels of the sample at most."""
CELLS = 4096
"""Places that are looked through at most; in a larger region they lie further apart."""

NAME = f"{STATE}/sample.json"
MODEL = f"{STATE}/model"
"""The package of a calibrated model in the folder of a run."""


TOLD = {"key", "self_change", "warnings"}
"""Fields of a sample that change no pixel."""


def wanted(plan: Plan) -> bool:
    """True when the pixels of this plan hang on a sample."""
    return models.calibrated(plan.card.architecture) or input_of(plan.card, plan.recipe).fits


def with_sample(plan: Plan, items: Sequence[pystac.Item], store: RunStore) -> Plan:
    """The plan with what its sample says, which is measured unless the run has it already; writes into the run.

    Where dates are compared there always is one, for it also says how the model takes this ground. Raises DataError
    for dates that are further off each other than ``max_shift``, NothingFound if no pixel of the sample is known on
    all dates, and what reading raises.
    """
    if not wanted(plan) and not output_of(plan.card, plan.recipe).changes:
        return plan
    key = sample_key(plan, items)
    store.pull(NAME)
    if not wanted(plan):
        try:
            sample = _known(store, key) or _measure(plan, items, store, key)
        except (DataError, NothingFound) as err:  # of a run that does not hang on it
            log.warning("%s could not be tried on equal dates: %s", plan.card.name, err)
            return plan
        return plan.model_copy(update={"sample": sample})
    sample = _known(store, key) or _measure(plan, items, store, key)
    said = sample.model_dump(mode="json", exclude=TOLD)
    changes: dict[str, Any] = {
        "sample": sample,
        "blocks": plan.blocks.with_hashes(lambda before: digest([before, said])),
    }
    if sample.model:
        place = f"{store.url.rstrip('/')}/{MODEL}" if store.remote else str((store.local / MODEL).absolute())
        changes |= {"model_path": place, "card": plan.card.model_copy(update={"sha256": sample.model})}
    return plan.model_copy(update=changes)


def sample_key(plan: Plan, items: Sequence[pystac.Item]) -> str:
    """Says whether a sample that a run has is that of a plan: of its recipe, items and region."""
    versions = sorted((i.id, item_version(i)) for i in items)
    return digest([plan.hash, versions, [z.model_dump(mode="json", exclude={"pixels"}) for z in plan.zones]])


def _known(store: RunStore, key: str) -> RegionSample | None:
    try:
        found = RegionSample.model_validate(json.loads(read_small(store.local / NAME) or b"{}"))
    except (ValueError, RecursionError, DataError):
        return None
    return found if found.key == key else None


def _measure(plan: Plan, items: Sequence[pystac.Item], store: RunStore, key: str) -> RegionSample:
    squares = list(_squares(plan, items))
    if not squares:
        raise NothingFound(f"coverage: no pixel of the region is known on all {plan.card.dates} dates")
    found = input_of(plan.card, plan.recipe).fit(plan, squares)
    pixels = pixels_of(found.squares)
    model, equal, said = _tried(plan, pixels, found.squares, store)
    limits = np.percentile(pixels.reshape(-1, pixels.shape[-1]), (2, 98), axis=0) if wanted(plan) else np.empty((2, 0))
    sample = RegionSample(
        key=key,
        squares=len(squares),
        pixels=len(pixels),
        shifts=found.shifts,
        transforms=found.transforms,
        limits=tuple(zip(*limits.tolist(), strict=True)),
        model=model,
        self_change=equal,
        warnings=said,
    )
    write_json(store.inside(NAME), sample.model_dump(mode="json"))
    store.push(NAME)
    return sample


def _tried(
    plan: Plan, pixels: NDArray[np.float32], squares: Sequence[Sequence[Pixels]], store: RunStore
) -> tuple[str, SelfChange | None, tuple[str, ...]]:
    """The sha256 of the model as calibrated ("" where there is none), what it makes of equal dates, and warnings."""
    card, model, doubts = plan.card, "", []
    if models.calibrated(card.architecture):
        from geoml.engine.packages import package  # torch, which a run that has its sample does without
        from geoml.engine.packages.calibrate import calibrated, doubt_of

        loaded, flat = load_planned(plan.model_path, plan.card), pixels.reshape(len(pixels), -1)
        made = calibrated(loaded, flat)
        model = package.save(made.module, made.card, store.inside(f"{MODEL}/model.json").parent).sha256
        store.push(MODEL)
        doubts.append(doubt_of(made, flat))
    equal, words = input_of(card, plan.recipe).trial(plan, squares, pixels)
    doubts.append(words)
    return model, equal, tuple(f"{card.name}: {words}" for words in doubts if words)


def places(plan: Plan, side: int = SIDE) -> list[tuple[Zone, Block]]:
    """Squares of ``side`` pixels of the lattice that the region touches, in the order of the hash of their place.

    They do not depend on the size of the run's blocks. In a large region the lattice is thinned: every second, fourth,
    … square in y and x.
    """
    found: list[tuple[Zone, Block]] = []
    for zone in plan.zones:
        x0, y0, x1, y1 = project(zone.geometry, zone.crs).bounds
        across = math.sqrt((x1 - x0) * (y1 - y0) / CELLS) / (side * zone.res)
        thin = 2 ** max(0, math.ceil(math.log2(max(across, 1.0))))
        for cell in blocks_of(zone.geometry, zone.plane, side * thin):
            y, x = (v * thin + thin // 2 for v in (cell.iy, cell.ix))
            found.append((zone, Block(zone.plane, side, y, x)))
    return sorted(found, key=lambda place: hashlib.sha256(place[1].id.encode()).digest())


def _squares(plan: Plan, items: Sequence[pystac.Item]) -> Iterator[list[Pixels]]:
    """Squares with data on all dates inside the region, ``SQUARES`` at most."""
    count, reads, by_id = 0, input_of(plan.card, plan.recipe), {i.id: i for i in items}
    for zone, block in places(plan):
        if count == SQUARES:
            return
        asked = inside(zone.geometry, block.geobox)
        near = plan.items_near(zone, block.window, by_id)
        dates = reads.steps(plan, near, block.plane, block.window)
        valid = asked & _known_on_all(dates)
        if valid.any():
            count += 1
            yield [d.only(valid) for d in dates]


def _known_on_all(dates: Sequence[Pixels]) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = np.logical_and.reduce([d.valid for d in dates])
    return known


def pixels_of(squares: Sequence[Sequence[Pixels]]) -> NDArray[np.float32]:
    """(N, date, band) physical values of the pixels of all squares that every date knows, evenly thinned."""
    parts = []
    for dates in squares:
        valid = _known_on_all(dates)
        parts.append(np.stack([d.physical()[:, valid].T for d in dates], axis=1))
    values = np.concatenate(parts)
    return values[:: max(1, -(-len(values) // PIXELS))]
