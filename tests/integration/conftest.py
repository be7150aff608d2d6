"""Real services for the tests, one of each in a session; what is not installed skips its tests by name."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "docker" / "stack.py"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Servers of others on a busy machine: a test of them gets a second try, and is named in the summary then."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.flaky(reruns=1))


def load_stack() -> ModuleType:
    """``docker/stack.py`` as a module; skips the test when a package that it imports is absent."""
    if "geoml_stack" not in sys.modules:
        spec = importlib.util.spec_from_file_location("geoml_stack", SCRIPT)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["geoml_stack"] = module
        sys.path.insert(0, str(SCRIPT.parent))  # as when it runs as a script
        try:
            spec.loader.exec_module(module)
        except ImportError as err:
            del sys.modules["geoml_stack"]
            pytest.skip(f"docker/stack.py: {err.name} not installed (dependency group stack)")
    return sys.modules["geoml_stack"]


@pytest.fixture(scope="session")
def stack() -> ModuleType:
    return load_stack()


@pytest.fixture(scope="session")
def services() -> Iterator[Callable[..., Any]]:
    """``services(Class, ...)`` starts a service in a folder of its own; all end with the session, the last one first.

    The folders are outside of pytest's own, which only this user may enter: PostgreSQL runs as another one.
    """
    base = Path(tempfile.mkdtemp(prefix="geoml-services-"))
    base.chmod(0o755)
    running: list[Any] = []

    def run(kind: Any, *args: Any, **kwargs: Any) -> Any:
        if why := kind.available():
            pytest.skip(f"{kind.__name__}: {why}")
        service = kind(base / f"{kind.__name__.lower()}-{len(running)}", *args, **kwargs)
        running.append(service)
        return service.start()

    yield run
    for service in reversed(running):
        service.stop()
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(stack: ModuleType, services: Callable[..., Any]) -> Any:
    return services(stack.Postgres)


@pytest.fixture(scope="session")
def stac_api(stack: ModuleType, services: Callable[..., Any], postgres: Any) -> Any:
    """pgstac: ``.url``, ``.load(collection, items)``. Tests share it, so each loads a collection of its own."""
    return services(stack.StacApi, postgres)


@pytest.fixture(scope="session")
def s3(stack: ModuleType, services: Callable[..., Any]) -> Any:
    """SeaweedFS: ``.env``, ``.bucket``, ``.store`` (obstore), ``.upload({key: path})``. A prefix for each test."""
    return services(stack.S3)


@pytest.fixture(scope="session")
def prefect_server(stack: ModuleType, services: Callable[..., Any]) -> Any:
    """Prefect on SQLite: ``.url``, ``.env``, ``.command("deploy", "--all")``."""
    return services(stack.Prefect)


@pytest.fixture(scope="session")
def prefect_postgres(stack: ModuleType, services: Callable[..., Any], postgres: Any) -> Any:
    return services(stack.Prefect, postgres)


@pytest.fixture(scope="session")
def dask_cluster(stack: ModuleType, services: Callable[..., Any]) -> Any:
    """A scheduler with two worker processes: ``.address``, ``.workers`` (pids), ``.heal()`` after one was killed."""
    env = {"GEOML_PRECISION": "fp32", "GEOML_DEVICE": "cpu", "GEOML_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return services(stack.DaskCluster, env=env)


@pytest.fixture
def nginx(stack: ModuleType, services: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    """``tmp_path / "www"`` over HTTP: ``.url``, ``.root``."""
    (tmp_path / "www").mkdir()
    server = services(stack.Nginx, tmp_path / "www")
    yield server
    server.stop()
