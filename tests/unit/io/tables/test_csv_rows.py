"""Lists of points and pictures as spreadsheets, annotation tools and R write them; and any bytes."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoml.data.labels import read_points
from geoml.data.splits import _lines
from geoml.errors import DataError, InputError, NothingFound
from geoml.geolocation.pictures.lists import pictures
from geoml.io.tables import csv_rows

WANTED = [[10.5, 20.5], [3.75, 4.5]]
SPELLINGS = {
    "plain": b"x,y\n10,20\n3.25,4\n",
    "BOM": b"\xef\xbb\xbfx,y\n10,20\n3.25,4\n",
    "quotes": b'"x","y"\n"10","20"\n"3.25","4"\n',
    "CRLF and blank lines": b"\r\nx,y\r\n\r\n10,20\r\n,\r\n3.25,4\r\n\r\n",
    "CR": b"x,y\r10,20\r3.25,4\r",
    "no line end": b"x,y\n10,20\n3.25,4",
    "blanks": b" x , y \n 10 , 20 \n 3.25 , 4 \n",
    "semicolons": b"x;y\n10;20\n3.25;4\n",
    "decimal commas": b"x;y\n10;20,0\n3,25;4\n",
    "tabs": b"x\ty\n10\t20\n3.25\t4\n",
    "sep": b"sep=;\r\nx;y\r\n10;20\r\n3.25;4\r\n",
    "UTF-16": "x\ty\n10\t20\n3.25\t4\n".encode("utf-16"),
    "capitals": b"X,Y\n10,20\n3.25,4\n",
    "blanks, commas and quotes": b'image_path,label,x,y\nplot 1.tif,"Tree, dead",10,20\na.tif,"a ""b""",3.25,4\n',
    "a line end in a cell": b'note,x,y\n"two\nlines",10,20\n,3.25,4\n',
    "other order": b"y,id,x\n20,1,10\n4,2,3.25\n",
    "an empty column": b"x,y,\n10,20,\n3.25,4,\n",
    "short rows": b"x,y,note\n10,20\n3.25,4\n",
}


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".Csv"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_points_in_every_spelling(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"points{suffix}"
    path.write_bytes(SPELLINGS[name])
    assert read_points(path, None).tolist() == WANTED


def test_a_list_without_points_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x,y\r\n\r\n")
    assert read_points(tmp_path / "a.csv", None).shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a,b\n1,2\n", "columns a, b; expected x and y"),
        (b"", "columns none"),
        (b"x,y\n1,\n", "no points could be read"),
        (b"x,y\n1,2\nnan,3\n", "point 2 has no finite"),
        (b"x,y\n1,inf\n", "point 1 has no finite"),
        (b"x,y\n1,\xff\xfe\n", "no points could be read"),
        (b"x,y\n1," + b"9" * 200_000 + b"\n", "no points could be read"),
    ],
)
def test_what_is_no_list_of_points_is_named(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(DataError, match=message):
        read_points(tmp_path / "a.csv", None)


@pytest.mark.parametrize("name", SPELLINGS)
def test_pictures_in_every_spelling(tmp_path: Path, name: str) -> None:
    """The same lists with a column of paths: Y is the latitude."""
    text = SPELLINGS[name].decode("utf-16" if name == "UTF-16" else "utf-8-sig")
    delimiter = next((d for d in ";\t" if d in text), ",")
    rows = [r for r in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True) if any(r)]
    told = [r for r in rows if not r[0].startswith("sep=")]
    head = ["lon" if c.strip().lower() == "x" else "lat" if c.strip().lower() == "y" else c for c in told[0]]
    other = [c for c in head if c != "image_path"] if "image_path" in head else head
    keep = [i for i, c in enumerate(head) if c in other]
    lines = [delimiter.join(["path", *(head[i] for i in keep)])]
    lines += [delimiter.join(['"a 1.jpg"' if k == 1 else "b.jpg", *(f'"{r[i]}"' if i < len(r) else "" for i in keep)])
              for k, r in enumerate((r for r in told[1:] if any(c.strip() for c in r)), start=1)]  # fmt: skip
    path = tmp_path / "list.CSV"
    path.write_text("\ufeff" + "\n\n".join(lines), encoding="utf-8")
    found = list(pictures([path]))
    assert [Path(r.href).name for r in found] == ["a 1.jpg", "b.jpg"]
    assert [[r.lon, r.lat] for r in found] == [[10.0, 20.0], [3.25, 4.0]]


def test_lists_of_a_split(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(b'\xef\xbb\xbf"id";"note"\r\n"a_1_image";"x"\r\n\r\nb_image;\r\n')
    assert _lines(tmp_path / "train.csv", "{id}_image") == ["a_1", "b"]
    (tmp_path / "train.txt").write_bytes(b"a_image\rb_image")
    assert _lines(tmp_path / "train.txt", "{id}_image") == ["a", "b"]
    (tmp_path / "broken.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="cannot be read"):
        _lines(tmp_path / "broken.txt", "{id}")


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).map(str.strip)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(CELL, min_size=2, max_size=2).filter(any), max_size=6),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_a_writer_writes_comes_back(tmp_path, rows, delimiter, end, quoting, encoding):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([["first", "second"], *rows])
    (tmp_path / "t.csv").write_bytes(file.getvalue().encode(encoding))
    with csv_rows.table(tmp_path / "t.csv") as (names, found):
        assert names == ["first", "second"]
        assert [[r["first"], r["second"]] for r in found] == rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200), st.text(st.sampled_from('xy,;"\n\r\t 019.e-nasep='), max_size=80).map(str.encode)
    )
)
def test_any_bytes_are_a_list_or_an_error_of_ours(tmp_path, data):
    path = tmp_path / "any.csv"
    path.write_bytes(data)
    with suppress(DataError):
        assert np.isfinite(read_points(path, None)).all()
    with suppress(InputError, NothingFound):
        list(pictures([path]))
