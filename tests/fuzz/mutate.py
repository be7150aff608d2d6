"""Documents that were valid, with a few things changed: what a careless or hostile author would write.

All examples come from documents made in code; none is a known exploit of anything.
"""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Path = tuple[Any, ...]

TEXTS = (
    *("", " ", "\0", "\n", "\x1b[31m", "\u202e", "\ud800", "é", "a" * 5000, "../../x", "/etc/hostname", "C:\\x", "~"),
    *("nan", "null", "-", "%00", "%2e%2e", "<x/>", "{}", "[]", "EPSG:0", "EPSG:4326", "int8", "float128", "complex64"),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"),
    *("2024-02-30T00:00:00Z", "2024", "20240601", "2024-06-01T12:00:00", "2024-06-01T24:00:00Z", "../.."),
    *("unet", "ice", "m", "red"),
)
NUMBERS = (0, -1, 1, 2, 255, 256, 2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 1e-320, 1e308, -0.0, 0.5,
           float("inf"), float("-inf"), float("nan"))  # fmt: skip

HOSTS = (
    *("127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "LOCALHOST."),
    *(
        "0.0.0.0",
        "10.0.0.1",
        "169.254.1.1",
        "192.168.0.1",
        "[fe80::1]",
        "[fd00::1]",
        "[64:ff9b::7f00:1]",
        "no.such.invalid",
        "",
    ),
)
PLACES = ("/remote/scene/image.tif", "/local/scene/image.tif", "/../image.tif", "/%2e%2e/x.tif", "//x", "", "/x.vrt")


def odd() -> st.SearchStrategy[Any]:
    """A value that fits nothing."""
    plain = st.one_of(
        st.sampled_from((None, True, False)),
        st.sampled_from(NUMBERS),
        st.sampled_from(TEXTS),
        st.text(max_size=20),
        st.integers(),
        st.floats(),
    )
    deep: Any = "end"
    for _ in range(200):
        deep = [deep]
    return st.one_of(
        plain, st.lists(plain, max_size=4), st.dictionaries(st.text(max_size=8), plain, max_size=3), st.just(deep)
    )


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """The way to everything inside a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*at, key)
        yield from paths(one, (*at, key))


@st.composite
def changed(draw: st.DrawFn, document: Any, most: int = 4) -> Any:
    """The document with one to ``most`` things replaced, taken away, renamed, doubled or swapped."""
    made = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, most))):
        known = list(paths(made))
        if not known:
            break
        *way, last = draw(st.sampled_from(known))
        where = made
        for key in way:
            where = where[key]
        kind = draw(st.sampled_from(("replace", "replace", "replace", "drop", "rename", "double", "swap")))
        if kind == "drop":
            del where[last]
        elif kind == "rename" and isinstance(where, dict):
            where[draw(st.sampled_from(TEXTS) | st.text(max_size=10))] = where.pop(last)
        elif kind == "double" and isinstance(where, list):
            where.append(copy.deepcopy(where[last]))
        elif kind == "swap" and isinstance(where, dict) and len(where) > 1:
            other = draw(st.sampled_from(sorted(where, key=str)))
            where[last], where[other] = where[other], where[last]
        else:
            where[last] = draw(odd())
    return made


def text_of(value: Any) -> str:
    """As JSON; what JSON does not know (NaN, infinity) is written as Python does."""
    return json.dumps(value)


@st.composite
def edited(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with a few cut out, put in, turned or repeated."""
    made = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(made) - 1)))
        size = draw(st.sampled_from((1, 2, 4, 8, 64)))
        kind = draw(st.sampled_from(("turn", "put", "cut", "end", "repeat")))
        if kind == "turn" and made:
            made[at] ^= draw(st.integers(1, 255))
        elif kind == "put":
            made[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "cut":
            del made[at : at + size]
        elif kind == "end":
            del made[at:]
        else:
            made[at:at] = made[at : at + size]
    return bytes(made)


@st.composite
def archive(draw: st.DrawFn, data: bytes) -> bytes:
    """A ZIP archive with members changed (JSON as a document, others as bytes), dropped, doubled or renamed."""
    with zipfile.ZipFile(io.BytesIO(data)) as before:
        members = [(i.filename, before.read(i)) for i in before.infolist()]
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(members) - 1))
        name, body = members[at]
        kind = draw(st.sampled_from(("content", "content", "content", "drop", "double", "rename")))
        if kind == "drop" and len(members) > 1:
            del members[at]
        elif kind == "double":
            members.append((name, draw(edited(body))))
        elif kind == "rename":
            members[at] = (draw(st.sampled_from((f"{name}x", f"../{name}", f"/{name}", name.upper(), "x"))), body)
        elif name.endswith(".json"):
            members[at] = (name, text_of(draw(changed(json.loads(body)))).encode())
        else:
            members[at] = (name, draw(edited(body)))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))) as after:
        for name, body in members:
            after.writestr(zipfile.ZipInfo(name), body)
    return out.getvalue()


@st.composite
def hrefs(draw: st.DrawFn, port: int, other: int) -> str:
    """Hrefs put together from parts; ``port`` is that of the server of the test, nobody may ask ``other``.

    Hosts are those of this machine, private ones, and names that do not exist: none belongs to anybody.
    """
    if draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(TEXTS) | st.text(max_size=40))
    scheme = draw(
        st.sampled_from(("http", "https", "HTTP", "HTTPS", "file", "ftp", "", "zip+file", "vsicurl", "javascript"))
    )
    user = draw(st.sampled_from(("", "", "", "user@", "user:secret@", "a?b@", "a#b@", "%40@")))
    host = draw(st.sampled_from(HOSTS))
    where = draw(st.sampled_from(("", f":{port}", f":{port}", f":{other}", f":{other}", ":0", ":99999", ":x", ":22")))
    path = draw(st.sampled_from(PLACES) | st.text(max_size=20).map("/".__add__))
    tail = draw(
        st.sampled_from(("", "", "", "?token=secret", "?header_file=/etc/hostname", "#x", "?a=1&a=2", " ", "\n"))
    )
    return f"{scheme}{draw(st.sampled_from(('://', '://', '://', ':/', ':', '//', '')))}{user}{host}{where}{path}{tail}"
