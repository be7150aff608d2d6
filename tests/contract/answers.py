"""Answers of known worth for every task, by what it makes: right ones, those of doing nothing, and some in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoml import testing
from geoml.engine.contract import pixel_output
from geoml.engine.inference.predict import stored
from geoml.engine.task import Scores, of_pixels
from geoml.geolocation.cards.locator import Calibrated
from geoml.geolocation.density.density import Density
from geoml.geolocation.training.place_scores import PlaceScores
from geoml.geolocation.training.recall import Recall, RecallScores
from geoml.grid import sphere
from geoml.nn.losses import LOSSES
from geoml.nn.support import Support
from geoml.tasks._classes import named

CLASSES = 4

Parts = Sequence[tuple[Any, ...]]
"""Of answers and truth, each what ``update`` of the task's scores takes."""


@dataclass(frozen=True)
class Answers:
    """``best`` is the key of perfect answers; ``whole`` are those of ``parts`` at once; ``shown`` is what `score` says
    of computed scores, as far as the task's table needs it."""

    scores: Callable[[], Scores]
    best: float
    perfect: Parts
    nothing: Parts
    parts: Parts
    whole: Parts
    shown: Callable[[Mapping[str, Any]], dict[str, Any]]


def answers(task: str, output: str) -> Answers:
    """Those of a task; of one that makes what no other does a file ``answers_OUTPUT.py`` here gives them."""
    if find_spec(own := f"tests.contract.answers_{output}") is not None:
        found: Answers = import_module(own).answers(task)
        return found
    return MAKERS[output if output in MAKERS else task](task)


def pixel_task(name: str) -> Any:
    return of_pixels(name)(CLASSES, dict.fromkeys(LOSSES, 1.0))


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """(3, CLASSES, 16, 12) logits and (3, 16, 12) truth, which have nothing to do with each other."""
    random = torch.Generator().manual_seed(seed)
    raw = torch.randn(3, CLASSES, 16, 12, generator=random)
    return raw, torch.randint(0, CLASSES, (3, 16, 12), generator=random)


def right(target: Tensor) -> Tensor:
    """Logits that are sure of the truth."""
    return 50.0 * nn.functional.one_hot(target, CLASSES).movedim(-1, 1)


def decoded(task: Any, raw: Tensor, target: Tensor) -> tuple[Any, ...]:
    """What the output that the task names makes of raw output, as scores take it, and the truth: each (B, y, x)."""
    names = [f"class {k}" for k in range(CLASSES)]
    output = pixel_output(testing.card("made", ["red"], names, task=task.name))
    found = output.answer(stored(output, raw, np.ones(target.shape, np.bool_)))
    return *(a.reshape(target.shape) for a in found), target.numpy()


def _classes(name: str) -> Answers:
    task = pixel_task(name)
    raw, target = batch()
    nothing = right(torch.full_like(target, int(target.flatten().mode().values)))
    whole = decoded(task, raw, target)
    support = Support(CLASSES)
    for place in target.numpy():
        support.update(place)

    def shown(scores: Mapping[str, Any]) -> dict[str, Any]:
        return {"split": "test", **named(scores, [f"class {k}" for k in range(CLASSES)], support)}

    return Answers(
        scores=task.scores,
        best=1.0,
        perfect=[decoded(task, right(target), target)],
        nothing=[decoded(task, nothing, target)],
        parts=[tuple(v[part] for v in whole) for part in (slice(2, 3), slice(0, 1), slice(1, 2))],
        whole=[whole],
        shown=shown,
    )


def _places(name: str) -> Answers:
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 40), rng.uniform(-60, 60, 40)
    off = sphere.destination(lon, lat, rng.uniform(0, 360, 40), rng.uniform(0, 3000, 40))
    card = Calibrated(within_km=750.0, threshold=0.5)

    def caps(at: tuple[Any, Any], kappa: Any) -> Density:
        return Density(np.ones((len(at[0]), 1)), sphere.to_xyz(*at)[:, None], np.broadcast_to(kappa, (len(at[0]), 1)))

    seen = caps(off, rng.uniform(10, 1000, (40, 1)))

    def part(rows: slice) -> tuple[Any, ...]:
        return Density(seen.weight[rows], seen.xyz[rows], seen.kappa[rows]), lon[rows], lat[rows]

    return Answers(
        scores=lambda: PlaceScores(card, draws=20),
        best=5000.0,
        perfect=[(caps((lon, lat), 1e6), lon, lat)],
        nothing=[(caps((np.zeros(40), np.zeros(40)), 0.0), lon, lat)],
        parts=[part(slice(0, 7)), part(slice(7, 30)), part(slice(30, 40))],
        whole=[part(slice(0, 40))],
        shown=lambda scores: {"model": "made", "sha256": "", "recipe": "", "sets": {"held-out": scores}},
    )


def _known_again(name: str) -> Answers:
    def found(share: float, queries: int = 60) -> Parts:
        """Of 50 tiles one is near."""
        recall = Recall((round(share * queries),), queries, 50, queries)
        return [("north_up", recall), ("any_heading", recall)]

    return Answers(
        scores=RecallScores,
        best=1.0,
        perfect=found(1.0),
        nothing=found(1 / 50, 100),
        parts=[*found(0.5, 20), *found(0.25, 40)],
        whole=found(1 / 3),
        shown=lambda scores: {
            "model": "made", "recall": [{"ground": 0, "reference": 0, "query": 1, "tiles": 50, **scores}]
        },
    )  # fmt: skip


MAKERS: dict[str, Callable[[str], Answers]] = {
    "classes": _classes,
    "changes": _classes,
    "geolocation": _places,
    "retrieval": _known_again,
}
"""By output, or by name where a task is scored like no other."""
