"""Every promise of SECURITY.md and every row of faults in docs/operations.md names tests, and each of them exists.

In a last column called "test": ``FILE::test_name``, ``::test_name`` of the file before it, a file alone, or
``make TARGET``; FILE is a path, a name that only the tests have, or an abbreviation that the document explains as "X is
`FILE`" or "X `FILE`". A name may end with ``…``, and ``test_`` may stay away from its front.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.documents import ROOT

TABLES = {"docs/operations.md": 90, "docs/readers.md": 10, "SECURITY.md": 50}
"""How many tests each names at the least, so that a table that is not understood is seen."""

_FUNCTION = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)
_SHORT = re.compile(r"\b([A-Z]{1,3})\s+(?:is\s+)?`([\w./]+\.py)`")


@cache
def functions(path: Path) -> frozenset[str]:
    return frozenset(_FUNCTION.findall(path.read_text(encoding="utf-8")))


@cache
def files(name: str) -> tuple[Path, ...]:
    """The file at a path, or those of the tests with that name."""
    if "/" in name:
        return (ROOT / name,) if (ROOT / name).is_file() else ()
    return tuple(sorted((ROOT / "tests").rglob(name)))


def cells(text: str) -> list[tuple[str, str]]:
    """(first words of the row, last cell) of all rows of tables whose last column is called test."""
    found, inside = [], False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        row = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if row[-1] == "test":
            inside = True
        elif inside and not set(row[-1]) <= set("-: "):
            found.append((" / ".join(row[:2])[:60], row[-1]))
        elif inside and not row[-1]:
            found.append((" / ".join(row[:2])[:60], ""))
    return found


def lost(cell: str, short: dict[str, str]) -> list[str]:
    """What a cell names and there is not."""
    wrong, here = [], tuple[Path, ...]()
    words = [w.strip(" `").removesuffix(" beside it").strip("`") for w in re.split(r",\s|;\s|\sand\s", f"{cell} ")]
    if not [w for w in words if w not in ("", "…")]:
        return ["names no test"]
    for word in words:
        if word in ("", "…"):
            continue
        if make := re.fullmatch(r"make ([\w-]+)", word):
            if not re.search(rf"^{make[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE):
                wrong.append(word)
            continue
        file, colons, name = word.partition("::")
        here = files(short.get(file, file)) if file else here
        if not here:
            wrong.append(f"{word}: no such file")
        elif colons and not any(named(name, functions(path)) for path in here):
            wrong.append(f"{word}: not in {', '.join(str(p.relative_to(ROOT)) for p in here)}")
    return wrong


def named(name: str, known: frozenset[str]) -> bool:
    name = re.sub(r"\[.*\]$", "", name.rpartition("::")[2])
    name = name if name.startswith("test_") else f"test_{name}"
    return any(k.startswith(name[:-1]) for k in known) if name.endswith("…") else name in known


@pytest.mark.parametrize("document", TABLES)
def test_every_line_names_tests_that_there_are(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    short = dict(_SHORT.findall(text))
    rows = cells(text)
    assert {row: wrong for row, cell in rows if (wrong := lost(cell, short))} == {}
    assert sum(cell.count("::") for _, cell in rows) >= TABLES[document]


@pytest.mark.parametrize(
    ("cell", "wrong"),
    [
        ("N::test_every_line_names_tests_that_there_are", None),
        ("N::every_line…, ::test_every…, `make lint`, tests/docs/documents.py", None),
        ("N, …", None),
        ("N::test_every_line", "not in tests/docs/test_named_tests.py"),
        ("N::nobody…", "not in"),
        ("X::test_every_line…", "no such file"),
        ("tests/docs/test_gone.py", "no such file"),
        ("`make nothing`", "make nothing"),
        ("…", "names no test"),
        ("", "names no test"),
    ],
)
def test_a_test_that_is_not_there_is_found(cell: str, wrong: str | None) -> None:
    found = lost(cell, {"N": "test_named_tests.py"})
    assert (found == []) if wrong is None else (len(found) == 1 and wrong in found[0])


def test_rows_of_tables_of_tests_alone() -> None:
    text = "| a | test |\n|---|---|\n| one | X |\n| two | |\n\n| a | b |\n|---|---|\n| three | Y |\n"
    assert cells(text) == [("one / X", "X"), ("two / ", "")]
