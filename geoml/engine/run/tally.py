"""Outcome of blocks: which are done, which failed and why, and their cost.

Apart from the blocks themselves, since asking needs no network.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoml.engine.contract import output_of
from geoml.engine.run.plan import PART, STATE, Plan, PlannedBlock
from geoml.errors import DataError, GeomlError, TransientError
from geoml.io.stac.items import LARGEST_ITEM, files_are_there
from geoml.io.stores.remote import RunStore, run_store
from geoml.io.stores.store import read_small, write_json
from geoml.logs import about

log = logging.getLogger(__name__)

Progress = Callable[[str, int], None]
"""Called with a block id and the pixels finished since the last call; 0 when the block failed."""


@dataclass
class Tally:
    """What a batch of blocks cost and how it ended; adds up over batches."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    transient: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    pixels: int = 0
    backend: dict[str, Any] | None = None
    """What `geoml.engine.inference.choice` says of what ran the network; None if no block was to do."""


def is_done(
    out: str | Path | RunStore, plan: Plan, planned: PlannedBlock, size: Callable[[str], int | None] | None = None
) -> bool:
    """True when the block's item exists with the block's hash (design rule 8), and its files with their sizes.

    ``size`` is what `RunStore.blocks` said of this block, to look once for many.
    """
    key, store = plan.block(planned).id, run_store(out)
    size = size or store.blocks([key])
    return finished_item(store, key, planned, size, parts=bool(output_of(plan.card, plan.recipe).tables)) is not None


def finished_item(
    store: RunStore, key: str, planned: PlannedBlock, size: Callable[[str], int | None], *, parts: bool
) -> dict[str, Any] | None:
    """The item of a block as JSON where the block is done, see `is_done`; with ``parts`` its part has to be there."""
    path = store.local / "items" / f"{key}.json"
    try:
        item: dict[str, Any] = json.loads(read_small(path, LARGEST_ITEM) or b"{}")
        if item["properties"]["geoml:recipe_hash"] != planned.hash or not files_are_there(item, size):
            return None
    except (DataError, ValueError, LookupError, TypeError, AttributeError, RecursionError):  # none, or a damaged one
        return None
    return None if parts and size(PART.format(key)) is None else item


def note_failed(out: str | Path | RunStore, key: str, error: GeomlError, tally: Tally) -> None:
    """Put down why a block failed, in the run's folder and in ``tally``."""
    with about(block=key):
        log.warning("failed: %s", error)
    tally.failed[key] = str(error)
    if isinstance(error, TransientError):
        tally.transient.append(key)
    store, name = run_store(out), f"{STATE}/failed/{key}.json"
    write_json(store.inside(name), {"block": key, "error": type(error).__name__, "message": str(error)})
    store.push(name)
