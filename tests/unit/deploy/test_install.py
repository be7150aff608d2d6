"""What is installed: the core alone from the lock, and the wheel beside somebody's own ``flows``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHECKOUT = ("geoml", "flows", "catalogs", "Makefile", "pyproject.toml", "requirements.txt", "README.md", "LICENSE")
QUERY = ["--catalog", "demo", "--bbox", "-54.6", "-25.4", "-54.55", "-25.35", "--datetime", "2020-05"]
HEAVY = ("prefect", "distributed", "lightning", "sklearn", "fastapi", "sqlalchemy", "folium", "zarr", "cv2", "laspy")
ASKS = {
    "dask": "from geoml.engine.workers.drive import _start; _start('cluster', 2, '', 'out', None)",
    "train": "import numpy as np; from geoml.nn.linear_heads import logistic; "
    "logistic(np.zeros((4, 2)), np.array([0, 1, 0, 1]), np.ones(4), 2, 1.0)",
    "prefect": "import flows.predict",
    "notebook": "import geoml; geoml.open('out').explore()",
    "cube": "from geoml.cube.resize import opencv; opencv()",
    "points": "import numpy as np; from geoml.cube.clouds.tin import triangulated; triangulated(*np.eye(3), 9.0)",
    "onnx": "from geoml.backends.onnx import choose; choose()",
}
"""Code that needs an extra, by its name."""


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GEOML_", "PYTHON", "VIRTUAL_ENV", "MAKE"))}
    return kept | {"OMP_NUM_THREADS": "1"} | more


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose ``make demo`` began without an environment; the demo's outputs are in ``out``."""
    root = tmp_path_factory.mktemp("core")
    for name in CHECKOUT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    made = subprocess.run(["make", f"PYTHON={sys.executable}", "demo", "OUT=out"], cwd=root, env=environment(),
                          capture_output=True, text=True, timeout=1500, check=False)  # fmt: skip
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
    assert "held-out scores of demo-itaipu" in made.stdout
    return root


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    python = str(root / ".venv" / "bin" / "python")
    return subprocess.run([python, *words], cwd=root, env=environment(), capture_output=True, text=True,
                          timeout=600, check=False)  # fmt: skip


@pytest.mark.slow
def test_the_core_alone_searches_and_maps(core: Path) -> None:
    known = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    assert run(core, "-c", known, *HEAVY).stdout.strip() == "[]"
    assert "predict" in run(core, "-m", "geoml.cli", "--help").stdout
    assert "LC08_L1TP_224078" in run(core, "-m", "geoml.cli", "search", *QUERY[1:]).stdout
    mapped = run(core, "-m", "geoml.cli", "predict", "--model", "demo-itaipu", *QUERY, "--out", "own")
    assert mapped.returncode == 0, mapped.stderr
    assert (core / "own" / "features.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize("extra", ASKS)
def test_an_extra_that_is_missing_is_named(extra: str, core: Path) -> None:
    ended = run(core, "-c", ASKS[extra])
    assert ended.returncode != 0
    assert "MissingExtra: " in ended.stderr
    assert f"geoml[{extra}]" in ended.stderr


@pytest.mark.slow
def test_a_wheel_leaves_the_flows_of_others_alone(tmp_path: Path) -> None:
    """Its own are geoml_flows, which import nothing called flows."""
    uv = str(Path(sys.executable).parent / "uv")
    words = ["build", "--wheel", "--no-build-isolation", "--offline", "-q", "-o", str(tmp_path), str(ROOT)]
    subprocess.run([uv, *words], check=True, timeout=300, env=environment())
    (wheel,) = tmp_path.glob("geoml-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert wheel.stat().st_size < 18.5e6
    assert {p.name for p in (tmp_path / "site").iterdir() if "dist-info" not in p.name} == {"geoml", "geoml_flows"}
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").write_text("raise RuntimeError('those of the user')")
    code = (
        "import importlib, pkgutil, geoml_flows; from geoml.cli.demo import flows_package\n"
        "names = [m.name for m in pkgutil.iter_modules(geoml_flows.__path__, 'geoml_flows.')]\n"
        "print(len([importlib.import_module(name) for name in names]) > 15, flows_package())"
    )
    env = environment(PYTHONPATH=str(tmp_path / "site"), PREFECT_HOME=str(tmp_path / "prefect"))
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert ended.stdout.strip() == "True geoml_flows", ended.stderr[-2000:]
