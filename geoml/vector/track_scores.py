"""How well ids hold: HOTA, MOTA and IDF1 of detections with ids against true ones.

HOTA, DetA, AssA: Luiten et al. 2020 (https://arxiv.org/abs/2009.07736), means over localisation thresholds from 0.05
to 0.95. MOTA and switches: Bernardin and Stiefelhagen 2008 (https://doi.org/10.1155/2008/246309). IDF1: Ristani et al.
2016 (https://arxiv.org/abs/1609.01775). The last two at an overlap of one half. Equal to TrackEval 1.3.0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from geoml.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

THRESHOLDS = np.arange(0.05, 0.99, 0.05)
HALF = 0.5
_TINY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, eq=False)
class ScoredFrame:
    """One frame: ids of the ``true`` objects (g,), of the ``found`` ones (t,), and how alike each two are, (g, t) 0..1,
    such as the intersection over union of their boxes."""

    true: Ints
    found: Ints
    alike: Floats


@dataclass(frozen=True)
class TrackScores:
    """Shares from 0 to 1, but for ``mota``, which may be below 0; ``switches`` counts."""

    hota: float
    deta: float
    assa: float
    mota: float
    idf1: float
    switches: int


def overlaps(a: Floats, b: Floats) -> Floats:
    """(n, m) intersection over union of boxes (n, 4) and (m, 4): left, top, width, height."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    both = np.clip(high - low, 0, None).prod(-1)
    either = a[:, 2:].prod(1)[:, None] + b[:, 2:].prod(1)[None] - both
    share: Floats = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return share


def track_scores(moments: Iterable[ScoredFrame]) -> TrackScores:
    """The scores of a sequence, its frames in their order; 0 where nothing is true or nothing was found.

    Memory is that of all pairs that are alike at all. Raises InputError for an id twice in a frame, or shapes that do
    not fit.
    """
    frames = [_checked(moment) for moment in moments]
    true, true_ids = _numbered([f.true for f in frames])
    found, found_ids = _numbered([f.found for f in frames])
    alike = [f.alike for f in frames]
    if not true_ids.size or not found_ids.size:
        return TrackScores(0.0, 0.0, 0.0, 0.0, 0.0, 0)
    hota, deta, assa = _hota(true, found, alike, true_ids, found_ids)
    mota, switches = _mota(true, found, alike, len(true_ids))
    return TrackScores(hota, deta, assa, mota, _idf1(true, found, alike, true_ids, found_ids), switches)


def _checked(moment: ScoredFrame) -> ScoredFrame:
    if moment.alike.shape != (len(moment.true), len(moment.found)):
        raise InputError(f"alike: {moment.alike.shape}; expected {(len(moment.true), len(moment.found))}")
    for ids in (moment.true, moment.found):
        if len(np.unique(ids)) != len(ids):
            raise InputError("ids: one appears twice in a frame")
    return moment


def _numbered(ids: list[Ints]) -> tuple[list[Ints], Ints]:
    """The ids of frames as numbers from 0, and how often each is there."""
    sizes = np.cumsum([len(i) for i in ids])[:-1]
    _, numbers, counts = np.unique(np.concatenate([*ids, np.zeros(0, np.int64)]), return_inverse=True,
                                   return_counts=True)  # fmt: skip
    return np.split(numbers, sizes), counts


def _hota(true: list[Ints], found: list[Ints], alike: list[Floats], g: Ints, t: Ints) -> tuple[float, float, float]:
    shape = len(g), len(t)
    shares = [_shared(s) for s in alike]
    potential = _summed(true, found, shares, shape)
    # how much two ids agree over the sequence
    potential.data /= (g[potential.row] + t[potential.col]) - potential.data
    agree = potential.tocsr()
    one, other, how = _matched(true, found, alike, agree)
    hota, deta, assa = [], [], []
    for threshold in THRESHOLDS:
        good = how >= threshold - _TINY
        hits = int(good.sum())
        pairs = scipy.sparse.coo_array((np.ones(hits), (one[good], other[good])), shape)
        pairs.sum_duplicates()
        joint = pairs.data
        mean = float((joint * (joint / np.maximum(1, g[pairs.row] + t[pairs.col] - joint))).sum() / max(1, hits))
        assa.append(mean)
        deta.append(hits / max(1, int(g.sum() + t.sum()) - hits))
        hota.append(np.sqrt(mean * deta[-1]))
    return float(np.mean(hota)), float(np.mean(deta)), float(np.mean(assa))


