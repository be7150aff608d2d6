"""Heights from two views: names what a run from a pair reads and makes. Nothing is trained by it."""

from __future__ import annotations

from typing import ClassVar, final

from geoml.io.cards.map_card import MapCard
from geoml.recipe import Frozen


@final
class Task:
    """COGs of surfaces for every block."""

    name: ClassVar = "stereo_elevation"
    card: ClassVar[type[Frozen]] = MapCard
    input: ClassVar = "stereo"
    output: ClassVar = "elevation"
