"""Which head on which features: chosen by cross-validation over ground, and compared with simple methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.engine.learn.folds import folds, weights
from geoml.errors import needs
from geoml.nn import prediction_sets
from geoml.nn.linear_heads import HEADS, STRENGTHS, Head, softmax, temperature
from geoml.nn.metrics import MacroScores

REPEATS = 3
"""Cross-validations with other folds, of which mean and deviation are shown."""
DRAWS, TRIES = 10, 40
"""Of each number of labels in the learning curve; folds that leave a class too few labels are passed over."""
LABELS = (1, 5, 20)
CHOICE = 1000
"""Pixels that the choice is made on, about, where there are more; the head is fitted on all."""
CHANCE = 0.2
"""How likely it may be that the best head is ahead of the first by chance. With few labels it often is, and to take it
costs more than it brings (tests/benchmarks/fewlabels.py)."""
CLOSE = 0.04
"""Macro F1 that a head may lose by being shrunk more: ground in no fold is less like that in the folds than these are
like each other, and to take the best strength lost up to 0.02 there (tests/benchmarks/fewlabels.py)."""
TREES = 100
TREE_NAME = "random forest"
FOREST, COMMONEST = f"bands, {TREE_NAME}", "commonest class"
"""Rows of the simple methods."""
STEPS = 1000

Floats = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Standard:
    """Mean and deviation of the features of a part, by the region's sample: no label is needed for them."""

    center: Floats
    spread: Floats

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> Standard:
        spread = values.std(axis=0, dtype=np.float64)
        return cls(values.mean(axis=0, dtype=np.float64), np.where(spread > 1e-9, spread, 1.0))


