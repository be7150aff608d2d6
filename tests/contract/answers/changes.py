"""Of tasks that give every pixel a class of change."""

from __future__ import annotations

from tests.contract.answers.classes import case, make

__all__ = ["case", "make"]
