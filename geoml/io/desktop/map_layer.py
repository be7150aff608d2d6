"""One layer of the map of a run, described for other programs: its files, numbers and colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from geoml.grid.plane import Plane, Window
from geoml.texts import plain

Group = Literal["polygons", "map", "doubt", "image"]
GROUPS: tuple[Group, ...] = ("polygons", "map", "doubt", "image")
"""Of a project, the uppermost first."""

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What a document of XML 1.0 cannot hold (section 2.2): control characters, halves of a pair, and two more."""


def xml_text(text: str) -> str:
    """``text`` with what XML has no place for escaped, as in messages."""
    return _NO_XML.sub(lambda found: plain(found[0]), text)


@dataclass(frozen=True)
class MapClass:
    """A class: its stored value, its name, its colour as ``#rrggbb``."""

    value: int
    name: str
    color: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", xml_text(self.name))


@dataclass(frozen=True, kw_only=True)
class MapLayer:
    """``physical = stored * scale + offset``; one file ``cogs/BLOCK/file`` for each block."""

    key: str
    title: str
    group: Group
    file: str
    dtype: str = "uint8"
    nodata: float | None = None
    bands: tuple[str, ...] = ("",)
    """Names, one for each band."""
    scales: tuple[float, ...] = (1.0,)
    offsets: tuple[float, ...] = (0.0,)
    unit: str | None = None
    tile: int = 512
    classes: tuple[MapClass, ...] = ()
    colours: bool = False
    """Bands are red, green and blue, and alpha where there is a fourth."""
    band: int = 1
    """What is shown where it is neither classes nor colours."""
    low: float = 0.0
    high: float = 1.0
    """Ends of the colour ramp, physical."""
    crs: str | None = None
    """Where it is not that of the plane: a compound one, of heights."""
    factor: int = 1
    """Pixels of the plane along a pixel of a file; the last ones may reach beyond the block."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", xml_text(self.title))
        object.__setattr__(self, "bands", tuple(map(xml_text, self.bands)))
        object.__setattr__(self, "unit", xml_text(self.unit) if self.unit else self.unit)


@dataclass(frozen=True)
class Mosaic:
    """The blocks of one plane, ``ids`` beside their ``windows``, and what their files are called after."""

    plane: Plane
    suffix: str
    """Behind the name of a layer; empty if there is one plane."""
    ids: Sequence[str]
    windows: Sequence[Window]

    @property
    def window(self) -> Window:
        """Around all blocks."""
        return Window(
            min(w.y0 for w in self.windows),
            min(w.x0 for w in self.windows),
            max(w.y1 for w in self.windows),
            max(w.x1 for w in self.windows),
        )

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in units of the CRS."""
        return self.plane.bounds(self.window)
