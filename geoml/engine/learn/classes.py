"""Classes of a map from names in a file: values from 0 and colours that people expect, or that are told apart."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from geoml.io.cards.map_card import ClassInfo

EXPECTED = {
    "water": "#2b7bba", "river": "#2b7bba", "lake": "#2b7bba", "forest": "#1b7837", "tree": "#1b7837",
    "grass": "#a6d96a", "pasture": "#a6d96a", "meadow": "#a6d96a", "herb": "#a6d96a", "low vegetation": "#a6d96a",
    "shrub": "#8c9a3b", "crop": "#e6ab02", "field": "#e6ab02", "agri": "#e6ab02", "urban": "#d7301f",
    "built": "#d7301f", "build": "#d7301f", "roof": "#d7301f", "developed": "#d7301f", "pavement": "#969696",
    "road": "#969696", "soil": "#c49a6c", "barren": "#c49a6c", "bare": "#c49a6c", "sand": "#f2e2a0",
    "wetland": "#41b6c4", "swamp": "#41b6c4", "snow": "#deebf7", "ice": "#deebf7",
}  # fmt: skip
"""Part of a name -> colour."""


def class_infos(names: Sequence[str]) -> tuple[ClassInfo, ...]:
    """Classes with the values 0, 1, … in the order of names; no two have the same colour."""
    taken: set[str] = set()
    found = []
    for k, name in enumerate(names):
        color = next((c for part, c in EXPECTED.items() if part in name.lower() and c not in taken), None)
        turn = k
        while color is None or color in taken:
            red, green, blue = colorsys.hls_to_rgb((turn * 0.381966) % 1, 0.45 + 0.15 * (turn % 2), 0.65)
            color = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
            turn += len(names)
        taken.add(color)
        found.append(ClassInfo(value=k, name=name, color=color))
    return tuple(found)
