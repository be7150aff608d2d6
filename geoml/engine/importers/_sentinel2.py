"""Shared by encoders of Sentinel-2 reflectance: bands by name in order, tokens of several bands, usual values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from geoml.engine.cards.encoder import EncoderCard
from geoml.errors import ModelError
from geoml.io.cards.map_card import Band
from geoml.io.cards.profile import BandProfile

BANDS = tuple(
    Band(name=name, unit="reflectance")
    for name in (
        "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22",
    )
)  # fmt: skip
"""Sentinel-2 B2 B3 B4 B5 B6 B7 B8 B8A B11 B12."""
GROUPS = {
    "S2_RGB": (0, 1, 2), "S2_Red_Edge": (3, 4, 5), "S2_NIR_10m": (6,), "S2_NIR_20m": (7,), "S2_SWIR": (8, 9),
    "NDVI": (),
}  # fmt: skip
"""Published names of the tokens and the places of their bands; the NDVI is computed from `NDVI`, and comes last."""
NDVI = (2, 6)
PROFILE = Path(__file__).with_name("sentinel2_l1c.json")


def config() -> dict[str, object]:
    """Arguments of a model's ``Config``."""
    return {"groups": [list(g) for g in GROUPS.values() if g], "ndvi": list(NDVI)}


def profile() -> BandProfile:
    """How the bands of level L1C stand to each other, fitted by ``tests/benchmarks/band_profile.py``."""
    return BandProfile.model_validate(json.loads(PROFILE.read_text(encoding="utf-8")))


def group_codes(codes: Tensor, rows: Mapping[str, int], path: Path) -> Tensor:
    """(group, width) of the published codes (row, width), by the row of each group. Raises ModelError for too few."""
    if len(codes) <= max(rows.values()):
        raise ModelError(f"{path}: codes of {len(codes)} groups; expected more than {max(rows.values())}")
    return codes[[rows[group] for group in GROUPS]]


def card(**other: Any) -> EncoderCard:
    """The card of an encoder, with what all of them have."""
    return EncoderCard(license="MIT", bands=BANDS, level="L1C", gsd=10.0, profile=profile(), **other)
