"""Heads of few labels are fitted outside of the common loop; as layers they learn classes of pixels as any others."""

from __future__ import annotations

from tests.contract.lessons import ClassLesson

LESSON = ClassLesson("segmentation")
