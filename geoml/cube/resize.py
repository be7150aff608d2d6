"""A picture made smaller by averages, by OpenCV (the extras ``geolocate`` and ``cube``)."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from geoml.errors import MissingExtra


def opencv() -> ModuleType:
    """OpenCV. Raises MissingExtra without it."""
    try:
        import cv2
    except ImportError as err:
        raise MissingExtra("OpenCV is not installed; pip install 'geoml[geolocate]' or 'geoml[cube]'") from err
    return cv2


def reduced(image: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], float]:
    """The picture with its longer side at most ``side``, averaged, and its pixels for each pixel of the result."""
    height, width = image.shape[:2]
    factor = max(height, width) / side
    if factor <= 1:
        return image, 1.0
    cv2 = opencv()
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)), factor
