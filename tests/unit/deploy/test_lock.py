"""The lock: each package by version and hash, for all ways to install, and nothing that is not in it."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
UV = Path(sys.executable).parent / "uv"
LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
INSTALLS = re.compile(r"(?:pip install|uv pip install)\b[^\n;|]*(?:\\\n[^\n]*)*")


def entries() -> dict[str, list[str]]:
    """``name==version`` with marker, and the hashes of its files."""
    joined = LOCK.replace("\\\n", " ")
    lines = [line.split() for line in joined.splitlines()]
    return {" ".join(w for w in words if not w.startswith("--")): [w for w in words if w[0] == "-"] for words in lines}


def test_each_package_has_a_version_and_hashes() -> None:
    found = entries()
    assert len(found) > 200
    wishes = [Requirement(text) for text in found]
    assert [str(w) for w in wishes if w.url or [s.operator for s in w.specifier] != ["=="]] == []
    assert [text for text, hashes in found.items() if not hashes] == []
    assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", h) for hashes in found.values() for h in hashes)
    assert "://" not in LOCK, "no index, no host"


def test_build_tools_are_pinned_to_what_is_locked() -> None:
    locked = {Requirement(text).name: str(Requirement(text).specifier) for text in entries()}
    groups = PROJECT["dependency-groups"]
    texts = [t for name in ("tools", "build") for t in groups[name] if isinstance(t, str)]
    pinned = [Requirement(text) for text in texts]
    assert {w.name for w in pinned} == {"editables", "hatch-fancy-pypi-readme", "hatchling", "uv"}
    assert {w.name: str(w.specifier) for w in pinned} == {w.name: locked[w.name] for w in pinned}
    assert PROJECT["build-system"]["requires"] == [t for t in texts if "hatch" in t]


@pytest.mark.parametrize("file", ["Makefile", "docker/install.sh", *(f"docker/{n}.Dockerfile" for n in ("cpu", "gpu"))])
def test_every_installation_asks_for_hashes_or_for_nothing_from_elsewhere(file: str) -> None:
    found = INSTALLS.findall((ROOT / file).read_text(encoding="utf-8"))
    assert found
    for command in found:
        own = "--no-deps" in command and "--no-build-isolation" in command and re.search(r"-e \.", command)
        assert own or "hashes" in command, command


def wheel(path: Path, body: str) -> str:
    """A package of one file; its sha256."""
    info = f"{path.name.rpartition('-py3')[0]}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("locked_thing.py", body)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: locked-thing\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_another_file_under_the_name_of_a_package_is_not_installed(tmp_path: Path) -> None:
    """By the command that ``make env`` runs."""
    told = subprocess.run(["make", "-n", "-B", "env"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = (c for c in told.splitlines() if "-r requirements.txt" in c)
    options = [w for w in shlex.split(line)[3:] if w != "--quiet"]
    at = options.index("--python")
    del options[at : at + 2]
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    file = shelf / "locked_thing-1.0-py3-none-any.whl"
    (tmp_path / "requirements.txt").write_text(f"locked-thing==1.0 \\\n    --hash=sha256:{wheel(file, 'x = 1')}\n")

    def install(target: str) -> subprocess.CompletedProcess[str]:
        more = ["--target", target, "--no-index", "--find-links", str(shelf), "--no-cache", "--no-config"]
        words = [str(UV), "pip", "install", *options, *more]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert install("good").returncode == 0, install("good").stderr
    assert (tmp_path / "good" / "locked_thing.py").read_text() == "x = 1"
    wheel(file, "x = 2")
    changed = install("bad")
    assert changed.returncode != 0
    assert "Hash mismatch" in changed.stderr
    assert not (tmp_path / "bad" / "locked_thing.py").exists()
    (tmp_path / "requirements.txt").write_text("locked-thing==1.0\n")
    assert install("none").returncode != 0, "without a hash nothing is installed"
