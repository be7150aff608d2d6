"""What stands around an example of `make fuzz` sees what it is there for; in a process of its own, for hooks stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


CONNECTS = """
import socket
from contextlib import suppress
from pathlib import Path
from tests.fuzz.guard import Connections, Served
guard, served = Connections(), Served(Path("catalogs").resolve())
guard.allowed.add(served.port)
socket.create_connection(("127.0.0.1", served.port)).close()
guard.check()
with suppress(OSError):
    socket.create_connection(("no.such.invalid", 80))
guard.check()
for address in (("127.0.0.1", served.other), ("10.0.0.1", served.port), ("169.254.1.1", 80)):
    with suppress(OSError):
        socket.create_connection(address, 0.1)
    try:
        guard.check()
    except AssertionError as err:
        print(err)
"""


def test_a_connection_is_seen() -> None:
    """Only to the server of the test, and only to its port."""
    ended = run(CONNECTS)
    assert ended.returncode == 0, ended.stderr
    assert [line.rpartition(":")[0].split()[-1] for line in ended.stdout.splitlines()] == [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.1.1",
    ]


@pytest.mark.parametrize(
    ("what", "seconds", "code", "said"),
    [
        ("time.sleep(60)", 1, 8, "hangs: "),
        ("held.append(bytearray(300 * 2**20)); time.sleep(60)", 50, 9, "holds "),
        ("time.sleep(0.5)", 50, 0, "done"),
    ],
)
def test_what_hangs_or_eats_ends_with_its_example(what: str, seconds: int, code: int, said: str) -> None:
    ended = run(
        "import time\nfrom tests.fuzz.guard import Watchdog\nheld = []\n"
        f"dog = Watchdog({seconds}, 200, 'the line to repeat it')\n"
        f"with dog.example({{'id': 'odd'}}):\n    {what}\nprint('done')"
    )
    assert ended.returncode == code, ended.stderr
    assert said in ended.stdout
    if code:
        assert "{'id': 'odd'}" in ended.stdout
        assert "the line to repeat it" in ended.stdout
