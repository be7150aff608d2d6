"""Made data with known truth, for tests, docs and users: scenes with their catalogs and models, and pictures."""

from geoml.testing.files import tree
from geoml.testing.scenes import (
    BAD_QUALITY,
    COLORS,
    Map,
    Scene,
    card,
    constant_model,
    levels,
    read_map,
    small_unet,
    smooth,
    threshold_model,
    write_catalog,
    write_cog,
)

__all__ = [
    "BAD_QUALITY",
    "COLORS",
    "Map",
    "Scene",
    "card",
    "constant_model",
    "levels",
    "read_map",
    "small_unet",
    "smooth",
    "threshold_model",
    "tree",
    "write_catalog",
    "write_cog",
]
