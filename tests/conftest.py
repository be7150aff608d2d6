"""What all tests share: fresh settings, no network beyond this machine, and where the real data are."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest
from jaxtyping import install_import_hook

from geoml.settings import settings

# types of arguments and results, with the shapes of tensors, are checked at every call of what is imported from here on
install_import_hook(
    (
        "geoml.geolocation.heads",
        "geoml.geolocation.nn",
        "geoml.geolocation.tasks",
        "geoml.inputs",
        "geoml.models",
        "geoml.nn",
        "geoml.outputs",
        "geoml.tasks",
    ),
    "beartype.beartype",
)

DATA = Path(__file__).parents[2] / "shared" / "data"


hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")  # how long an example takes is the machine's business


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:  # several processes, and what they start, share the cores
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if DATA.is_dir():
        os.environ.setdefault("GEOML_DATA", str(DATA))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "GEOML_DATA" not in os.environ:
        for item in items:
            if item.get_closest_marker("data"):
                item.add_marker(pytest.mark.skip(reason="GEOML_DATA: no real data sets here"))


def _skips(config: pytest.Config) -> list[tuple[str, bool]]:
    """(reason, forbidden) of each skip. GEOML_NO_SKIPS names the markers that may be skipped, ``gpu,data``."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    allowed = {m for m in os.environ.get("GEOML_NO_SKIPS", "").split(",") if m}
    found = []
    for report in reporter.stats.get("skipped", []) if reporter else []:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        found.append((reason.removeprefix("Skipped: "), bool(allowed) and allowed.isdisjoint(report.keywords)))
    return found


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if again := terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"{len(again)} failed at first and got a second try")
    for report in again:
        terminalreporter.write_line(f"{report.nodeid}: {str(report.longrepr).strip().splitlines()[-1]}")
    if counted := Counter(_skips(config)):
        terminalreporter.section(f"{counted.total()} skipped")
    for (reason, forbidden), n in counted.most_common():
        terminalreporter.write_line(f"{n} x {reason}{'  (GEOML_NO_SKIPS: counts as failure)' if forbidden else ''}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and any(forbidden for _, forbidden in _skips(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    """Settings are read once in a process; what a test sets does not reach the next one."""
    settings.cache_clear()
    before = {k: v for k, v in os.environ.items() if k.startswith("GEOML_")}
    yield
    for name in [k for k in os.environ if k.startswith("GEOML_") and k not in before]:
        del os.environ[name]  # options of commands are settings for the processes that they start
    os.environ.update(before)
    settings.cache_clear()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``machine(precision="fp32", chip_batch=8)`` sets GEOML_… variables and forgets what was read before."""

    def put(**values: Any) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"GEOML_{name.upper()}", str(value))
        settings.cache_clear()

    return put


@pytest.fixture(autouse=True, scope="session")
def _this_machine_only() -> Iterator[None]:
    """Python's sockets reach loopback only, so a test that needs the network fails instead of being slow or flaky."""
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _near(address[0]):
            raise OSError(f"a test asked for {address[0]}; tests have no network")
        connect(self, address)

    def near_only(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host is not None and not _near(host):
            raise socket.gaierror(f"a test asked for {host!r}; tests have no network")
        return lookup(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        patch.setattr(socket, "getaddrinfo", near_only)
        yield


@pytest.fixture(scope="session")
def stac_schemas() -> ModuleType:
    """``tests/schemas/stac.py``, which is no package; its ``validate(item or collection)`` needs no network."""
    spec = importlib.util.spec_from_file_location("stac_schemas", Path(__file__).parent / "schemas" / "stac.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def conforms() -> Callable[[Path], bool]:
    """True for a file that the validator of GeoParquet takes."""

    def check(path: Path) -> bool:
        command = [str(Path(sys.executable).with_name("geoparquet-validator")), "check", "--json", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode == 0

    return check


def _near(host: str | bytes) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    try:
        return ipaddress.ip_address(name.split("%")[0]).is_loopback or name == "0.0.0.0"
    except ValueError:
        return name in ("localhost", "", socket.gethostname())
