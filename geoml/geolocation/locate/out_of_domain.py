"""Pictures that a locator is not for, and why: by what a raster says of itself, else by what the pixels look like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.pictures.prepare import PreparedPicture


def reasons(locator: Locator, pictures: Sequence[PreparedPicture], features: NDArray[np.float32]) -> list[str | None]:
    """For each of N pictures with (N, F) features why the locator is not for it; None if it may answer."""
    by_pixels = locator.out_of_domain(features)
    return [_of_width(locator, picture) or why for picture, why in zip(pictures, by_pixels, strict=True)]


def _of_width(locator: Locator, picture: PreparedPicture) -> str | None:
    wide, km = locator.card.width_km, picture.width_km
    if wide is None or km is None or wide[0] <= km <= wide[1]:
        return None
    return f"by its CRS and pixel size it shows {km:.3g} km, the locator is for {wide[0]:g} to {wide[1]:g} km"
