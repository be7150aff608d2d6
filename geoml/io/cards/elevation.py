"""What ``made`` of a card says of a run of heights: what it reads, how, and above what its heights are."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from geoml.recipe import Frozen

VOID: Final = -1e30
"""What an input gives where a layer has no value: no height, and finite."""

ACCURACY: Final = "accuracy.json"
"""In the folder of a run with check points."""

LayerName = Literal["dtm", "dsm", "height", "count", "spread", "distance", "building"]
OF_POINTS: Final[tuple[LayerName, ...]] = ("dtm", "dsm", "height", "count", "spread", "distance", "building")
OF_PAIRS: Final[tuple[LayerName, ...]] = ("dsm", "count", "spread")


class HeightTerms(Frozen):
    """Layers, in the order of the channels that the input gives, and how they come about."""

    kind: Literal["points", "stereo"] = "points"
    layers: tuple[LayerName, ...] = OF_POINTS
    vertical: str | None = Field(default=None, description="CRS of the heights; None: not known")
    vertical_name: str = "not known"
    shift: dict[str, Any] = Field(default_factory=dict, description="of heights to that CRS; empty: they stay")
    ground: str = Field(
        default="smrf", description="a ground filter, delivered for the classes of the files, or a package"
    )
    package: str = Field(default="", description="sha256 of the weights of a package that tells the ground")
    options: dict[str, Any] = Field(default_factory=dict, description="of the surfaces, or of the matching")
    sources: dict[str, Any] = Field(default_factory=dict, description="what each file or picture is, by its item")
