"""URLs without secrets: user names, passwords, queries and fragments are cut out of whatever is shown or kept.

What is shown (`redact`, `shown`) rather loses a part of a path than shows a part of a password: passwords may hold any
character, so everything up to the last ``@`` goes unless what stands before it can only be a host. What is kept
(`bare`) stays the URL of the same file. All of it takes time in proportion to the length of the text.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_AT = r"@|%(?:25){0,3}40|\uff20|\ufe6b"
_LAST_AT = re.compile(rf"(?:{_AT})")
_COLON = re.compile(r":|%(?:25){0,3}3[aA]")
_WORD = re.compile(r"[^\s\"'<>`]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}\Z")
_END = re.compile(r"[/\\?#;]|%(?:25){0,3}(?:2[fF]|3[fF]|23|5[cC])")
_TAIL = re.compile(r"[?#]|;(?=.)|%(?:25){0,3}3[fF]|%(?:25){0,3}23[^/]{0,64}?(?:=|%3[dD])")
_PAIR = re.compile(r"(?:[?#;&]|%(?:25){0,3}3[fF])[\w.~$%-]{1,64}(?:=|%3[dD])")
_NUMBERED = re.compile(r"(?:localhost|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.%]+\])(?::[0-9]+)?", re.IGNORECASE)
_NAMED = re.compile(r"(?:[\w-]+\.)+[\w-]+\.?")
_ANY_HOST = re.compile(r"[\w.-]+(?::[0-9]+)?|\[[0-9A-Fa-f:.%]+\](?::[0-9]+)?")
_PLAIN = re.compile(
    r"(?:file://(?:localhost)?(?=/)|[A-Za-z][A-Za-z0-9+.-]{0,31}://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?(?=[/?#]|\Z))"
    r"[^?#\\\s]*"
)
_LIKE_URL = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]{1,31}(?::|%3[aA])(?:[/\\]|%2[fF])|//|\\\\|[^/\\\s:@]{1,256}:(?![/\\])[^\s]*@"
)
_HINT = re.compile(r"[:?%#@\uff20\ufe6b]")
_PASSWORD = re.compile(r"(://[^/\\?#;:\[\]]{0,255}):(?![0-9]{0,5}(?![\w%]))[^/\\?#;,]*")
_MATRIX = re.compile(r";[\w.~-]{1,64}=|%3[fF][\w.~-]{1,64}(?:=|%3[dD])")
_BUCKETS = ("s3", "s3a", "gs", "az", "abfs", "abfss", "wasb", "wasbs")

_AHEAD = 256
"""Characters beyond a blank or quote in which the ``@`` of a broken URL is looked for."""


def redact(text: str) -> str:
    """Any text (a sentence, JSON, a log line) with its URLs as they may be shown; see `shown` for one URL alone."""
    if not _HINT.search(text):
        return text
    out: list[str] = []
    at = 0
    while match := _WORD.search(text, at):
        out.append(text[at : match.start()])
        end = match.end()
        if _unfinished(match[0], text[end : end + 1]) and (last := _last(_LAST_AT, text[end : end + _AHEAD])):
            rest = _WORD.match(text, end + last[1])
            end = rest.end() if rest else end + last[1]
        shown_word = _word(text[match.start() : end])
        if len(shown_word) < end - match.start() and text[end - 1] == "=" and text[end : end + 1] in ("'", '"'):
            end = m.end() if (m := re.compile(r"\S+").match(text, end)) else end  # a value in quotes
        out.append(shown_word)
        at = end
    out.append(text[at:])
    return "".join(out)


def shown(url: str) -> str:
    """A text that is one URL and nothing else, whatever characters it has, as it may be shown."""
    return _word(url) if "://" in url or _LIKE_URL.match(url) else redact(url)


def clean(text: str) -> str:
    """`redact`, and also without queries of bare paths, as libraries print them."""
    return re.sub(r"\?[^\s'\"]+", "", redact(text))


def bare(url: str) -> str:
    """``url`` as outputs may keep it: without query, fragment, signed parameters and user name; a path as it is."""
    if match := _PLAIN.match(url):
        return _MATRIX.split(match[0], maxsplit=1)[0]
    return shown(url) if "://" in url or _LIKE_URL.match(url) else url


def wrong(url: str) -> str | None:
    """What is wrong with ``url``, without quoting it; None for a plain URL and for a path."""
    user = "has a user name; expected none: credentials belong in the environment, see docs/storage.md"
    if "://" not in url:
        return user if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:[/\\]+[^/\\]*@", url) else None
    rest = url.partition("://")[2]
    authority = rest[: _authority(rest)]
    host = _ANY_HOST.fullmatch(authority) or (not authority and url[:5].lower() == "file:")
    if _LAST_AT.search(authority) or (not host and _LAST_AT.search(url)):
        return user
    try:
        urlsplit(url).port  # noqa: B018, reading it checks it
    except ValueError:
        return "is not a URL; expected a plain one"
    return None


def _word(word: str) -> str:
    """A word of a text: parts that begin with a scheme, and what stands before the first of them."""
    marks = [m.start() for m in re.finditer("://", word)]
    if not marks:
        return _without_scheme(word)
    last = _last(_LAST_AT, word)
    if last is None:
        tail = _TAIL.search(word, marks[0])
        return _PASSWORD.sub(r"\1", _query_of(word[: tail.start()] if tail else word))
    out: list[str] = []
    at = 0
    for n, mark in enumerate(marks):
        if mark < at:
            continue  # inside of what was cut already
        scheme = _SCHEME.search(word, max(at, mark - 32), mark)
        start = scheme.start() if scheme else mark
        before = word[at:start]
        out.append(_without_scheme(before))
        if out[-1] != before and _PAIR.search(before):
            return "".join(out)  # the URL is a value in a query
        following = marks[n + 1] if n + 1 < len(marks) else len(word)
        if following < len(word):
            ahead = _SCHEME.search(word, max(mark + 3, following - 32), following)
            following = ahead.start() if ahead else following
        body = word[mark + 3 : following]
        if last and last[0] >= following and not _hosts(body, word[start:mark]):
            body, following = word[last[1] :], len(word)  # the password has a :// of its own
        out.append(f"{word[start:mark]}://{_body(body, word[start:mark])}")
        at = following
    out.append(_without_scheme(word[at:]))
    return "".join(out)


def _body(rest: str, scheme: str) -> str:
    """What follows ``://``."""
    end = _authority(rest)
    last = _last(_LAST_AT, rest)
    if last and (last[0] < end or not _certain(rest[:end], scheme)):
        rest = rest[last[1] :]
    tail = _TAIL.search(rest)
    return rest[: tail.start()] if tail else rest


