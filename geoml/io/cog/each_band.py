"""Numbers of the bands of a file, of which one may stand for all."""

from __future__ import annotations


def of_each(value: float | tuple[float, ...], bands: int) -> tuple[float, ...]:
    """A number of each band, where one may stand for all of them."""
    return value if isinstance(value, tuple) else (value,) * bands
