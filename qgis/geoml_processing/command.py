# SPDX-License-Identifier: GPL-2.0-or-later
"""The geoml command as a program of its own: its words, its progress, its end. Knows no QGIS."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

POLL = 0.5
"""Seconds between two looks at what is done."""
OWN = ("PYTHONHOME", "PYTHONPATH", "GDAL_DATA", "PROJ_LIB", "PROJ_DATA", "GDAL_DRIVER_PATH", "VIRTUAL_ENV")
"""Variables that QGIS sets for its own libraries, which are others than those of geoml."""


class CommandError(Exception):
    """The command could not be started, or ended with an error; the text is its last words."""


def planned(words: Sequence[str], stopped: Callable[[], bool]) -> int:
    """Blocks of the run, by a dry run, which reads no pixel; 0 where ``stopped`` says that nobody wants to know.

    Raises CommandError for what geoml refuses.
    """
    process = _started([*words, "--dry-run"])
    while True:
        try:
            told, _ = process.communicate(timeout=POLL)
            break
        except subprocess.TimeoutExpired:
            if stopped():
                process.terminate()
    if stopped():
        return 0
    if process.returncode:
        raise CommandError(_last(told.splitlines()))
    found = re.search(r"(\d+) blocks", told)
    return int(found[1]) if found else 0


def run(words: Sequence[str], out: Path, blocks: int, progress: Callable[[float], bool]) -> Iterator[str]:
    """The lines that the command prints; ``progress`` gets the share of blocks that are done, and says False to stop.

    The run is ended in order then: what is finished stays, and the same words go on with it. Raises CommandError.
    """
    process, lines = _started(words), queue.SimpleQueue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True)
    reader.start()
    said: list[str] = []
    stopped = False
    while reader.is_alive() or not lines.empty():
        reader.join(POLL)
        while not lines.empty():
            said.append(lines.get().rstrip())
            yield said[-1]
        done = len(list((out / "items").glob("*.json"))) if (out / "items").is_dir() else 0
        if not progress(min(1.0, done / max(blocks, 1))) and not stopped:
            process.terminate()
            stopped = True
    if process.wait() and not stopped:
        raise CommandError(_last(said))


def _started(words: Sequence[str]) -> subprocess.Popen[str]:
    plain = {k: v for k, v in os.environ.items() if k not in OWN}
    try:
        return subprocess.Popen(
            list(words), env={**plain, "COLUMNS": "120"}, text=True, encoding="utf-8", errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except OSError as err:
        where = "enter its path in Settings, Options, Processing, Providers, geoml"
        raise CommandError(f"{words[0]}: cannot be started ({err.strerror}); {where}") from err


def _last(lines: Sequence[str]) -> str:
    told = [line.strip() for line in lines if line.strip()]
    return "\n".join(told[-5:]) or "geoml ended without a word"