@dataclass(frozen=True, eq=False)
class Learnt:
    """Labelled pixels as heads see them: ``parts`` standardised features by name, ``y`` (n,) class, ``place`` (n,) the
    label that it belongs to, ``ground`` (n,) what is held out together."""

    parts: Mapping[str, Floats]
    y: Index
    place: Index
    ground: Index
    classes: int

    def x(self, names: Sequence[str]) -> Floats:
        """(n, feature) of some parts, each with the same share of the squared distances."""
        first = self.parts[names[0]].shape[1]
        return np.concatenate([self.parts[n] * share(first, self.parts[n].shape[1]) for n in names], axis=1)

    def take(self, rows: NDArray[Any]) -> Learnt:
        parts = {n: v[rows] for n, v in self.parts.items()}
        return Learnt(parts, self.y[rows], self.place[rows], self.ground[rows], self.classes)

    @cached_property
    def by_place(self) -> tuple[Index, Index, Index]:
        """Number, class and ground of every place, in the order of their numbers."""
        place, first = np.unique(self.place, return_index=True)
        return place, self.y[first], self.ground[first]

    def fold_of(self, most: int, seed: int) -> Index:
        """(n,) fold of each pixel."""
        place, label, ground = self.by_place
        return folds(label, ground, most, seed)[np.searchsorted(place, self.place)]

    def thinned(self, most: int) -> Learnt:
        """About ``most`` pixels: evenly thinned in every place, one of each at least; where there are more places than
        that, as many of each class as there may be, from as many pieces of ground as they lie on."""
        if len(self.y) <= most:
            return self
        place, label, ground = self.by_place
        if len(place) > most:
            turn = _turns(label, ground)
            quota = max(2, most // self.classes)
            return self.take(np.isin(self.place, place[turn < quota])).thinned(max(most, quota * self.classes))
        order = np.argsort(self.place, kind="stable")
        _, start, count = np.unique(self.place[order], return_index=True, return_counts=True)
        keep = max(1, most // len(count))
        rows = np.concatenate([
            order[s : s + n][np.unique(np.linspace(0, n - 1, min(keep, n)).astype(int))]
            for s, n in zip(start, count, strict=True)
        ])  # fmt: skip
        return self.take(np.sort(rows))


def _turns(label: Index, ground: Index) -> Index:
    """(place,) its turn among those of its class, of which each piece of ground has one before any has two."""
    _, piece = np.unique(ground, return_inverse=True)
    pieces, every = int(piece.max()) + 1, np.arange(len(label))
    return _rank(label, _rank(label * pieces + piece, every) * pieces + piece)


def _rank(group: Index, by: Index) -> Index:
    """(n,) place of each in its group, in the order of ``by``."""
    order = np.lexsort((by, group))
    new = np.r_[True, np.diff(group[order]) > 0]
    every, out = np.arange(len(group)), np.empty(len(group), np.int64)
    out[order] = every - np.maximum.accumulate(np.where(new, every, 0))
    return out


def share(first: int, width: int) -> float:
    """What a part of ``width`` features is multiplied by beside one of ``first``."""
    return float(np.sqrt(first / width))


@dataclass(frozen=True)
class HeadCandidate:
    """A head with its strength on the features of some parts."""

    parts: tuple[str, ...]
    head: str
    strength: float

    @property
    def name(self) -> str:
        return f"{' + '.join(self.parts)}, {self.head}"

    def fit(self, given: Learnt) -> Head:
        """On labelled pixels."""
        return HEADS[self.head](
            given.x(self.parts), given.y, weights(given.y, given.place), given.classes, self.strength
        )

    def logits(self, given: Learnt, asked: Learnt) -> Floats:
        """(n, class) of the pixels that are asked, learnt from those that are given."""
        return self.fit(given).logits(asked.x(self.parts))


def macro_f1(truth: Index, said: Index, classes: int) -> float:
    """The mean F1 of the classes that are there."""
    hit = np.bincount(truth[truth == said], minlength=classes)
    both = np.bincount(truth, minlength=classes) + np.bincount(said, minlength=classes)
    there = np.bincount(truth, minlength=classes) > 0
    return float((2 * hit[there] / np.maximum(both[there], 1)).mean())


def held_out(say: Callable[[Learnt, Learnt], NDArray[Any]], given: Learnt, fold: Index) -> NDArray[Any]:
    """What ``say(given, asked)`` says of every pixel, learnt from the other folds."""
    parts = [(np.flatnonzero(fold == f), np.flatnonzero(fold != f)) for f in np.unique(fold)]
    answers = [say(given.take(others), given.take(mine)) for mine, others in parts]
    out = np.empty((len(fold), *answers[0].shape[1:]), answers[0].dtype)
    for (mine, _), answer in zip(parts, answers, strict=True):
        out[mine] = answer
    return out


def forest(parts: Sequence[str], seed: int) -> Callable[[Learnt, Learnt], Index]:
    """What a random forest says (Breiman 2001), the simple method that is hard to beat."""

    def say(given: Learnt, asked: Learnt) -> Index:
        with needs("train", "learn"):
            from sklearn.ensemble import RandomForestClassifier  # a second to import, which a map does without

        trees = RandomForestClassifier(TREES, random_state=seed)
        trees.fit(given.x(parts), given.y, weights(given.y, given.place))
        found: Index = trees.predict(asked.x(parts)).astype(np.int64)
        return found

    return say


def commonest(given: Learnt, asked: Learnt) -> Index:
    """The class with the most pixels, everywhere: scores count pixels."""
    return np.full(len(asked.y), np.bincount(given.y).argmax())


def candidates(parts: Sequence[str], heads: Sequence[str]) -> list[HeadCandidate]:
    """All that is tried: heads and features in the order of preference, the strongest of each first."""
    sets = [("embedding", "bands"), ("embedding",), ("bands",)] if "embedding" in parts else [("bands",)]
    return [HeadCandidate(p, h, s) for p in sets for h in heads for s in STRENGTHS[h]]


@dataclass(frozen=True, eq=False)
class Choice:
    """``chosen``, the best of another family of features as ``other`` (None without one), and the table of all rows:
    name -> macro F1 of each repeat."""

    chosen: HeadCandidate
    other: HeadCandidate | None
    rows: Mapping[str, Sequence[float]]

    @property
    def why(self) -> str:
        """Why the row that is used is not the highest of the table; empty if it is."""
        used = self.chosen.name
        mean = {name: float(np.mean(v)) for name, v in self.rows.items()}
        top = max(mean, key=lambda name: (mean[name], name == used))
        head = max((n for n in mean if n.split(", ")[-1] in HEADS), key=lambda name: (mean[name], name == used))
        said = [f"{head} is ahead of {used} by no more than chance could explain"] if head != used else []
        said += [f"{top} is for comparison only"] if top != head else []
        return f"Why the highest row is not used: {'; '.join(said)}." if said else ""


def surely_ahead(ahead: Floats, repeats: int, tried: int) -> bool:
    """Whether (n,) differences on held-out folds of repeated cross-validation are above 0 by more than chance.

    The corrected resampled t-test of Nadeau and Bengio 2003, https://doi.org/10.1023/A:1024068626366, which knows that
    folds share what they learn from, at `CHANCE` over the number of heads that were ``tried`` (Bonferroni).
    """
    from scipy.stats import t

    folds_of = len(ahead) / repeats
    error = ahead.std(ddof=1) * np.sqrt(1 / len(ahead) + 1 / (folds_of - 1))
    return bool(ahead.mean() > max(error * t.ppf(1 - CHANCE / tried, len(ahead) - 1), 1e-9))


def choose(given: Learnt, heads: Sequence[str], most: int, seed: int, *, simple: bool = True) -> Choice:
    """By macro F1 over repeated cross-validation: each head at the largest strength that is `CLOSE` to its best, and
    the first of them unless another is surely ahead.

    Forests and the most common class are never chosen and stand in the table (``simple``).
    """
    few = given.thinned(CHOICE)
    cuts = [few.fold_of(most, seed + n) for n in range(REPEATS)]
    tried = candidates(tuple(few.parts), heads)

    by_fold: dict[HeadCandidate, Floats] = {}

    def worth(say: Callable[[Learnt, Learnt], NDArray[Any]], of: HeadCandidate | None = None) -> list[float]:
        """Macro F1 of each repeat, and of each of its folds for a candidate."""
        out, inside = [], []
        for fold in cuts:
            found = held_out(say, few, fold)
            said = found.argmax(1) if found.ndim > 1 else found
            out.append(macro_f1(few.y, said, few.classes))
            inside += [macro_f1(few.y[fold == f], said[fold == f], few.classes) for f in np.unique(fold)]
        if of is not None:
            by_fold[of] = np.array(inside)
        return out

    scores = {c: worth(c.logits, c) for c in tried}
    mean = {c: float(np.mean(v)) for c, v in scores.items()}

    def shrunk(name: str) -> HeadCandidate:
        strengths = [c for c in tried if c.name == name]
        return next(c for c in strengths if mean[c] >= max(mean[s] for s in strengths) - CLOSE)

    heads_of = [shrunk(name) for name in dict.fromkeys(c.name for c in tried)]

    def best(among: Sequence[HeadCandidate]) -> HeadCandidate:
        first, ahead = among[0], max(among, key=mean.__getitem__)
        return ahead if surely_ahead(by_fold[ahead] - by_fold[first], REPEATS, len(among)) else first

    chosen = best(heads_of)
    apart = [c for c in heads_of if c.parts == (("bands",) if "embedding" in chosen.parts else ("embedding",))]
    rows: dict[str, Sequence[float]] = {c.name: scores[c] for c in heads_of}
    for part in few.parts if simple else ():
        rows[f"{part}, {TREE_NAME}"] = worth(forest((part,), seed))
    rows[COMMONEST] = worth(commonest)
    return Choice(chosen, best(apart) if apart else None, rows)


@dataclass(frozen=True, eq=False)
class Worth:
    """What held-out ground says of a candidate: ``temperature`` of its logits, ``limit`` of prediction sets (None for
    too few places), and scores as plain JSON values."""

    temperature: float
    limit: float | None
    scores: dict[str, Any]


def judged(candidate: HeadCandidate, given: Learnt, fold: Index, level: float) -> Worth:
    """Temperature and limit by all folds; what is said of them by each fold with those of the others."""
    logits = held_out(candidate.logits, given, fold)
    weight = weights(given.y, given.place)
    rows = np.arange(len(given.y))
    probability = np.empty_like(logits)
    inside = np.zeros(logits.shape, np.bool_)
    covered: list[bool] = []
    for f in np.unique(fold):
        mine, others = fold == f, fold != f
        t = temperature(logits[others], given.y[others], weight[others])
        probability[mine] = softmax(logits[mine] / t)
        true = softmax(logits[others] / t)[rows[: others.sum()], given.y[others]]
        if (limit := prediction_sets.threshold(true, given.place[others], level)) is not None:
            inside[mine] = prediction_sets.sets(probability[mine], limit)
            covered.append(True)
    counted = MacroScores(given.classes, STEPS)
    sure = np.round(probability.max(1) * STEPS).astype(np.int64)
    counted.update(probability.argmax(1), sure, given.y)
    found = counted.compute()
    t = temperature(logits, given.y, weight)
    limit = prediction_sets.threshold(softmax(logits / t)[rows, given.y], given.place, level)
    places = len(np.unique(given.place))
    about: dict[str, Any] = {"level": level, "places": places, "least": prediction_sets.least(level), "limit": limit}
    if limit is not None and len(covered) == len(np.unique(fold)):
        voice = 1 / np.bincount(np.searchsorted(np.unique(given.place), given.place))
        each = voice[np.searchsorted(np.unique(given.place), given.place)]
        about |= {
            "coverage": float((each * inside[rows, given.y]).sum() / each.sum()),
            "size": float((each * inside.sum(1)).sum() / each.sum()),
        }
    return Worth(t, limit, {**found, "temperature": t, "sets": about})


def curve(candidate: HeadCandidate, given: Learnt, most: int, seed: int) -> list[dict[str, Any]]:
    """The learning curve: macro F1 on a held-out fold by labels a class, whole places drawn, the same for every row."""
    few = given.thinned(CHOICE)
    methods: dict[str, Callable[[Learnt, Learnt], NDArray[Any]]] = {candidate.name: candidate.logits}
    methods |= {FOREST: forest(("bands",), seed), COMMONEST: commonest}
    out = []
    for wanted in (*LABELS, None):
        scores: dict[str, list[float]] = {name: [] for name in methods}
        for draw in range(TRIES):
            fold = few.fold_of(most, seed + draw)
            random = np.random.default_rng([seed, draw])
            rows = _drawn(few, np.flatnonzero(fold != draw % (fold.max() + 1)), wanted, random)
            if rows is None:  # another fold may leave enough of each class
                continue
            test = few.take(np.flatnonzero(fold == draw % (fold.max() + 1)))
            for name, say in methods.items():
                found = say(few.take(rows), test)
                said = found.argmax(1) if found.ndim > 1 else found
                scores[name].append(macro_f1(test.y, said, few.classes))
            if len(scores[COMMONEST]) == DRAWS:
                out.append({"labels": wanted or "all", "draws": DRAWS, "macro_f1": table(scores)})
                break
    return out


def table(scores: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Rows in their order: a name with mean and deviation."""
    return [{"name": n, "mean": float(np.mean(v)), "deviation": float(np.std(v))} for n, v in scores.items()]


def _drawn(given: Learnt, rows: Index, wanted: int | None, random: np.random.Generator) -> Index | None:
    """The pixels of so many places of each class among rows; None if a class has fewer."""
    if wanted is None:
        return rows
    chosen: list[Index] = []
    for k in range(given.classes):
        places = np.unique(given.place[rows[given.y[rows] == k]])
        if len(places) < wanted:
            return None
        chosen.append(random.permutation(places)[:wanted])
    return rows[np.isin(given.place[rows], np.concatenate(chosen))]
