"""geoml where cfgrib is installed all the same: pyproj is loaded before anything that can load ecCodes.

Listing the engines of xarray loads them all. Beside the wheels of rasterio, ecCodes without pyproj before it can end
the process; what geoml imports has to come in the order that does not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests import made_cubes as made

PACKAGES = (
    "cfgrib==0.9.15.1", "eccodes==2.50.0", "eccodeslib==2.50.0.33", "eckitlib==2.5.0.33", "findlibs", "cffi",
    "pycparser", "attrs", "click",
)  # fmt: skip
KNOWN = {"name": "air_temperature", "file_unit": "K", "unit": "K", "plausible": [170, 340]}
PROGRAMS = {
    "cube": "from geoml.io.cubes.cube import open_cube",
    "pipeline": "import geoml.pipeline",
    "load": "import geoml.cube.load",
    "forecasting": "import geoml.forecasting.grids.run",
}
CHECK = """
import sys
assert "pyproj" in sys.modules
assert not {"cfgrib", "eccodes"} & set(sys.modules)
from geoml.io.cubes.cube import open_cube
from tests.made_cubes import spec
field = open_cube(sys.argv[1], spec("GRIB", **KNOWN)).read(0)
import xarray
assert "cfgrib" in xarray.backends.list_engines()
assert (open_cube(sys.argv[1], spec("GRIB", **KNOWN)).read(0) == field).all()
print("alive", field.shape)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with what is installed here, and cfgrib."""
    folder = tmp_path_factory.mktemp("environment")
    uv = Path(sys.executable).with_name("uv")
    if not uv.is_file():
        pytest.skip("uv is not installed")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    python = folder / "bin/python"
    subprocess.run([uv, "pip", "install", "--quiet", "--no-deps", "--python", python, *PACKAGES], check=True)
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_crashes_where_cfgrib_is_installed(name: str, python: Path, tmp_path: Path) -> None:
    path = made.grib(tmp_path / "a.grib2", [made.message(made.frames(1)[0] / 10)])
    program = f"{PROGRAMS[name]}\nKNOWN = {KNOWN!r}\n{CHECK}"
    root = str(Path(__file__).parents[2])
    run = subprocess.run(
        [python, "-c", program, str(path)], capture_output=True, text=True, check=False, cwd=root,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert (run.returncode, run.stdout.strip()) == (0, "alive (6, 8)"), run.stderr[-2000:]
