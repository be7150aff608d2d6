"""What the documents say of commands, fields and columns is what the program has: nothing more, nothing less."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
import typer

from geoml import errors
from geoml.cli import app
from geoml.data.source import SOURCES
from tests.docs import documents
from tests.docs.documents import ROOT

DOCUMENTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in documents.names()}
ROOT_COMMAND: Any = typer.main.get_command(app)


def spoken() -> list[tuple[str, str]]:
    """Every ``geoml …`` of a block or of inline code, with its document."""
    found = []
    for name, text in DOCUMENTS.items():
        for block in documents.blocks(name):
            if block.language == "bash":
                found += [(block.id, c) for c in documents.commands(block.text)]
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        found += [(name, " ".join(m[1].split())) for m in re.finditer(r"`((?:geoml|python -m flows\.)[^`]*)`", prose)]
    return found


def command_of(words: list[str]) -> tuple[Any, list[str], list[str]]:
    """The command that words name, its name, and the words after it. Raises LookupError for a name that is none."""
    here, named = ROOT_COMMAND, []
    while words and hasattr(here, "commands"):
        while words and words[0] in ("-v", "--verbose"):
            words = words[1:]
        if not words or not re.fullmatch(r"[a-z-]+", words[0]) or words[0].startswith("-"):
            break
        if words[0] not in here.commands:
            if "run" in here.commands:  # geoml geolocate photo.jpg
                break
            raise LookupError(f"geoml {' '.join(named)} has no {words[0]}")
        here, named, words = here.commands[words[0]], [*named, words[0]], words[1:]
    if hasattr(here, "commands") and "run" in here.commands and words and words[0] != "--help":
        here = here.commands["run"]
    return here, named, words


def options(command: Any) -> set[str]:
    return {"--help"} | {name for p in command.params for name in (*p.opts, *p.secondary_opts) if name.startswith("-")}


def test_commands_and_their_options_exist() -> None:
    wrong, seen = [], 0
    for where, text in spoken():
        if not text.startswith("geoml "):
            continue
        words = [w for w in re.split(r"[\s()\[\]|=,]+", text)[1:] if w]
        if (words and words[0] in ("…", "COMMAND", "...")) or not words:
            continue
        try:
            command, named, left = command_of(words)
        except LookupError as err:
            wrong.append(f"{where}: {err}")
            continue
        seen += 1
        known = options(command)
        given = [o for w in left for o in w.split("/") if o.startswith("--")]
        wrong += [f"{where}: geoml {' '.join(named)} has no {o}" for o in given if o not in known]
    assert wrong == []
    assert seen > 60


def test_flows_that_are_spoken_of_take_these_options(capsys: pytest.CaptureFixture[str]) -> None:
    known: dict[str, str] = {}
    checked = 0
    blocks = [b for name in DOCUMENTS for b in documents.blocks(name) if b.language == "bash"]
    lines = [(b.id, line) for b in blocks for line in b.text.splitlines() if "python -m flows." in line]
    for where, text in [*lines, *(s for s in spoken() if s[1].startswith("python"))]:
        flow = re.search(r"python -m flows\.(\w+|…)(.*)", text)
        assert flow
        if flow[1] == "…":
            continue
        if flow[1] not in known:
            module = importlib.import_module(f"flows.{flow[1]}")
            with pytest.raises(SystemExit):
                module.main(["--help"])
            known[flow[1]] = capsys.readouterr().out
        for option in re.findall(r"--[\w-]+", flow[2].split("#")[0]):
            assert re.search(rf"{option}\b", known[flow[1]]), f"{where}: flows.{flow[1]} has no {option}"
            checked += 1
    assert checked >= 4


def test_every_option_is_in_the_documents() -> None:
    """An option that no document knows is one that nobody finds."""
    everything = "\n".join(DOCUMENTS.values())
    words = set(re.findall(r"--[a-z][\w-]*", everything))
    left, silent = [("", ROOT_COMMAND)], []
    while left:
        name, command = left.pop()
        if hasattr(command, "commands"):
            left += [(f"{name} {n}", c) for n, c in command.commands.items()]
            continue
        silent += [f"{name} {o}" for o in options(command) if o.startswith("--") and o not in words]
    assert silent == []


def table(document: str, heading: str) -> list[list[str]]:
    """The cells of the rows of the first table after a line that holds ``heading``."""
    lines = DOCUMENTS[document].splitlines()
    start = next(i for i, line in enumerate(lines) if heading in line)
    first = next(i for i in range(start, len(lines)) if lines[i].startswith("|"))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_sources_of_a_training_recipe() -> None:
    told = {n for row in table("docs/training.md", "## Sources") for n in names(row[0])}
    recipe = (ROOT / "geoml" / "data" / "recipe.py").read_text(encoding="utf-8")
    kinds = {*SOURCES.names(), *re.findall(r'^    kind: Literal\["(\w+)"\]$', recipe, flags=re.MULTILINE)}
    splits = {n for row in table("docs/training.md", "## Splits without leaks") for n in names(row[0])}
    assert told | splits == kinds


def test_the_errors() -> None:
    rows = {names(r[0])[0]: int(r[3]) for r in table("docs/all-of-geoml.md", "## Errors")}
    known = {
        c.__name__: c.exit_code
        for c in vars(errors).values()
        if isinstance(c, type) and c.__module__ == errors.__name__
    }
    assert rows == {n: code for n, code in known.items() if n in rows}
    assert set(known) - set(rows) <= {"GeomlError"}


TESTS = re.compile(r"\btest_\w+")


def test_tests_that_are_named_exist() -> None:
    """Links and tables name tests; a name may be cut by ``…``."""
    defined = set()
    for file in (ROOT / "tests").rglob("*.py"):
        defined |= {file.stem, *re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))}
    lost = []
    for name, text in DOCUMENTS.items():
        for match in TESTS.finditer(text):
            cut = text[match.end() : match.end() + 1] == "…"
            if not (any(d.startswith(match[0]) for d in defined) if cut else match[0] in defined):
                lost.append(f"{name}: {match[0]}")
    assert lost == []


def test_what_a_link_calls_a_test_is_in_its_file() -> None:
    pairs = re.findall(r"\[`(test_\w+)`\]\(([^)#]+\.py)\)", DOCUMENTS["README.md"])
    assert len(pairs) > 5
    for test, file in pairs:
        assert test in (ROOT / file).read_text(encoding="utf-8"), f"{test} is not in {file}"


MADE = (
    "geoml/models/dilated.py",
    "geoml/tasks/robust.py",
    "geoml/inputs/growing_season.py",
    "geoml/outputs/scalar.py",
    "catalogs/itaipu.yaml",
    "docker/compose.env",
)
"""By a reader, or by a command."""


def test_paths_in_code_exist() -> None:
    """``geoml/…``, ``tests/…``, ``catalogs/…``, ``flows/…`` and ``docker/…`` in inline code."""
    lost = []
    for name, text in DOCUMENTS.items():
        if name == "CHANGELOG.md":
            continue
        for path in re.findall(r"`((?:geoml|tests|catalogs|flows|docker)/[\w./*-]+)(?:::\w+)?`", text):
            if path not in MADE and not list(ROOT.glob(path.rstrip("/"))):
                lost.append(f"{name}: {path}")
    assert lost == []
