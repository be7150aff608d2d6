"""Whether a run is inside the domain of its model: measured at training, compared before the model runs.

The sample of a run is small squares of one lattice of the plane, drawn by the hash of their place, so that what it says
does not depend on how the region is cut. Every block is compared as well, pixel by pixel: `geoml.cube.domain.likeness`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pystac
from numpy.typing import NDArray
from pydantic import Field

from geoml.cube.domain import fit, likeness, magnitude
from geoml.cube.profile import refuse
from geoml.cube.region import inside
from geoml.engine.contract import input_of
from geoml.engine.pixels import Pixels
from geoml.engine.run.plan import STATE, Plan, Zone, item_version
from geoml.engine.run.sample import places
from geoml.errors import DataError, ModelError, NothingFound, TransientError
from geoml.grid.plane import Block, Window
from geoml.io.cards.domain import OUTSIDE, Domain, describe, verdict
from geoml.io.cards.map_card import MapCard
from geoml.io.cards.profile import Level
from geoml.io.stores.remote import RunStore
from geoml.io.stores.store import read_small, write_json
from geoml.recipe import Frozen, digest
from geoml.settings import settings
from geoml.texts import counted

if TYPE_CHECKING:
    from geoml.data.chips import Reader
    from geoml.data.prepare import Splits
    from geoml.data.recipe import RasterRecipe

log = logging.getLogger(__name__)

TRAIN, HELD_OUT = 300_000, 200_000
"""Pixels of a split that a record is measured on at most."""
SIDE = 128
"""Pixels of a square of a run's sample."""
SQUARES, TRIED = 8, 64
"""Squares with data that are compared, and squares that are read to find them, at most."""
WRONG = 50.0
"""Numbers that are so many times those of the training data, or such a part of them, are in another unit."""
NAME = f"{STATE}/domain.json"


class DomainCheck(Frozen):
    """What the sample of a run says. ``times``: magnitude of each band over that of the training data, largest date.

    ``wrong`` says why the bands are in another order or unit, ``doubt`` what speaks against them without being sure.
    """

    key: str = Field(description="of the plan that it was measured for")
    pixels: int
    unlike: int
    times: tuple[float, ...] = ()
    wrong: str = ""
    doubt: str = ""


