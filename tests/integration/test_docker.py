"""The CPU image: built by a private Docker engine, then the demo inside it with the network off.

GEOML_DOCKER_BASE names a base image that the engine has (default: a Debian made by debootstrap), GEOML_DOCKER_DIR a
folder that keeps the engine's layers for the next run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import geopandas
import pytest
import yaml

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
CLIENT = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
NEEDED = {"dockerd": "docker.io", CLIENT: "docker.io", "iptables": "iptables"}
IMAGE = "geoml-test:cpu"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def docker(socket: str, *words: str | Path, timeout: float = 600) -> str:
    """Run ``docker WORDS``; what it printed."""
    env = {**os.environ, "DOCKER_HOST": socket, "DOCKER_BUILDKIT": "1"}
    run = subprocess.run(
        [CLIENT, *map(str, words)], env=env, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert run.returncode == 0, f"docker {' '.join(map(str, words))}\n{run.stdout[-4000:]}{run.stderr[-4000:]}"
    return run.stdout


@pytest.fixture(scope="module")
def engine(stack: ModuleType) -> Iterator[str]:
    """The socket of an engine of our own: without bridge and rules, so that it changes nothing on this machine."""
    if os.geteuid() != 0:
        pytest.skip("Docker engine: needs root")
    for command, package in NEEDED.items():
        if not shutil.which(command):
            pytest.skip(f"{command}: not installed (package {package})")
    kept = os.environ.get("GEOML_DOCKER_DIR")
    folder = Path(kept or tempfile.mkdtemp(prefix="geoml-docker-"))
    socket = f"unix://{folder}/docker.sock"

    class Engine(stack.Service):  # type: ignore[misc, name-defined]
        patience = grace = 60.0

        def launch(self) -> None:
            words = ["--data-root", folder / "data", "--exec-root", folder / "exec", "-p", folder / "pid", "-H", socket]
            self.spawn(["dockerd", *words, "--bridge=none", "--iptables=false", "--ip6tables=false"])

        def ready(self) -> bool:
            words = [CLIENT, "-H", socket, "version"]
            return subprocess.run(words, capture_output=True, timeout=30, check=False).returncode == 0

    running = Engine(folder)
    try:
        try:
            running.start()
        except stack.StackError as err:
            pytest.skip(f"Docker engine: does not come up here: {str(err)[-800:]}")
        yield socket
    finally:
        running.stop()
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def base(engine: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image to build on."""
    if given := os.environ.get("GEOML_DOCKER_BASE"):
        return given
    name = "geoml-base:bookworm"
    if docker(engine, "images", "-q", name):
        return name
    if not shutil.which("debootstrap"):
        pytest.skip("debootstrap: not installed (package debootstrap)")
    root = tmp_path_factory.mktemp("base") / "root"
    words = [
        "debootstrap",
        "--variant=minbase",
        "--include=ca-certificates,python3,python3-venv",
        "bookworm",
        str(root),
    ]
    made = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert made.returncode == 0, made.stdout[-3000:]
    archive = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
    with archive:
        subprocess.run(
            [CLIENT, "-H", engine, "import", "-", name],
            stdin=archive.stdout,
            capture_output=True,
            check=True,
            timeout=300,
        )
    shutil.rmtree(root)
    return name


@pytest.fixture(scope="module")
def image(engine: str, base: str) -> str:
    words = ["--network=host", "--build-arg", f"BASE={base}", "-f", "docker/cpu.Dockerfile", "-t", IMAGE, "."]
    if CERTIFICATES.exists():
        words = ["--secret", f"id=ca,src={CERTIFICATES}", *words]
    with tempfile.NamedTemporaryFile("w") as index:
        if url := os.environ.get("PIP_INDEX_URL"):  # it may hold a password: a secret leaves no trace in the image
            index.write(url)
            index.flush()
            words = ["--secret", f"id=index,src={index.name}", *words]
        docker(engine, "build", *words, timeout=1500)
    return IMAGE


def inside(engine: str, image: str, *words: str, **options: Any) -> str:
    """Run ``words`` in the image without any network."""
    return docker(engine, "run", "--rm", "--network", "none", *options.pop("also", []), image, *words, **options)


