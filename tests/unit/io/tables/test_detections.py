"""Detections, homographies and logs as their makers write them, and what is wrong with them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geoml.errors import DataError, InputError
from geoml.io.tables import detections
from geoml.io.tables.detections import read_detections, read_matrices, read_matrix
from geoml.io.tables.frame_log import increasing, read_log, steady

Write = Callable[[str], Path]
GOOD = "1,7,10,20,30,40,0.5,2,-1\n1,8,0,0,5,5,1,-1,-1\n3,7,12,20,30,40,0.25,2,-1\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "table.txt"
        path.write_text(text)
        return path

    return written


def test_motchallenge_text(write: Write) -> None:
    for text in (GOOD, GOOD.replace(",", ";"), GOOD.replace(",", " "), GOOD.replace(",", ", ").replace("\n", "\r\n")):
        one, two = read_detections(write(text))
        assert (one.frame, two.frame) == (1, 3)
        np.testing.assert_array_equal(one.boxes, [[10, 20, 30, 40], [0, 0, 5, 5]])
        np.testing.assert_array_equal(one.centres, [[25, 40], [2.5, 2.5]])
        assert one.confidence.tolist() == [0.5, 1]
        assert one.kind.tolist() == ["2", ""]
        assert one.id.tolist() == [7, 8]
    (short,) = read_detections(write("4,1,2,3,4,5\n"))
    assert short.confidence.tolist() == [1.0]


def test_any_order_of_rows_gives_frames_in_theirs(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    rows = [f"{frame},{k},{k},0,5,5,1" for frame in range(1, 8) for k in range(6)]
    straight = [(d.frame, d.boxes[:, 0].tolist()) for d in read_detections(write("\n".join(rows)))]
    for chunk in (4, 100):
        monkeypatch.setattr(detections, "CHUNK", chunk)
        assert [(d.frame, d.boxes[:, 0].tolist()) for d in read_detections(write("\n".join(rows)))] == straight
        mixed = [rows[k] for k in random.permutation(len(rows))]
        found = [(d.frame, sorted(d.boxes[:, 0].tolist())) for d in read_detections(write("\n".join(mixed)))]
        assert found == straight
    monkeypatch.setattr(detections, "UNSORTED", 10)
    with pytest.raises(InputError, match="42 rows that are not in the order of frames"):
        list(read_detections(write("\n".join(mixed))))


@pytest.mark.parametrize(
    ("box", "values"),
    [(("x", "y", "w", "h"), [10, 20, 30, 40]), (("xmin", "ymin", "xmax", "ymax"), [10, 20, 40, 60])],
)
def test_parquet_by_the_names_of_its_columns(tmp_path: Path, box: tuple[str, ...], values: list[int]) -> None:
    path = tmp_path / "found.parquet"
    columns = {"frame": [5, 5], **{n: [v, v + 1] for n, v in zip(box, values, strict=True)}}
    pq.write_table(pa.table({**columns, "score": [0.5, 1.0], "class": ["car", None], "more": ["a", "b"]}), path)
    (found,) = read_detections(path)
    assert found.boxes[0].tolist() == [10, 20, 30, 40]
    assert found.kind.tolist() == ["car", ""]
    assert found.confidence.tolist() == [0.5, 1]
    assert found.id.tolist() == [-1, -1]
    pq.write_table(pa.table({"frame": [1], "x": [1]}), path)
    with pytest.raises(DataError, match="expected frame and one of x y w h"):
        list(read_detections(path))
    path.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="not readable as Parquet"):
        list(read_detections(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,1,0,0,-5,5,1\n", "inverted"),
        ("1,1,0,0,0,5,1\n", "without an area"),
        ("1,1,nan,0,5,5,1\n", "not finite"),
        ("1,1,inf,0,5,5,1\n", "not finite"),
        ("1,1,0,0,5,5,nan\n", "confidence of nan"),
        ("1,1,0,0,5,5,87\n", "confidence of 87"),
        ("1,1,0,0,5,5,-0.5\n", "confidence of -0.5"),
        ("1.5,1,0,0,5,5,1\n", "frame 1.5"),
        ("inf,1,0,0,5,5,1\n", "frame inf"),
        ("1e300,1,0,0,5,5,1\n", "frame 1e[+]300"),
        ("-1,1,0,0,5,5,1\n", "frame -1"),
        ("1,1,0,0\n", "4 numbers"),
        ("one,1,0,0,5,5,1\n", "no table of numbers"),
        ("\n", "no detection"),
    ],
)
def test_what_is_no_detection_names_its_place(write: Write, text: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        list(read_detections(write(text)))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for read in (read_detections, read_matrices, read_matrix, read_log):
        with pytest.raises(InputError, match="does not exist"):
            next(iter(read(tmp_path / "none.txt")))  # type: ignore[operator, call-overload]


def test_homographies(write: Write) -> None:
    found = read_matrices(write("1,1,0,5,0,1,6,0,0,1\n2 1 0 7 0 1 8 0 0 1\n"))
    assert sorted(found) == [1, 2]
    np.testing.assert_array_equal(found[2], [[1, 0, 7], [0, 1, 8], [0, 0, 1]])
    for text in ("1,0,5,0,1,6,0,0,1\n", "1,0,5\n0,1,6\n0,0,1\n"):
        np.testing.assert_array_equal(read_matrix(write(text)), [[1, 0, 5], [0, 1, 6], [0, 0, 1]])
    with pytest.raises(DataError, match="frame 1 appears twice"):
        read_matrices(write("1,1,0,5,0,1,6,0,0,1\n" * 2))
    for frame in ("nan", "inf", "1.5"):
        with pytest.raises(DataError, match="expected a frame"):
            read_matrices(write(f"{frame},1,0,5,0,1,6,0,0,1\n"))
    with pytest.raises(DataError, match="9 numbers; expected a frame"):
        read_matrices(write("1,0,5,0,1,6,0,0,1\n"))
    with pytest.raises(DataError, match="10 numbers; expected the 9"):
        read_matrix(write("1,1,0,5,0,1,6,0,0,1\n"))


def test_logs(write: Write) -> None:
    log = read_log(
        write("frame,timestamp,latitude,longitude\n4,2022-10-07 17:52:13.500,37,126\n5,2022-10-07 17:52:13.533,37,\n")
    )
    assert log.frame is not None
    assert log.frame.tolist() == [4, 5]
    assert log.seconds.tolist() == pytest.approx([0, 0.033])
    assert (log.start, log.zoned) == (dt.datetime(2022, 10, 7, 17, 52, 13, 500_000, dt.UTC), False)
    assert log.lonlat[0].tolist() == [126, 37]
    assert np.isnan(log.lonlat[1, 0])
    zoned = read_log(write("time\n2022-10-07T17:52:13+09:00\n2022-10-07T17:52:14+09:00\n"))
    assert zoned.start == dt.datetime(2022, 10, 7, 8, 52, 13, tzinfo=dt.UTC)
    assert zoned.zoned
    seconds = read_log(write("Time;Lat\n12,5;1\n12,75;1\n"))
    assert (seconds.start, seconds.seconds.tolist()) == (None, [0, 0.25])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("frame,time\n1,0\n2,0\n", "have the same time"),
        ("frame,time\n1,1\n2,0.5\n", "go backwards in time"),
        ("frame,time\n1,0\n2,1\n4,2\n5,3\n", "frame 3 is missing"),
        ("frame,time\n2,0\n1,1\n", "frame 1 after frame 2"),
        ("frame,time\n1,0\n1,1\n", "frame 1 after frame 1"),
        ("frame,time\n1,soon\n", "a time is none"),
        ("frame,time\n1,nan\n", "not finite"),
        ("frame,time\n1,0\n2,1e300\n", "of one flight"),
        ("frame,time\n1e300,0\n", "whole number"),
        ("time\n2022-10-07T17:52:13Z\n2022-10-07T17:52:14\n", "with and without a zone"),
        ("frame,height\n1,3\n", "expected one of timestamp"),
        ("time\n", "no row"),
        ("time,lat\n1,north\n", "lat"),
    ],
)
def test_logs_that_are_wrong(write: Write, text: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        read_log(write(text))


def test_even_steps_and_rising_times() -> None:
    steady(np.array([0, 10, 20]), "x")
    increasing([0.0, 0.1], "ab", "x")
    with pytest.raises(DataError, match="x: b and c have the same time"):
        increasing([0.0, 0.1, 0.1], "abc", "x")