def measured(splits: Splits, recipe: RasterRecipe, reader: Reader) -> Domain:
    """The record of all valid pixels of the train split, labelled or not, with a threshold by those of the val split.

    Raises NothingFound for a split without a valid pixel.
    """
    from geoml.engine.packages.calibrate import sample_pixels  # torch, which a run does not measure with

    bands = len(recipe.bands)
    train, held_out = (
        # all dates are one domain
        _finite(sample_pixels(splits[name], reader, most // recipe.dates).reshape(-1, bands), name)
        for name, most in (("train", TRAIN), ("val", HELD_OUT))
    )
    scenes = [p.scene for p in splits["train"]]
    return fit(
        train,
        held_out,
        months=tuple(sorted({m for s in scenes for m in s.months})),
        platforms=tuple(sorted({p for s in scenes for p in s.platforms})),
    )


def compare(plan: Plan, items: Sequence[pystac.Item], store: RunStore) -> None:
    """Hold a sample of the run against the records of its package, and say where it is unlike; writes into the run.

    Raises ModelError, as the recipe's ``out_of_domain`` asks: for ``warn`` where the numbers are in another unit or the
    bands in another order, for ``refuse`` also where they are unlike the training data, for ``allow`` never. A square
    that cannot be read is left out: its block will say why.
    """
    card = plan.card
    records = [r.model_dump(mode="json") for r in (card.domain, card.profile) if r is not None]
    if not records and card.level is None:
        return
    versions = sorted((i.id, item_version(i)) for i in items)
    zones = [z.model_dump(mode="json") for z in plan.zones]
    key = digest([plan.hash, versions, zones, *records])
    store.pull(NAME)
    found = _known(store, key)
    if found is None:
        found = _compared(plan, items, key)
        write_json(store.inside(NAME), found.model_dump(mode="json"))
        store.push(NAME)
    if not found.pixels:
        return
    allowed = plan.recipe.out_of_domain
    if found.wrong and allowed != "allow":
        raise ModelError(f"{card.name}: {found.wrong}; or --out-of-domain allow")
    for doubt in filter(None, (found.wrong, found.doubt, _other_level(card, items))):
        if allowed == "refuse":
            raise ModelError(f"{card.name}: {doubt}; expected images like them, or --out-of-domain warn")
        log.warning("%s: %s", card.name, doubt)
    if card.domain is None:
        return
    about = f"{card.name}: on a sample of the region, {describe(_share(found.unlike, found.pixels))}"
    wrong = wrong_unit(found.times, card)
    if wrong and allowed != "allow":
        raise ModelError(f"{card.name}: {wrong}")
    if verdict(found.unlike / found.pixels) == "inside":
        log.info("%s", about)
    elif allowed == "refuse":
        raise ModelError(f"{about}; expected images like them, or --out-of-domain warn")
    else:
        log.warning("%s", f"{about}; {wrong}" if wrong else about)


def of_pixels(unlike: int | None, known: int) -> dict[str, Any] | None:
    """Contents of ``run.json``: share of the valid pixels of all blocks, and the verdict. None if it is not known."""
    return None if unlike is None or not known else _share(unlike, known)


def _share(unlike: int, pixels: int) -> dict[str, Any]:
    return {"outside": round(unlike / pixels, 6), "verdict": verdict(unlike / pixels)}


def _known(store: RunStore, key: str) -> DomainCheck | None:
    try:
        found = DomainCheck.model_validate(json.loads(read_small(store.local / NAME) or b"{}"))
    except (ValueError, RecursionError, DataError):
        return None
    return found if found.key == key else None


def _other_level(card: MapCard, items: Sequence[pystac.Item]) -> str:
    """Which items are of another level than the model was trained on; "" where none says so."""
    levels = Counter(level for i in items if (level := level_of(i)))
    other = ", ".join(f"{count} of {level}" for level, count in sorted(levels.items()) if level != card.level)
    if card.level is None or not other:
        return ""
    return f"level: {other} among {counted(len(items), 'item')}; the model was trained on {card.level}"


def level_of(item: pystac.Item) -> Level | None:
    """The level of processing that an item, or the name of its collection, states: L1C or L2A; None for neither."""
    stated = (str(item.properties.get("processing:level", "")), str(item.collection_id or "").rpartition("-")[2])
    return next((level for text in stated for level in get_args(Level) if text.upper() == level), None)


def one_level(items: Sequence[pystac.Item]) -> Level | None:
    """The level that all items state; None if they state none, or not the same."""
    levels = {level_of(i) for i in items}
    return levels.pop() if len(levels) == 1 else None


def _compared(plan: Plan, items: Sequence[pystac.Item], key: str) -> DomainCheck:
    pixels = unlike = 0
    card = plan.card
    values: list[list[NDArray[np.float32]]] = [[] for _ in range(card.dates)]
    reads = input_of(card, plan.recipe)
    for dates in islice(sampled_squares(plan, items), SQUARES):
        both = reads.together(dates)
        pixels += int(both.valid.sum())
        if card.domain is not None:
            alike = likeness(card.domain, both.data, both.valid, both.scale, both.offset, both.looks)[both.valid]
            unlike += int((alike < OUTSIDE).sum())
        for known, date in zip(values, dates, strict=True):
            known.append(date.physical()[:, date.valid].T)
    looks = [np.concatenate(v) for v in values if any(map(len, v))]
    wrong, doubt = _order(plan, looks)
    return DomainCheck(
        key=key, pixels=pixels, unlike=unlike, times=_times(card.domain, looks), wrong=wrong, doubt=doubt
    )


def _times(domain: Domain | None, looks: Sequence[NDArray[np.float32]]) -> tuple[float, ...]:
    """Of each band the magnitude over that of the training data, of the date whose is furthest from it."""
    if domain is None:
        return ()
    usual = np.array(domain.magnitude)
    times = [magnitude(v) / np.where(usual > 0, usual, np.nan) for v in looks]
    worst = [max(band, key=lambda t: abs(np.log(max(t, 1e-12)))) for band in zip(*times, strict=True)]
    return tuple(float(f"{t:.4g}") if np.isfinite(t) else 1.0 for t in worst)


def _order(plan: Plan, looks: Sequence[NDArray[np.float32]]) -> tuple[str, str]:
    """Why the bands are in another order or unit than the model knows, and what speaks against them; "" for nothing."""
    profile = plan.card.profile
    if profile is None or not looks:
        return "", ""
    try:
        return "", refuse(profile, np.concatenate(looks), [b.name for b in plan.card.bands])
    except ModelError as err:
        return str(err), ""


def sampled_squares(plan: Plan, items: Sequence[pystac.Item]) -> Iterator[list[Pixels]]:
    """Squares inside the region with data, on all dates where the input needs every one."""
    tried, by_id = places(plan, SIDE)[:TRIED], {i.id: i for i in items}
    with ThreadPoolExecutor(settings().threads, "geoml-domain") as pool:
        for at in range(0, len(tried), SQUARES):
            for found in pool.map(lambda place: _square(plan, by_id, *place), tried[at : at + SQUARES]):
                if found is not None:
                    yield found


def _square(plan: Plan, items: Mapping[str, pystac.Item], zone: Zone, block: Block) -> list[Pixels] | None:
    """What the model would see of a square, valid in the region alone; None without such a pixel."""
    reads = input_of(plan.card, plan.recipe)
    try:
        near = plan.items_near(zone, block.window, items)
        dates = reads.steps(plan, near, block.plane, block.window)
    except (DataError, TransientError) as err:
        log.info("a square of the sample cannot be read: %s", err)
        return None
    valid = inside(zone.geometry, block.geobox) & reads.together(dates).valid
    if not valid.any():
        return None
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    w = block.window
    part = Window(w.y0 + rows[0], w.x0 + columns[0], w.y0 + rows[-1] + 1, w.x0 + columns[-1] + 1)
    return [d.only(valid).crop(part) for d in dates]


def wrong_unit(times: Sequence[float], card: MapCard) -> str:
    """Why the numbers are in another unit than those of the training data; empty if they may be in the same.

    Large ones: half of the bands are. Small ones: every band is, since water is dark in some.
    """
    if not times or not (np.median(times) >= WRONG or max(times) <= 1 / WRONG):
        return ""
    shown = ", ".join(f"{b.name} {t:.3g}" for b, t in zip(card.bands, times, strict=True))
    return (
        f"the values are in another unit or scaling than the training data; they are this many times as large: "
        f"{shown}; expected the same scaling (scale and offset of the bands), or --out-of-domain allow"
    )


def _finite(pixels: NDArray[np.float32], split: str) -> NDArray[np.float32]:
    known = pixels[np.isfinite(pixels).all(axis=1)]
    if not len(known):
        raise NothingFound(f"split: {split} holds no pixel with a finite value in every band")
    return known
