"""Words of others in messages, logs and on the terminal: one line, no control characters, no endless list."""

from __future__ import annotations

import io
import logging
import unicodedata
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from typer.testing import CliRunner

from geoml import logs
from geoml.cli import app
from geoml.cli.terminal import Terminal, escaped
from geoml.errors import DataError, unknown
from geoml.texts import in_python, listed, percent, plain, short

EVIL = "A1\nWARNING run=00000000 forged\x1b[31m\r\x07\u202e\u200b\u2028\x85\ud800[/red][bold]"
"""Line ends, an escape sequence, a bell, a turn of the direction, a separator, half a pair, and markup."""


def harmless(text: str) -> bool:
    bad = [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\n"]
    return not bad and not any(line.startswith("WARNING run=00000000") for line in text.splitlines())


@given(st.text())
def test_plain_is_one_line_and_once_is_enough(text: str) -> None:
    said = plain(text)
    assert said.isprintable()
    assert plain(said) == said
    assert len(said.splitlines()) <= 1


def test_plain_leaves_words_of_all_languages() -> None:
    for text in ("Zürich", "北京市", "Θήρα", "ẞ → ½ km²", "a b"):
        assert plain(text) == text
    assert plain("a\nb\x1b") == "a\\nb\\x1b"


def test_lists_end() -> None:
    names = [f"n{k}" for k in range(47)]
    assert listed(names) == "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, … and 37 more"
    assert listed(names[:10]) == ", ".join(names[:10])
    assert listed([]) == "none"
    assert listed(["a", "b", "c"], joined="; ", most=2) == "a; b; … and 1 more"
    assert len(listed(["x" * 10**6] * 1000)) < 5000
    assert len(str(unknown("model", "y" * 10**6, ["x" * 10**6] * 3))) < 3000
    assert short("abc", 2) == "a…"


def test_errors_are_one_line() -> None:
    assert harmless(str(DataError(f"item {EVIL}: gone")))
    assert str(DataError(f"item {EVIL}: gone")).startswith("item A1\\nWARNING")


@pytest.fixture
def lines() -> Iterator[Callable[[], str]]:
    """What a handler of ours writes for every record of this process."""
    before, said = logging.getLogRecordFactory(), io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(logging.Formatter(logs.FORMAT))
    handler.addFilter(logs.Context())
    loggers = [logging.getLogger(name) for name in ("geoml.test", "prefect.flow_runs", "somebody")]
    others = [log.handlers for log in loggers]
    for log in loggers:
        log.handlers = [handler]  # Prefect's own asks for a flow
    logs.guard()
    yield said.getvalue
    logging.setLogRecordFactory(before)
    for log, theirs in zip(loggers, others, strict=True):
        log.handlers = theirs


@pytest.mark.parametrize("name", ["geoml.test", "prefect.flow_runs", "somebody"])
def test_no_record_of_anybody_forges_a_line(lines: Callable[[], str], name: str) -> None:
    log = logging.getLogger(name)
    with logs.about(item=EVIL):
        log.warning("item %s failed: %r", EVIL, {"href": f"https://me:S3CRET@a.example/{EVIL}"})
    try:
        int(f"{EVIL} https://a.example/x?sig=S3CRET".replace("[", ""))
    except ValueError:
        log.exception("not read")
    said = lines()
    assert harmless(said)
    assert "S3CRET" not in said
    heads = [line for line in said.splitlines() if line.startswith(("WARNING", "ERROR"))]
    assert len(heads) == 2
    assert all(line.startswith("  ") for line in said.splitlines() if line not in heads), "a traceback is indented"


def test_nothing_that_is_printed_obeys_others() -> None:
    for terminal in (True, False):
        file = io.StringIO()
        console = Terminal(file=file, force_terminal=terminal, color_system=None, width=400)
        console.print(f"wrote {EVIL}")
        table = Table("file", EVIL, title=f"{EVIL} https://a.example/x?sig=S3CRET")
        table.add_row(EVIL, escaped(EVIL, "red"))
        console.print(table)
        said = file.getvalue()
        assert harmless(said)
        assert "S3CRET" not in said
        assert said.count("[/red][bold]") == 5, "markup of others is text"


def test_tables_are_folded_and_never_cut() -> None:
    name, words = "LC08_L1TP_224077_20200518_20200518_01_RT", ["flooded_vegetation_and_more", "2018-10-13T10:20:30Z"]

    def shown(*cells: str, width: int = 80, begin: str = "│") -> list[list[str]]:
        file = io.StringIO()
        table = Table("name", *(f"precision{k}" for k in range(len(cells) - 1)))
        table.add_row(*cells)
        Terminal(file=file, width=width).print(table)
        lines = file.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in file.getvalue()
        return [[c.strip() for c in line.split(begin)[1:-1]] for line in lines if line.startswith(begin)]

    folded = shown(name, *words, *words)
    assert folded[0][0] == name, "a name is typed and looked for"
    assert ["".join(column) for column in zip(*folded, strict=True)] == [name, *words, *words]
    assert "".join(row[0] for row in shown(name, *words, width=60)) == name, "too long for its line"
    assert shown("car", *["0.123"] * 6, begin="┃")[0] == ["name", *(f"precision{k}" for k in range(6))]


def test_a_long_sentence_is_one_line() -> None:
    """Blanks in an id could else choose where a line begins."""
    file = io.StringIO()
    Terminal(file=file, width=80).print("left out: " + " " * 69 + "WARNING run=00000000 forged")
    assert len(file.getvalue().splitlines()) == 1


@pytest.mark.parametrize(
    "words", [["search", "demo", f"--{EVIL}"], ["search", "demo", EVIL, "--datetime", "2020"], [EVIL], ["area", EVIL]]
)
def test_complaints_about_the_command_line_are_plain(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert harmless(result.output)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1.0, 1, "100 %"), (0.0, 1, "0 %"), (0.973, 1, "97.3 %"), (0.001, 1, "0.1 %"), (0.999, 1, "99.9 %"),
        (4 / 300_600, 1, "<0.1 %"), (0.00099, 1, "<0.1 %"), (0.9991, 1, ">99.9 %"), (1 - 1e-12, 1, ">99.9 %"),
        (0.004, 0, "<1 %"), (0.996, 0, ">99 %"), (0.5, 0, "50 %"), (0.00001, 2, "<0.01 %"), (0.00123, 2, "0.12 %"),
        (-0.2, 1, "-20.0 %"), (1.2, 1, "120.0 %"),
    ],
)  # fmt: skip
def test_a_share_never_rounds_to_all_or_nothing(value: float, digits: int, text: str) -> None:
    assert percent(value, digits) == text


def test_a_share_that_is_not_known() -> None:
    assert percent(None) == "–"
    assert percent(None, none="") == ""


def test_a_command_without_words_shows_its_help() -> None:
    result = CliRunner().invoke(app, [])
    assert "Usage:" in result.output
    assert "search" in result.output


def test_a_message_in_python_names_arguments() -> None:
    assert in_python("or --out-of-domain allow") == "or out_of_domain='allow'"
    assert in_python("one --image each, or --max-shift") == "one image= each, or max_shift="
    assert in_python("a -- b, 1--2, s3://a--") == "a -- b, 1--2, s3://a--"
