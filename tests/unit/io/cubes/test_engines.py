"""xarray's engines are never asked for: to list them loads every plug-in, and ecCodes (by cfgrib) beside PROJ and GDAL
of rasterio can end the process when it is loaded before pyproj. Arrays of xarray are made of what geoml itself read."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import geoml
from tests import made_cubes as made

ASKS = {
    "open_dataset",
    "open_dataarray",
    "open_mfdataset",
    "open_zarr",
    "open_datatree",
    "open_rasterio",
    "list_engines",
}


def test_no_module_asks_xarray_for_an_engine() -> None:
    paths = sorted(Path(geoml.__file__).parent.rglob("*.py"))
    names = {
        (path.name, node.attr if isinstance(node, ast.Attribute) else node.id)
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    assert len(paths) > 400
    assert {(path, name) for path, name in names if name in ASKS} == set()


PROGRAM = """
import sys
from geoml.io.cubes.cube import open_cube
from tests.made_cubes import spec
known = {"name": "air_temperature", "file_unit": "K", "unit": "K", "plausible": [170, 340]}
assert open_cube(sys.argv[1], spec("GRIB", **known)).read(0).shape == (6, 8)
print([m for m in ("cfgrib", "eccodes", "xarray", "torch", "zarr", "h5py") if m in sys.modules])
"""


def test_a_grib_file_is_read_without_xarray(tmp_path: Path) -> None:
    """So an engine that is installed is not even loaded, whatever the order of imports."""
    path = made.grib(tmp_path / "a.grib2", [made.message(made.frames(1)[0] / 10)])
    run = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]", run.stderr
