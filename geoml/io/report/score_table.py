"""Scores as text, the same wherever they are shown: tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreTable:
    """Rows of cells under the names of their columns; the first cell says what a row is of."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.title


def number(value: object) -> str:
    """Three decimals; nothing for a score that has no meaning."""
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def sentence(values: Mapping[str, object], before: str = "") -> str:
    """``mean IoU 0.500  ECE none``: names and figures in one line."""
    return before + "  ".join(f"{name} {number(value) or 'none'}" for name, value in values.items())
