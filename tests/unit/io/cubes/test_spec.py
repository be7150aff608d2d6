"""The YAML files that are shipped, and names of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from geoml.errors import InputError
from geoml.io.cubes.spec import cube_names, load_cube_spec


@pytest.mark.parametrize("name", cube_names())
def test_shipped_cubes_are_sound(name: str) -> None:
    spec = load_cube_spec(name)
    assert spec.title
    assert spec.licence
    assert spec.files != "*" or spec.driver == "EOPatch"


def test_there_are_some_and_a_misspelt_one_is_guessed() -> None:
    assert {"knmi-radar", "era5-t2m"} <= set(cube_names())
    with pytest.raises(InputError, match="did you mean 'knmi-radar'"):
        load_cube_spec("knmi-rader")


def test_a_file_is_taken_by_its_path_and_its_fields_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("driver: GRIB\nname: rain\n")
    with pytest.raises(InputError, match=r"mine.yaml: file_unit: .*; unit: .*; plausible: .*; step:"):
        load_cube_spec(path)
    with pytest.raises(InputError, match=r"none.yaml"):
        load_cube_spec(tmp_path / "none.yaml")
