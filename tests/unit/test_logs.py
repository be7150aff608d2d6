"""Log lines carry the ids of what is worked on, in threads as well, and no line breaks of a foreign id."""

from __future__ import annotations

import logging

import pytest

from geoml import logs

log = logging.getLogger("geoml.test")


def test_lines_carry_ids_also_in_threads(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        logs.setup(logging.INFO)
        logs.setup(logging.INFO)
        log.info("outside")
        with logs.about(run="r"), logs.about(block="b"), logs.Threads(1) as pool:
            with logs.about(item="evil\nERROR id"):
                pool.submit(log.info, "read %d", 2).result()
            log.info("done")
        log.info("outside")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert capsys.readouterr().err.splitlines() == [
        "INFO outside",
        r"INFO run=r block=b item='evil\nERROR id' read 2",
        "INFO run=r block=b done",
        "INFO outside",
    ]