def _hosts(rest: str, scheme: str) -> bool:
    """True where the part before the path can be a host, so that nothing further on belongs to it."""
    authority = rest[: _authority(rest)]
    return bool(_ANY_HOST.fullmatch(authority)) or (not authority and scheme.lower() == "file")


def _certain(authority: str, scheme: str) -> bool:
    """True where ``authority`` can be nothing but a host, so that an ``@`` behind it belongs to the path."""
    if _NUMBERED.fullmatch(authority) or _NAMED.fullmatch(authority):
        return True
    kind = scheme.lower()
    return (kind in _BUCKETS and bool(re.fullmatch(r"[\w.-]+", authority))) or (kind == "file" and not authority)


def _without_scheme(word: str) -> str:
    """``user:password@host/path?query`` without a scheme; paths of this machine stay."""
    drive = re.match(r"[A-Za-z]:[/\\]", word)
    local = drive or (re.match(r"[/~]|\.{1,2}/", word) and not word.startswith("//"))
    last, colon = _last(_LAST_AT, word), _COLON.search(word)
    if last and not local and ((colon and colon.start() < last[0]) or word.startswith("//")):
        word = word[last[1] :]
        tail = _TAIL.search(word)
        return word[: tail.start()] if tail else word
    return _query_of(word)


def _query_of(word: str) -> str:
    """A word without ``?name=value`` and what follows it."""
    pair = _PAIR.search(word)
    return word[: pair.start()] if pair else word


def _unfinished(word: str, following: str) -> bool:
    """True for a word that ends in what may be half of ``user:password@host``; ``following`` is what ended it."""
    mark = word.rfind("://")
    if mark < 0 or _last(_LAST_AT, word[mark:]):
        return False
    authority = word[mark + 3 : mark + 3 + _authority(word[mark + 3 :])]
    name, colon, port = authority.partition(":")
    if not colon or name.startswith("["):
        return False
    return not port.isdigit() if port else following not in ("", " ")


def _authority(rest: str) -> int:
    match = _END.search(rest)
    return match.start() if match else len(rest)


def _last(pattern: re.Pattern[str], text: str) -> tuple[int, int] | None:
    """Where the last match begins and ends."""
    match = None
    for match in pattern.finditer(text):  # noqa: B007
        pass
    return match.span() if match else None
