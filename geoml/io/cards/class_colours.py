"""Colours of classes by their names: those that people expect, or ones that are told apart."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

EXPECTED = {
    "water": "#2b7bba", "river": "#2b7bba", "lake": "#2b7bba", "forest": "#1b7837", "tree": "#1b7837",
    "grass": "#a6d96a", "pasture": "#a6d96a", "meadow": "#a6d96a", "herb": "#a6d96a", "low vegetation": "#a6d96a",
    "shrub": "#8c9a3b", "crop": "#e6ab02", "field": "#e6ab02", "agri": "#e6ab02", "urban": "#d7301f",
    "built": "#d7301f", "build": "#d7301f", "roof": "#d7301f", "developed": "#d7301f", "pavement": "#969696",
    "road": "#969696", "soil": "#c49a6c", "barren": "#c49a6c", "bare": "#c49a6c", "sand": "#f2e2a0",
    "wetland": "#41b6c4", "swamp": "#41b6c4", "snow": "#deebf7", "ice": "#deebf7",
}  # fmt: skip
"""Part of a name -> colour."""


def class_colours(names: Sequence[str]) -> list[str]:
    """A colour #rrggbb for each name; no two are the same."""
    taken: list[str] = []
    for k, name in enumerate(names):
        color = next((c for part, c in EXPECTED.items() if part in name.lower() and c not in taken), None)
        turn = k
        while color is None or color in taken:
            red, green, blue = colorsys.hls_to_rgb((turn * 0.381966) % 1, 0.45 + 0.15 * (turn % 2), 0.65)
            color = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
            turn += len(names)
        taken.append(color)
    return taken
