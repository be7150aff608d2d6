"""An offset that the pixels contradict is found, whichever flag or baseline told it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest

import geoml
from geoml import testing
from geoml.errors import DataError
from geoml.io.cog.radiometry import check_offset
from geoml.io.stac.bands import select
from geoml.io.stac.catalog import OffsetRule, Profile, open_catalog

RULE: dict[str, Any] = {
    "baseline": ("s2:processing_baseline",),
    "since": 4.0,
    "offset": -0.1,
    "applied": ("earthsearch:boa_offset_applied",),
    "bands": ("red", "nir"),
}
OLD, NEW = {"s2:processing_baseline": "02.14"}, {"s2:processing_baseline": "05.09"}
REMOVED = {**NEW, "earthsearch:boa_offset_applied": True}
KEPT = {**NEW, "earthsearch:boa_offset_applied": False}


def ground(seed: int = 0) -> np.ndarray:
    """(band, y, x) numbers of a scene with water and plants, reflectance * 10000."""
    return testing.smooth((2, 200, 220), seed=seed, low=50, high=2500, cell=16)


def check(folder: Path, data: np.ndarray, properties: dict[str, Any], **rule: Any) -> None:
    scene = testing.Scene(id="S2A", data=data.astype(np.uint16), bands=("red", "nir"), properties=properties)
    catalog = open_catalog(str(testing.write_catalog(folder / "made", [scene])))
    item = pystac.Item.from_file(str(folder / "made" / "S2A" / "item.json"))
    profile = Profile(offset_rule=OffsetRule(**{**RULE, **rule}))
    check_offset(item, select(item, ["nir", "red"], profile, catalog), profile)


@pytest.mark.parametrize(
    ("raised", "properties"), [(0, OLD), (1000, NEW), (1000, KEPT), (0, REMOVED)], ids=["old", "new", "kept", "removed"]
)
def test_metadata_that_fit_pass(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, raised: int, properties: dict[str, Any]
) -> None:
    check(tmp_path, ground() + raised, properties)
    assert caplog.records == []


@pytest.mark.parametrize("properties", [NEW, KEPT])
def test_an_offset_that_is_not_in_the_pixels_is_an_error(tmp_path: Path, properties: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"S2A, asset image .* raised by 1000 .* of red are below"):
        check(tmp_path, ground(), properties)
    check(tmp_path, ground(), properties, check=False)


@pytest.mark.parametrize("properties", [OLD, REMOVED])
def test_pixels_that_look_raised_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, properties: dict[str, Any]
) -> None:
    check(tmp_path, ground() + 1000, properties)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "S2A" in record.getMessage()
    assert "reflectances are 0.1 too high" in record.getMessage()


@pytest.mark.parametrize("properties", [OLD, NEW])
def test_bright_scenes_are_no_contradiction(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, properties: dict[str, Any]
) -> None:
    """Clouds and snow are bright with the offset and without it."""
    check(tmp_path, testing.smooth((2, 200, 220), low=3000, high=9000), properties)
    assert caplog.records == []


def test_a_few_dark_pixels_and_nodata_prove_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = ground() + 1000
    data[:, :100] = 0
    data[:, 150:152] = 30  # noise, saturation, shadow: less than one pixel in twenty
    check(tmp_path, data, NEW)
    nearly_empty = np.zeros_like(data)
    nearly_empty[:, :20, :20] = 30
    check(tmp_path, nearly_empty, NEW)
    assert caplog.records == []


def test_a_wrong_flag_fails_the_blocks_of_its_item(tmp_path: Path, machine: Any) -> None:
    """In a run: the item is named, and with the right flag the map is the one of an item without offset."""
    testing.threshold_model(tmp_path / "model", ("red", "nir"), (0.05005, 0.15005))
    machine(catalogs=tmp_path, precision="fp32", device="cpu")
    truth = ground(3)
    for raised, properties, fails in ((0, KEPT, True), (0, REMOVED, False), (1000, KEPT, False)):
        scene = testing.Scene(
            id="S2A",
            data=(truth + raised).astype(np.uint16),
            bands=("red", "nir"),
            properties=properties,
            declared=False,
        )
        bands = {"image": [{"name": "red", "scale": 1e-4}, {"name": "nir", "index": 2, "scale": 1e-4}]}
        testing.write_catalog(tmp_path / "made", [scene], profile={"bands": bands, "offset_rule": as_yaml(RULE)})
        query = {"catalog": "made", "bbox": list(scene.bbox(inner=0.1)), "datetime": ["2024"]}
        recipe = {"model": str(tmp_path / "model"), "query": query, "features": False}
        out = tmp_path / f"out-{raised}-{fails}"
        if fails:
            with pytest.raises(DataError, match=r"S2A.*processing baseline is wrong"):
                geoml.predict(recipe, out)
            continue
        geoml.predict(recipe, out)
        found = testing.read_map(out)[scene.crs].part(scene.window)[0]
        assert (found != 255).mean() > 0.5
        assert (found == testing.levels(truth, (0.05005, 0.15005)))[found != 255].all()


def as_yaml(rule: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in rule.items()}
