"""Heights change their datum by a grid that is there, or not at all."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyproj
import pytest

from geoml.errors import DataError, InputError
from geoml.io.heights import NO_SHIFT, check_finite, height_shift, vertical_name

DATA = Path(os.environ.get("GEOML_DATA", "")) / "elevation" / "stereo_ventoux"
PLACE = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32631", always_xy=True).transform(5.2, 44.2)
BOUNDS = (PLACE[0] - 500, PLACE[1] - 500, PLACE[0] + 500, PLACE[1] + 500)


def gtx(path: Path, value: float, south: float = 40.0, west: float = 0.0, size: int = 20) -> None:
    """A geoid of one height over ``size`` degrees, as NOAA's GTX has it (big-endian)."""
    head = struct.pack(">4d2i", south, west, 1.0, 1.0, size, size)
    path.write_bytes(head + np.full(size * size, value, ">f4").tobytes())


def shifted(have: str, want: str, crs: str = "EPSG:32631", bounds: tuple[float, ...] = BOUNDS) -> float:
    shift = height_shift(crs, have, want, bounds)  # type: ignore[arg-type]
    x, y = np.array([(bounds[0] + bounds[2]) / 2]), np.array([(bounds[1] + bounds[3]) / 2])
    return float(shift.apply(x, y, np.array([100.0]))[0])


def test_without_the_grid_it_is_named(machine: Callable[..., None], tmp_path: Path) -> None:
    machine(grids=tmp_path)
    with pytest.raises(InputError, match=r"us_nga_egm96_15\.tif is missing.*GEOML_GRIDS"):
        height_shift("EPSG:32631", "ellipsoid", "EPSG:5773", BOUNDS)
    with pytest.raises(InputError, match=r"fr_ign_RAF\d+\.tif"):
        height_shift("EPSG:2154", "EPSG:5720", "EPSG:5773", (889_000, 6_359_000, 890_000, 6_360_000))


@pytest.mark.parametrize("name", ["egm96_15.gtx", "egm96_15_part.gtx", "us_nga_egm96_15.gtx"])
def test_a_grid_of_the_folder_is_found_by_its_names(machine: Callable[..., None], tmp_path: Path, name: str) -> None:
    gtx(tmp_path / name, 50.0)
    machine(grids=tmp_path)
    assert shifted("ellipsoid", "egm96") == pytest.approx(50.0, abs=1e-4)
    assert shifted("egm96", "EPSG:4979") == pytest.approx(150.0, abs=1e-4)
    assert height_shift("EPSG:32631", "ellipsoid", "egm96", BOUNDS).grids == (name,)


def test_a_crs_that_puts_north_first_is_shifted_where_it_lies(machine: Callable[..., None], tmp_path: Path) -> None:
    """EPSG:3035 is (north, east); its operation is asked for x first, as points are."""
    gtx(tmp_path / "egm96_15.gtx", 50.0)
    machine(grids=tmp_path)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform(5.2, 44.2)
    assert shifted("ellipsoid", "egm96", "EPSG:3035", (x - 9, y - 9, x + 9, y + 9)) == pytest.approx(50.0, abs=1e-4)


def test_points_beyond_the_grid_are_refused(machine: Callable[..., None], tmp_path: Path) -> None:
    gtx(tmp_path / "egm96_15.gtx", 50.0, south=44.0, west=5.0, size=2)
    machine(grids=tmp_path)
    shift = height_shift("EPSG:32631", "ellipsoid", "egm96", BOUNDS)
    x, y = np.array([PLACE[0], PLACE[0] + 300_000.0]), np.array([PLACE[1], PLACE[1]])
    with pytest.raises(DataError, match=r"egm96_15\.gtx does not cover 1 of 2 points"):
        shift.apply(x, y, np.array([100.0, 100.0]))


def test_one_datum_is_left_as_it_is() -> None:
    assert height_shift("EPSG:32631", "EPSG:5773", "egm96", BOUNDS) == NO_SHIFT
    assert shifted("ellipsoid", "ELLIPSOID") == 100.0


def test_what_is_no_datum_is_refused() -> None:
    for text in ("sea level", "EPSG:32631"):
        with pytest.raises(InputError, match=r"datum: .* expected ellipsoid"):
            height_shift("EPSG:32631", text, "egm96", BOUNDS)
    assert vertical_name("EPSG:2154", "egm96") == "EPSG:5773"
    assert vertical_name("EPSG:32631", "ellipsoid") == "EPSG:4979"


def test_heights_that_are_not_finite_are_refused() -> None:
    check_finite(np.array([1.0, 2.0]), "a.laz")
    with pytest.raises(DataError, match=r"a\.laz: 2 of 3 heights are not finite"):
        check_finite(np.array([1.0, np.nan, np.inf]), "a.laz")


@pytest.mark.data
def test_the_real_geoid_at_mont_ventoux(machine: Callable[..., None]) -> None:
    machine(grids=DATA)
    assert shifted("ellipsoid", "EPSG:5773") - 100 == pytest.approx(-50.85, abs=0.01)


def test_heights_above_another_ellipsoid_are_refused() -> None:
    """They would be those of the places under another name; GRS 80 and WGS 84 are alike to a tenth of a millimetre."""
    assert height_shift("EPSG:25832", "ellipsoid", "EPSG:4979", (5e5, 5e6, 5.1e5, 5.1e6)).pipeline == ""
    with pytest.raises(InputError, match="Bessel"):
        height_shift("EPSG:28992", "ellipsoid", "EPSG:4979", (85e3, 447e3, 86e3, 448e3))


@pytest.mark.parametrize("feet", ["EPSG:6360", "EPSG:8228", "EPSG:32613+6360"])
def test_a_datum_in_feet_gives_metres(feet: str) -> None:
    """100 m above NAVD88 stay 100 m, and the outputs name the CRS in metres."""
    bounds = (500_000.0, 3_900_000.0, 501_000.0, 3_901_000.0)
    for have, want in (("EPSG:5703", feet), (feet, "EPSG:5703"), (feet, feet)):
        assert shifted(have, want, "EPSG:32613", bounds) == pytest.approx(100.0, abs=1e-9)
    assert vertical_name("EPSG:32613", feet) == "EPSG:5703"


def test_depths_are_refused() -> None:
    for have, want in (("EPSG:5715", "egm96"), ("ellipsoid", "EPSG:5715")):
        with pytest.raises(InputError, match="MSL depth counts down"):
            height_shift("EPSG:32631", have, want, BOUNDS)
    with pytest.raises(InputError, match="counts down"):
        vertical_name("EPSG:32631", "EPSG:5715")
