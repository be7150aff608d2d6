"""The shipped locator: small, right where it is sure, and without a place for what it is not for."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoml.cli.demos.geolocate import pictures
from geoml.geolocation.locate import answers, locator
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.training import patterns
from geoml.grid import sphere


@pytest.fixture(scope="module")
def shipped() -> Locator:
    return locator.load("world-overhead")


def fine(found: Locator, rgb: np.ndarray) -> np.ndarray:
    """(N,) True where the pixels alone would give a fine place."""
    features = found.extractor(rgb)
    sure = answers.sure_regions(found.locate(features), found.card.calibration) == 0
    return sure & np.array([why is None for why in found.out_of_domain(features)])


def test_it_is_small_and_says_what_it_was_made_with(shipped: Locator) -> None:
    assert shipped.path is not None
    assert sum(p.stat().st_size for p in shipped.path.iterdir()) <= 8_000_000
    assert shipped.card.width_km == (600.0, 1000.0)
    assert shipped.card.domain is not None
    assert min(shipped.card.domain.refused.values()) > 0.9
    for name, row in shipped.card.scores.items():
        assert row["unlike"]["sure"] <= 0.05, f"{name}: answers inside its domain that are lost"


def test_pictures_of_another_month_are_answered(shipped: Locator) -> None:
    with (pictures() / "truth.csv").open(encoding="utf-8", newline="") as file:
        truth = [(float(r["lon"]), float(r["lat"])) for r in csv.DictReader(file)]
    rgb = np.stack([np.asarray(Image.open(p).resize((160, 160))) for p in sorted(pictures().glob("*.jpg"))])
    given = fine(shipped, rgb)
    assert given.sum() >= 4
    lon, lat = shipped.locate(shipped.extractor(rgb)).mode()
    far = sphere.distance(lon, lat, *np.array(truth).T)
    assert far[given].max() < 750


def blanks() -> dict[str, np.ndarray]:
    y, x = np.mgrid[:160, :160]
    flat = {"white": (255,) * 3, "black": (0,) * 3, "grey": (128,) * 3, "blue": (20, 60, 160), "sand": (210, 190, 150)}
    found = {name: np.full((160, 160, 3), colour, np.uint8) for name, colour in flat.items()}
    found["ramp"] = np.repeat((x * 255 // 159)[..., None], 3, 2).astype(np.uint8)
    found["down"] = np.repeat((y * 255 // 159)[..., None], 3, 2).astype(np.uint8)
    found["two ramps"] = np.stack([x * 255 // 159, y * 255 // 159, np.full_like(x, 90)], -1).astype(np.uint8)
    found["noise"] = np.random.default_rng(3).integers(0, 256, (160, 160, 3)).astype(np.uint8)
    found["checks"] = np.repeat(((x // 20 + y // 20) % 2 * 255)[..., None], 3, 2).astype(np.uint8)
    return found


@pytest.mark.parametrize("name", blanks())
def test_a_blank_has_no_place(shipped: Locator, name: str) -> None:
    assert not fine(shipped, blanks()[name][None])[0]


def test_ground_nearby_drawings_and_water_have_no_place(shipped: Locator) -> None:
    """Patterns of seeds that trained nothing; a real scene of 30 m whose other squares did."""
    draws = [*patterns.GROUND, patterns.waves, patterns.streets]
    rgb = [draw(np.random.default_rng([9, 77, k]), 160) for draw in draws for k in range(4)]
    land = np.hypot(*(np.mgrid[:160, :160] - 80.0)) < 60
    rgb += [patterns.drawing(land, np.random.default_rng([9, 78, k])) for k in range(4)]
    assert not fine(shipped, np.stack(rgb)).any()


@pytest.mark.data
def test_real_pictures_of_another_scale_have_no_place(shipped: Locator, tmp_path: Path) -> None:
    """Drones, NAIP and aerial frames at 0.02 to 1 m, which nothing was trained or chosen on."""
    import os

    root = Path(os.environ["GEOML_DATA"])
    files = [*sorted((root / "geolocation").rglob("*.jpg"))[::10], *sorted((root / "tracking").rglob("*.jpg"))[::6],
             *sorted((root / "detection" / "neon_teak_trees").rglob("*.tif"))]  # fmt: skip
    if len(files) < 20:
        pytest.skip("the pictures are not there")
    from geoml.geolocation.pictures.prepare import square

    rgb = np.stack([square(np.asarray(Image.open(f).convert("RGB")), 160) for f in files])
    assert not fine(shipped, rgb).any()
