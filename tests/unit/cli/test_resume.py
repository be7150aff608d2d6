"""What is said when work is stopped, and when there was none to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from geoml.cli.resume import resumable
from geoml.errors import DataError


def test_who_stops_is_told_what_is_kept_and_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/geoml", "predict", "--out", "my run", "-c", "https://h.example/c?sig=S"])
    for stop in (KeyboardInterrupt(), SystemExit(143)):
        with pytest.raises(type(stop)), resumable("my run", lambda: "3 of 7 blocks are done"):
            raise stop
        told = capsys.readouterr().err.splitlines()
        assert told[0] == "Stopped: 3 of 7 blocks are done, kept in my run"
        assert told[1].startswith("To resume: geoml predict --out 'my run' -c")
        assert "sig" not in told[1]
        assert told[2:] == ["A signature or password was left out of that line: give it again"]


def test_a_line_that_is_whole_is_said_without_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/geoml", "predict", "-c", "https://h.example/c"])
    with pytest.raises(KeyboardInterrupt), resumable("out", lambda: "all"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err.splitlines()[1:] == ["To resume: geoml predict -c https://h.example/c"]


@pytest.mark.parametrize("error", [SystemExit(2), DataError("broken")])
def test_an_error_is_no_stop(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(type(error)), resumable("out", lambda: "all"):
        raise error
    assert capsys.readouterr().err == ""


def test_only_what_was_finished_and_stayed_so_was_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = tmp_path / "run.json"

    def told(text: str | None) -> str:
        with resumable("out", lambda: "", lambda: last):
            if text is not None:
                last.write_text(text)
        return capsys.readouterr().err

    assert told(None) == ""
    assert told("first") == ""
    assert told("other") == ""
    assert told(None) == "Nothing to do: out was finished before, and nothing was changed\n"
