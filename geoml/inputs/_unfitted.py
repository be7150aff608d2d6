"""Inputs whose blocks are read alike without anything that is measured on a sample of the region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from geoml.engine.contract import SampleFit
from geoml.engine.pixels import Pixels
from geoml.engine.run.plan import Plan, SelfChange


class Unfitted:
    """Part of an `geoml.engine.contract.Input`."""

    fits: ClassVar[bool] = False
    rasters: ClassVar[bool] = True

    @property
    def around(self) -> int:
        """None."""
        return 0

    def fit(self, plan: Plan, squares: list[list[Pixels]]) -> SampleFit:
        """Nothing is measured."""
        return SampleFit(squares)

    def trial(
        self, plan: Plan, squares: Sequence[Sequence[Pixels]], pixels: NDArray[np.float32]
    ) -> tuple[SelfChange | None, str]:
        """Nothing is known without a label."""
        return None, ""