def _shared(alike: Floats) -> Floats:
    """How alike two are, of what each is like any."""
    total = alike.sum(0)[None] + alike.sum(1)[:, None] - alike
    share: Floats = np.divide(alike, total, out=np.zeros_like(alike), where=total > _TINY)
    return share


def _summed(
    true: list[Ints], found: list[Ints], weight: list[Floats], shape: tuple[int, int]
) -> scipy.sparse.coo_array:
    """The sum over frames of a weight for each two ids."""
    rows, columns, values = [], [], []
    for one, other, w in zip(true, found, weight, strict=True):
        i, j = np.nonzero(w)
        rows.append(one[i])
        columns.append(other[j])
        values.append(w[i, j])
    total = scipy.sparse.coo_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape)
    total.sum_duplicates()
    return total


def _matched(
    true: list[Ints], found: list[Ints], alike: list[Floats], agree: scipy.sparse.csr_array
) -> tuple[Ints, Ints, Floats]:
    """In each frame who is whom, given how much ids agree over all of it: numbers of ids and how alike they are."""
    pairs: list[tuple[Ints, Ints, Floats]] = []
    for one, other, similar in zip(true, found, alike, strict=True):
        if len(one) and len(other):
            i, j = linear_sum_assignment(-agree[one[:, None], other[None]].toarray() * similar)
            pairs.append((one[i], other[j], similar[i, j]))
    if not pairs:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    first, second, third = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return first, second, third


def _mota(true: list[Ints], found: list[Ints], alike: list[Floats], ids: int) -> tuple[float, int]:
    """(MOTA, switches): who was matched in the frame before stays so where it can."""
    hits = false = switches = 0
    ever, before = np.full(ids, -1), np.full(ids, -1)
    for one, other, similar in zip(true, found, alike, strict=True):
        if not len(one) or not len(other):
            false += len(other)
            continue
        score = np.where(similar >= HALF - _TINY, 1000.0 * (before[one][:, None] == other[None]) + similar, 0)
        i, j = linear_sum_assignment(-score)
        good = score[i, j] > _TINY
        mine, theirs = one[i[good]], other[j[good]]
        switches += int(((ever[mine] >= 0) & (ever[mine] != theirs)).sum())
        ever[mine] = theirs
        before[:] = -1
        before[mine] = theirs
        hits += len(mine)
        false += len(other) - len(mine)
    return (hits - false - switches) / max(1, sum(map(len, true))), switches


def _idf1(true: list[Ints], found: list[Ints], alike: list[Floats], g: Ints, t: Ints) -> float:
    """The best one-to-one names of found ids for true ones, over all frames."""
    hits = _summed(true, found, [(s >= HALF).astype(np.float64) for s in alike], (len(g), len(t)))
    # ids that never met are settled apart: what is left is small
    _, part = scipy.sparse.csgraph.connected_components(
        scipy.sparse.coo_array((hits.data, (hits.row, hits.col + len(g))), (len(g) + len(t),) * 2), directed=False
    )
    order = np.argsort(part[hits.row], kind="stable")
    both = 0.0
    for rows in np.split(order, np.flatnonzero(np.diff(part[hits.row][order])) + 1):
        one, i = np.unique(hits.row[rows], return_inverse=True)
        other, j = np.unique(hits.col[rows], return_inverse=True)
        count = np.zeros((len(one), len(other)))
        count[i, j] = hits.data[rows]
        both += float(count[linear_sum_assignment(-count)].sum())
    return both / (0.5 * float(g.sum() + t.sum()))
