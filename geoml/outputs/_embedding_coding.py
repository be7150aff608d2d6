"""How embeddings are stored, for all files of their output."""

from __future__ import annotations

from typing import Final

NODATA: Final = -128
"""In all bands of a pixel at once. On its way there it also stands for what was not finite."""
LARGEST: Final = 127
DEVIATIONS: Final = 4.0
"""Standard deviations that `LARGEST` stands for; a finer step would cut more of what is unlike the sample."""
COMPONENTS: Final = ("red", "green", "blue")
"""Bands of the colours, of the first three principal components."""
