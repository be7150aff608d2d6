"""Measurements on the region before its blocks are run, since they must be the same in all: what embeddings are
stored by, and how far things move.

Embeddings are of a sample. Its squares are those that a run is compared with its model on, see
`geoml.engine.run.domain`; of each only small windows are embedded, so that it costs about a sixteenth of a small region
and at most some seconds of a large one. An encoder that sees larger windows gets the squares whole.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from itertools import islice
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import pystac
from numpy.typing import NDArray

from geoml.engine.cards.encoder import EMBEDDING
from geoml.engine.contract import PixelOutput, input_of, output_of
from geoml.engine.pixels import Pixels
from geoml.engine.run.domain import SQUARES, sampled_squares
from geoml.engine.run.plan import STATE, Plan
from geoml.engine.run.sample import sample_key
from geoml.errors import DataError, NothingFound
from geoml.io.stores.remote import RunStore
from geoml.io.stores.store import read_small, write_json
from geoml.recipe import digest

log = logging.getLogger(__name__)

NAME = f"{STATE}/fitted.json"
WINDOW, APART = 4, 16
"""Pixels of a side of the windows, which lie on the plane so far apart."""
LEAST = 256
"""Pixels in windows; with fewer all of the squares are taken."""


@runtime_checkable
class FittedInput(Protocol):
    """An input that measures on the whole region what blocks read by.

    ``made`` of the card of a plan is what it measured there, once for all blocks.
    """

    def fitted(self, plan: Plan, items: Sequence[pystac.Item]) -> dict[str, Any]:
        """What ``made`` of the card says. ``items`` are those of the run. Raises what reading raises, NothingFound
        where the region has not what is needed."""
        ...


class FittedOutput(PixelOutput, Protocol):
    """The output of an encoder's maps, which stores embeddings by what they are on a sample of the region.

    ``made`` of the card of a plan is what it measured there, once for all blocks.
    """

    @staticmethod
    def fitted(vectors: NDArray[np.float32]) -> dict[str, Any]:
        """What ``made`` of the card says, of the (N, width) embeddings of a sample."""
        ...


def with_fitted(plan: Plan, items: Sequence[pystac.Item], store: RunStore) -> Plan:
    """The plan with what its input or output measures on the region, unless the run has it already; writes into the
    run.

    Raises NothingFound if no pixel of the sample has data, ModelError if the encoder's output is not finite, and
    what reading the package raises; see also `FittedInput.fitted`.
    """
    reads = input_of(plan.card, plan.recipe)
    if plan.card.task != EMBEDDING and not isinstance(reads, FittedInput):
        return plan
    key = sample_key(plan, items)
    store.pull(NAME)
    made = _known(store, key)
    if made is None:
        if isinstance(reads, FittedInput):
            made = reads.fitted(plan, items)
        else:
            made = cast(FittedOutput, output_of(plan.card, plan.recipe)).fitted(_embedded(plan, items))
        write_json(store.inside(NAME), {"key": key, "made": made})
        store.push(NAME)
    blocks = plan.blocks.with_hashes(lambda before: digest([before, made]))
    return plan.model_copy(update={"card": plan.card.model_copy(update={"made": made}), "blocks": blocks})


def _known(store: RunStore, key: str) -> dict[str, Any] | None:
    try:
        found = json.loads(read_small(store.local / NAME) or b"{}")
        made: dict[str, Any] | None = found["made"] if found["key"] == key else None
    except (ValueError, LookupError, TypeError, RecursionError, DataError):
        return None
    return made


def _embedded(plan: Plan, items: Sequence[pystac.Item]) -> NDArray[np.float32]:
    """(N, width) embeddings of pixels of the sample."""
    from geoml.engine.inference.embed import PixelEmbedder, series_of  # torch, which a run that has them does without
    from geoml.engine.packages import encoder

    reads = input_of(plan.card, plan.recipe)
    squares = [reads.together(dates) for dates in islice(sampled_squares(plan, items), SQUARES)]
    if not squares:
        raise NothingFound("coverage: no pixel of the sample of the region has data")
    embedder = PixelEmbedder(encoder.load(plan.model_path))
    if WINDOW % embedder.stride == 0:  # else an encoder that sees more at once would see little but gaps
        thin = [s.only(_in_windows(s)) for s in squares]
        if sum(int(s.valid.sum()) for s in thin) >= LEAST:
            squares = thin
    bands = tuple(b.name for b in plan.card.bands)
    found = []
    for square in squares:
        origin, valid = square.origin, square.valid
        for part, vectors in embedder.pieces(series_of(square, bands), (origin.y0, origin.x0)):
            found.append(vectors[:, valid[part.y0 : part.y1, part.x0 : part.x1]].T)
    sample = np.concatenate(found)
    log.info("%s: embedded %d pixels of the region before its blocks", plan.card.name, len(sample))
    return sample


def _in_windows(pixels: Pixels) -> NDArray[np.bool_]:
    w = pixels.origin
    rows, columns = (np.arange(a, b) % APART < WINDOW for a, b in ((w.y0, w.y1), (w.x0, w.x1)))
    return np.logical_and.outer(rows, columns)
