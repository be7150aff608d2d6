"""What the page of a run shows of embeddings: the first three principal components as colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from affine import Affine
from markupsafe import Markup
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geoml.io.report import images
from geoml.io.report.canvas import Canvas
from geoml.io.report.part import Drawing, ReportLayer
from geoml.outputs._embedding_coding import COMPONENTS
from geoml.texts import percent


class KnownCounter:
    """Counts pixels with an embedding."""

    def __init__(self) -> None:
        self.pixels = 0

    def add(self, row: int, layers: Mapping[str, NDArray[np.number]]) -> None:
        """As `geoml.io.report.part.PartCounter.add`."""
        self.pixels += int(np.count_nonzero(layers[COMPONENTS[0]]))

    def result(self) -> dict[str, Any]:
        """As `geoml.io.report.part.PartCounter.result`."""
        return {"pixels": self.pixels}


class EmbeddingReport:
    """`geoml.io.report.part.ReportPart` of embeddings of ``width`` numbers."""

    change = False
    layers: Mapping[str, ReportLayer] = {
        name: ReportLayer("colours", "colours", Resampling.nearest, 0, band=k) for k, name in enumerate(COMPONENTS, 1)
    }

    def __init__(self, width: int, explained: Sequence[float]) -> None:
        self.width, self.explained, self.pixels = width, explained, 0

    def counter(self, shape: tuple[int, int], grid: Affine, crs: str) -> KnownCounter:
        """Counts a block."""
        return KnownCounter()

    def add(self, counted: Mapping[str, Any]) -> None:
        """Take the number of a block."""
        self.pixels += int(counted["pixels"])

    def known(self, valid: int) -> int:
        """Pixels with an embedding."""
        return self.pixels

    def facts(self) -> Sequence[tuple[str, str]]:
        """How many, and of how many numbers."""
        return ("embedded pixels", f"{self.pixels:,}"), ("numbers of each", f"{self.width}")

    def drawings(self, stored: Mapping[str, NDArray[np.number]], canvas: Canvas) -> Sequence[Drawing]:
        """The colours."""
        colours = np.stack([*(stored[name] for name in COMPONENTS), stored[COMPONENTS[0]]], -1).astype(np.uint8)
        colours[..., 3] = np.where(colours[..., 3] > 0, 255, 0)
        colours[colours[..., 3] == 0] = images.CLEAR
        shares = ", ".join(
            f"{name} {percent(share, 0)}" for name, share in zip(COMPONENTS, self.explained, strict=True)
        )
        below = Markup(
            '<p class="small soft">Similar colours are similar embeddings: the first three principal components, with'
            " {} of the variance of a sample of the region.</p>"
        ).format(shares)
        return (Drawing("Embeddings", colours, f"Embeddings as colours; {canvas.extent()}.", below),)

    def section(self, scores: Mapping[str, object] | None) -> Markup:
        """Nothing beside the map."""
        return Markup()
