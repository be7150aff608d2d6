"""The passwords of make stack: made here, for this user's eyes, and none in the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[3] / "docker"
SECRETS = ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("passwords.sh", "compose.env.in"):
        shutil.copy(DOCKER / name, tmp_path)
    return tmp_path


def made(folder: Path) -> dict[str, str]:
    old = os.umask(0)  # as open as can be
    try:
        subprocess.run(["sh", folder / "passwords.sh"], check=True, cwd="/")
    finally:
        os.umask(old)
    lines = (folder / "compose.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_each_stack_has_its_own(folder: Path) -> None:
    first = made(folder)
    (folder / "compose.env").unlink()
    second = made(folder)
    secrets = [env[name] for env in (first, second) for name in SECRETS]
    assert all(re.fullmatch("[0-9a-f]{32}", s) for s in secrets)
    assert len(set(secrets)) == 4
    assert {k: v for k, v in first.items() if k not in SECRETS} == {k: v for k, v in second.items() if k not in SECRETS}
    assert (folder / "compose.env").stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in folder.iterdir()) == ["compose.env", "compose.env.in", "passwords.sh"]


def test_what_is_there_stays_and_what_was_taken_out_is_made_anew(folder: Path) -> None:
    """Data in volumes have these passwords; a variable that is new in the template comes along."""
    before = made(folder)
    (folder / "compose.env").write_text(
        f"PGPASSWORD=of=mine\nAWS_SECRET_ACCESS_KEY={before['AWS_SECRET_ACCESS_KEY']}\n"
    )
    assert made(folder) == {**before, "PGPASSWORD": "of=mine"}
    (folder / "compose.env").write_text("PGPASSWORD=of=mine\n")
    after = made(folder)
    assert after["PGPASSWORD"] == "of=mine"
    assert after["AWS_SECRET_ACCESS_KEY"] not in ("", before["AWS_SECRET_ACCESS_KEY"])


NAMED = r"""(?i:PASSWORD|SECRET|SECRET_ACCESS_KEY)["']?\s*[=:]\s*"""
VALUE = {".py": re.compile(NAMED + r"""["']([^"'{}]+)["']"""), "": re.compile(NAMED + r"""["']?([^\s"'$@{}()]+)""")}
"""In Python a text, elsewhere any word; variables and ``@random@`` are none."""


@pytest.mark.parametrize(
    ("suffix", "line", "found"),
    [
        ("", "PGPASSWORD=geoml", ["geoml"]),
        ("", "  AWS_SECRET_ACCESS_KEY: 'geoml'", ["geoml"]),
        ("", "PGPASSWORD=@random@", []),
        ("", 'password="$PGPASSWORD"', []),
        (".py", '"AWS_SECRET_ACCESS_KEY": "geoml",', ["geoml"]),
        (".py", 'self.password = kept_secret(folder / "password")', []),
        (".py", "f'{driver}://postgres:{self.password}@{HOST}'", []),
    ],
)
def test_a_password_in_a_file_is_seen(suffix: str, line: str, found: list[str]) -> None:
    assert VALUE[suffix].findall(line) == found


def test_no_file_of_the_stack_holds_a_password() -> None:
    files = [p for p in DOCKER.iterdir() if p.is_file() and p.name != "compose.env"]
    assert len(files) > 10
    found = {p.name: VALUE[".py" if p.suffix == ".py" else ""].findall(p.read_text(encoding="utf-8")) for p in files}
    assert {name: words for name, words in found.items() if words} == {}


def test_git_and_the_images_do_not_see_it() -> None:
    root = DOCKER.parent
    assert "docker/compose.env" in (root / ".gitignore").read_text().splitlines()
    kept_out = (root / ".dockerignore").read_text().splitlines()
    assert kept_out.index("docker/compose.env*") > kept_out.index("!docker"), "the last word counts"
