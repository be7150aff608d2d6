"""Heights: names the input and output of a run from points or a pair. It trains nothing."""

from __future__ import annotations

from typing import ClassVar, final

from geoml.io.cards.map_card import MapCard
from geoml.recipe import Frozen


@final
class Task:
    """COGs of surfaces for every block."""

    name: ClassVar = "elevation"
    card: ClassVar[type[Frozen]] = MapCard
    input: ClassVar = "points"
    output: ClassVar = "elevation"
