"""Lists as spreadsheets and annotation tools write them: quotes, a byte order mark, ``;`` or tabs, blank lines.

RFC 4180 where it says something; what it does not know is what Excel and its relatives do.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ERRORS = (OSError, UnicodeError, csv.Error)
"""What reading a list may raise: the file, its encoding, a field without end."""

_DELIMITERS = ",;\t"


@contextmanager
def cells(path: str | Path) -> Iterator[Iterator[list[str]]]:
    """The rows of a list, one after the other, as cells without blanks around them; empty rows are left out.

    UTF-8, or UTF-16 by its byte order mark. What separates cells is what gives the first row the most of them, or what
    a first line ``sep=;`` says. Raises `ERRORS`.
    """
    with Path(path).open("rb") as binary:
        start = binary.read(2)
        binary.seek(0)
        encoding = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        with io.TextIOWrapper(binary, encoding, newline="") as file:
            yield _rows(file)


def _rows(file: io.TextIOWrapper) -> Iterator[list[str]]:
    first = ""
    for first in file:
        if first.strip():
            break
    delimiter = max(_DELIMITERS, key=lambda d: len(next(csv.reader([first], delimiter=d, skipinitialspace=True), [])))
    line = first.strip().lower()
    if line.startswith("sep=") and len(line) == 5:
        delimiter, first = line[4], ""

    def lines() -> Iterator[str]:
        if first:
            yield first
        yield from file

    for row in csv.reader(lines(), delimiter=delimiter, skipinitialspace=True):
        bare = [cell.strip() for cell in row]
        if any(bare):
            yield bare


@contextmanager
def table(path: str | Path) -> Iterator[tuple[list[str], Iterator[dict[str, str]]]]:
    """(names of the columns, rows by name) of a list whose first row names them; what a row lacks is empty.

    Raises `ERRORS`.
    """
    with cells(path) as rows:
        names = next(rows, [])
        yield names, (dict(zip(names, [*row, *[""] * (len(names) - len(row))], strict=False)) for row in rows)


def number(text: str) -> float:
    """A number, also with a decimal comma. Raises ValueError."""
    return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