def test_the_image_runs_the_demo_with_the_network_off(engine: str, image: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    assert inside(engine, image, "ls", "/sys/class/net").split() == ["lo"]
    said = inside(engine, image, "geoml", "demo", "--out", "/out/demo", also=["-v", f"{out}:/out"])
    assert "9 blocks" in said
    run = json.loads((out / "demo" / "run.json").read_text())
    assert len(run["blocks"]["done"]) == 9
    assert run["blocks"]["failed"] == {}
    assert {p.owner() if p.stat().st_uid < 1000 else p.stat().st_uid for p in out.rglob("*")} == {10001}, "not root"
    for name in run["files"]:
        assert (out / "demo" / name).exists(), name
    found = geopandas.read_parquet(out / "demo" / "features.parquet").to_crs(6933)
    known = geopandas.read_file(ROOT / "catalogs" / "demo" / "labels-test.geojson").to_crs(6933)
    both = known.overlay(found, how="intersection", keep_geom_type=True)
    right = both[both["class_1"] == both["name"]].area.sum() / both.area.sum()
    assert right > 0.95, "the labels that training never saw"


def test_the_image_is_careful(engine: str, image: str) -> None:
    """Another user than root, sources that it cannot change, a health check that works, and no secret left behind."""
    assert inside(engine, image, "id", "-u").strip() == "10001"
    denied = "touch /app/x /opt/geoml/x 2>/dev/null && echo written || echo refused"
    assert inside(engine, image, "sh", "-c", denied).strip() == "refused"
    config = json.loads(docker(engine, "image", "inspect", image))[0]["Config"]
    assert config["User"] == "geoml"
    assert config["Healthcheck"]["Test"][-2:] == ["python", "/app/docker/health.py"]
    assert inside(engine, image, "python", "/app/docker/health.py") == ""
    with pytest.raises(AssertionError, match="URLError"):
        inside(engine, image, "python", "/app/docker/health.py", also=["-e", "GEOML_HEALTH=http://127.0.0.1:9/health"])
    assert inside(engine, image, "sh", "-c", "ls -A /run/build 2>/dev/null || true").strip() == ""
    found = set(inside(engine, image, "python", "-m", "pip", "freeze").splitlines())
    pinned = {_plain(line.split(" ")[0]) for line in (ROOT / "requirements.txt").read_text().splitlines()}
    names = {f for f in map(_plain, found) if re.fullmatch(r"[a-z0-9-]+==\S+", f)}
    assert len(names) > 100
    assert names - pinned == set()


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+(?=.*==)", "-", name).lower()


def test_the_compose_file_holds_together(tmp_path: Path) -> None:
    """Every service has a health check or runs once, each waits for those that it needs, and compose can read it."""
    file = ROOT / "docker" / "compose.yaml"
    services = yaml.safe_load(file.read_text())["services"]
    once = {name for name, s in services.items() if s.get("restart") == "no"}
    assert {name for name, s in services.items() if "healthcheck" not in s} == once
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in once else "service_healthy"
            assert how["condition"] == expected, f"{name} on {other}"
    if not shutil.which("docker-compose"):
        pytest.skip("docker-compose: not installed (package docker-compose)")
    for name in ("compose.yaml", "compose.env.in", "passwords.sh"):
        shutil.copy(file.with_name(name), tmp_path)
    subprocess.run(["sh", tmp_path / "passwords.sh"], check=True)
    words = ["docker-compose", "--env-file", tmp_path / "compose.env", "-f", tmp_path / "compose.yaml", "config"]
    checked = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr
    given = dict(line.split("=", 1) for line in (tmp_path / "compose.env").read_text().splitlines() if "=" in line)
    whole = yaml.safe_load(checked.stdout)["services"]
    assert {s["environment"]["PGPASSWORD"] for s in whole.values()} == {given["PGPASSWORD"]}
    assert f":{given['PGPASSWORD']}@" in whole["prefect"]["environment"]["PREFECT_API_DATABASE_CONNECTION_URL"]
