"""Of places on the sphere."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoml.geolocation.cards.locator import FittedCalibration
from geoml.geolocation.density.density import Density
from geoml.geolocation.training.place_scores import PlaceScores
from geoml.grid import sphere
from tests.contract.cases import Answers


def make(name: str) -> Answers:
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 40), rng.uniform(-60, 60, 40)
    off = sphere.destination(lon, lat, rng.uniform(0, 360, 40), rng.uniform(0, 3000, 40))
    card = FittedCalibration(within_km=750.0, threshold=0.5)

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
