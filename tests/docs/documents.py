"""The code blocks of the documents, each with the mark that says how it runs.

A mark is an HTML comment on the line before a block, which no reader sees: ``<!-- run: CLAUSE; CLAUSE -->``.

==============  ====================================================================================================
no mark         it runs as it stands
``slow``        so it does, and takes more than some twenty seconds
``with NAME``   so it does, after a function of that name in `tests.docs.given` laid out what it speaks of
``as FILE``     its text is written to FILE, for the blocks that follow
``instead ...`` these words run in its place, a short variant; needs ``since``
``by ...``      not run here: the named tests or files run it, which is checked as far as names go; needs ``since``
``since ...``   why
==============  ====================================================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = ("bash", "python", "yaml")
LANGUAGES = (*RUN, "text")
"""``text`` is a drawing and no command."""

_FENCE = re.compile(r"^```(.*)$")
_MARK = re.compile(r"^<!-- run: (.*) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its ``document`` below the root, the ``line`` of its first fence, and its mark in clauses."""

    document: str
    line: int
    language: str
    text: str
    clauses: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        return f"{self.document}:{self.line}"

    def get(self, name: str) -> str | None:
        return dict(self.clauses).get(name)

    @property
    def slow(self) -> bool:
        return self.get("slow") is not None

    @property
    def given(self) -> list[str]:
        return re.split(r",\s*", self.get("with") or "") if self.get("with") else []

    @property
    def elsewhere(self) -> list[str]:
        return re.split(r",\s*", self.get("by") or "") if self.get("by") else []


def names() -> list[str]:
    """The documents, from the root."""
    files = [
        *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
        *sorted((ROOT / "docs").glob("*.md")),
    ]
    return [str(p.relative_to(ROOT)) for p in files]


def blocks(document: str, text: str | None = None) -> list[Block]:
    """The blocks of a document in their order. Raises ValueError for a mark or a fence that is not understood."""
    lines = (text if text is not None else (ROOT / document).read_text(encoding="utf-8")).splitlines()
    found, start, mark = [], None, ""
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if start is None and fence:
            start, language = number, fence[1].strip()
            above = _MARK.match(lines[number - 2]) if number > 1 else None
            mark = above[1] if above else ""
        elif start is not None and fence:
            body = "\n".join(lines[start : number - 1]) + "\n"
            found.append(Block(document, start, language, body, _clauses(mark, f"{document}:{start}")))
            start = None
        elif start is None and line.startswith("<!-- run:") and not _leads(lines, number):
            raise ValueError(f"{document}:{number}: a mark stands right before a block")
    if start is not None:
        raise ValueError(f"{document}:{start}: a block without an end")
    return found


def _leads(lines: list[str], number: int) -> bool:
    return _MARK.match(lines[number - 1]) is not None and number < len(lines) and bool(_FENCE.match(lines[number]))


def _clauses(mark: str, where: str) -> tuple[tuple[str, str], ...]:
    clauses = []
    for clause in filter(None, re.split(r";\s+", mark)):
        name, _, value = clause.partition(" ")
        if name not in ("slow", "with", "as", "instead", "by", "since") or (name != "slow") != bool(value):
            raise ValueError(f"{where}: {clause!r} is not a clause of a mark")
        clauses.append((name, value))
    known = dict(clauses)
    if len(known) != len(clauses) or (("instead" in known or "by" in known) != ("since" in known)):
        raise ValueError(f"{where}: each clause once, and a reason (since) for instead and by, and for no other")
    return tuple(clauses)


def commands(text: str) -> list[str]:
    """The ``geoml …`` commands of a bash block, each on one line, without comments and what is piped after."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines())
    return [m[1].strip() for line in lines for m in re.finditer(r"(?:^|[;&] |geoml:\w+ )(geoml [^|;&]*)", line)]
