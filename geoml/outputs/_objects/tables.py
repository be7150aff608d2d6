"""What the tables of a run of objects are called, and their columns of a box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FEATURES, SUMMARY = "features.parquet", "summary.parquet"
TABLES: Final[Mapping[str, str]] = {
    FEATURES: "GeoParquet 1.1: a box or an outline for each object",
    SUMMARY: "Parquet: how many of each class, and how much ground was searched",
}
"""Of a run, with what they hold."""
SIDES = ("north", "south", "west", "east")
