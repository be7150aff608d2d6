"""Pictures that look alike: an index of features that grows by segments and is never built again.

A folder: ``index.json`` says which backbone, ``segments/N.npy`` are unit vectors, float16 (n, F), mapped into memory
and written before ``segments/N.parquet`` with a row for each (a segment is there when its table is);
``removed.parquet`` names rows that were taken out. Search is exact, cosine over all of them: 200,000 pictures of 700
features are 280 MB and take under a second on one core; an index of many more wants an approximate one.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geoml.errors import DataError, InputError, ModelError, NothingFound
from geoml.geolocation.locate.features import Extractor, batched
from geoml.geolocation.pictures import lists as photo_lists
from geoml.geolocation.pictures.prepare import PreparedPicture, Row, identity, in_order
from geoml.io.stores import lock
from geoml.io.stores.store import atomic, check_regular, read_small, within, write_json
from geoml.vector.nearest import best, cosines, unit

SEGMENT = 4096
"""Pictures of one segment: what is held in memory while pictures are added, and what a kill costs."""
BATCH = 32

_TABLE = pa.schema([("sha256", pa.string()), ("image_id", pa.string()), ("source_uri", pa.string()),
                    ("lon", pa.float64()), ("lat", pa.float64()), ("time", pa.timestamp("us", tz="UTC"))])  # fmt: skip
_REMOVED = pa.schema([("segment", pa.int64()), ("row", pa.int64())])

Bbox = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class SimilarPicture:
    """A picture of the index and its cosine similarity, -1 to 1, to the query."""

    sha256: str
    image_id: str
    source_uri: str | None
    score: float
    lon: float | None
    lat: float | None
    time: dt.datetime | None


class Added(TypedDict):
    """How many pictures were added, were there already, could not be read (and why), and are there now."""

    added: int
    known: int
    failed: dict[str, str]
    pictures: int


class Index:
    """The index in ``folder`` for the features of ``extractor``; it is made with the first picture.

    Raises ModelError for an index of another backbone, weights or size, DataError for a damaged one.
    """

    def __init__(self, folder: str | Path, extractor: Extractor) -> None:
        self.folder, self.extractor = Path(folder), extractor
        self._segments: list[tuple[int, NDArray[np.float16], pa.Table]] = []
        self._removed: set[tuple[int, int]] = set()
        self._open()

    def __len__(self) -> int:
        return sum(len(t) for _, _, t in self._segments) - len(self._removed)

    def add(self, sources: Iterable[str | Path]) -> Added:
        """Add pictures, each content once; how many were ``added``, ``known`` and, by their names, ``failed``.

        Raises NothingFound without a picture, TransientError if another process changes the index.
        """
        failed: dict[str, str] = {}
        added = known = 0
        with self._changing():
            have = {str(s) for n, _, t in self._segments for r, s in enumerate(t["sha256"].to_pylist())
                    if (n, r) not in self._removed}  # fmt: skip
            with closing(in_order(photo_lists.pictures(sources), self.extractor.size, lambda *_: b"")) as pictures:
                new = self._new(pictures, have, failed)
                for part in batched(new, SEGMENT):
                    fresh = [p for p, _ in part if p is not None]
                    known += len(part) - len(fresh)
                    if fresh:
                        self._write(fresh, np.concatenate([v for p, v in part if p is not None and v is not None]))
                        added += len(fresh)
        return {"added": added, "known": known, "failed": failed, "pictures": len(self)}

    def remove(self, names: Iterable[str]) -> int:
        """Take out pictures by checksum or ``image_id``; how many. Raises InputError for a name that is not there."""
        with self._changing():
            requested = set(names)
            hits = {(n, r): {str(s), str(i)} & requested
                    for n, _, t in self._segments
                    for r, (s, i) in enumerate(zip(t["sha256"].to_pylist(), t["image_id"].to_pylist(), strict=True))
                    if (n, r) not in self._removed}  # fmt: skip
            matched = {at for at, named in hits.items() if named}
            if lost := requested - set().union(*hits.values()):
                raise InputError(f"remove: {', '.join(sorted(lost)[:3])}; expected checksums or names of the index")
            rows = sorted(self._removed | matched)
            columns = [pa.array([at[k] for at in rows], pa.int64()) for k in (0, 1)]
            with atomic(self.folder / "removed.parquet") as temporary:
                pq.write_table(pa.table(columns, schema=_REMOVED), temporary)
            self._removed = set(rows)
        return len(matched)

    def search(
        self,
        features: NDArray[np.float32],
        k: int = 10,
        bbox: Bbox | None = None,
        between: tuple[dt.datetime | None, dt.datetime | None] = (None, None),
    ) -> list[SimilarPicture]:
        """The ``k`` pictures most like one of (F,) features, best first; of equal ones that which was added first.

        ``bbox`` W S E N in degrees (west > east crosses the antimeridian) and ``between`` two times (None is open)
        leave pictures out that lie outside or say nothing. Raises InputError, NothingFound for an empty index.
        """
        if not self._segments:
            raise NothingFound(f"index: {self.folder} has no pictures")
        query = unit(features[None])[0]
        found: list[tuple[float, int, int]] = []
        for place, (number, vectors, table) in enumerate(self._segments):
            keep = _inside(table, bbox, between)
            keep[[r for n, r in self._removed if n == number]] = False
            score = cosines(vectors, query, units=True)
            found += [(float(score[row]), place, int(row)) for row in best(score, k, keep)]
        return [self._picture(*one) for one in sorted(found, key=lambda b: (-b[0], b[1], b[2]))[:k]]

    def _picture(self, score: float, place: int, row: int) -> SimilarPicture:
        one = self._segments[place][2].slice(row, 1).to_pylist()[0]
        return SimilarPicture(score=score, **one)

    def _new(
        self, pictures: Iterable[PreparedPicture], have: set[str], failed: dict[str, str]
    ) -> Iterator[tuple[PreparedPicture | None, NDArray[np.float16] | None]]:
        """Pictures that are not there yet with their vectors (1, F); None for one that is."""
        for batch in batched(pictures, BATCH):
            fresh: list[PreparedPicture] = []
            for picture in batch:
                if picture.rgb is None:
                    failed[picture.reference.id] = picture.reason
                elif picture.sha256 in have:
                    yield None, None
                else:
                    have.add(str(picture.sha256))
                    fresh.append(picture)
            if fresh:
                values = unit(self.extractor(np.stack([p.rgb for p in fresh if p.rgb is not None])))
                yield from ((p, values[i : i + 1].astype(np.float16)) for i, p in enumerate(fresh))

    def _write(self, pictures: list[PreparedPicture], vectors: NDArray[np.float16]) -> None:
        number = self._segments[-1][0] + 1 if self._segments else 0
        rows = [identity(p) | _place(p) for p in pictures]
        table = pa.Table.from_pylist(rows, schema=_TABLE)
        if not (self.folder / "index.json").exists():
            write_json(self.folder / "index.json", self._about())
        with atomic(self._path(number, "npy")) as temporary, temporary.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        with atomic(self._path(number, "parquet")) as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        self._segments.append(self._segment(number))

    def _about(self) -> Row:
        # what precision and back end change is far below what tells pictures apart, so another machine may search it
        return {"format": 1, "backbone": self.extractor.identity, "features": self.extractor.features}

    def _path(self, number: int, suffix: str) -> Path:
        return within(self.folder, f"segments/{number:06d}.{suffix}")

    def _segment(self, number: int) -> tuple[int, NDArray[np.float16], pa.Table]:
        try:
            vectors = np.load(check_regular(self._path(number, "npy")), mmap_mode="r", allow_pickle=False)
            table = pq.read_table(
                check_regular(self._path(number, "parquet")), schema=_TABLE, page_checksum_verification=True
            )
        except (OSError, ValueError, pa.ArrowException) as err:
            raise DataError(f"index: segment {number} of {self.folder} is damaged ({err})") from err
        if vectors.shape != (len(table), self.extractor.features) or vectors.dtype != np.float16:
            raise DataError(f"index: segment {number} of {self.folder} has {vectors.shape} {vectors.dtype}")
        return number, vectors, table

    def _open(self) -> None:
        """Read the index from the disk."""
        path = self.folder / "index.json"
        if self.folder.is_dir() and not path.exists() and any(p.name != "lock.json" for p in self.folder.iterdir()):
            raise InputError(f"index: {self.folder} contains other files; expected an index or an empty folder")
        if not path.exists():
            return
        try:
            about = json.loads(read_small(path) or b"{}")
            gone = self.folder / "removed.parquet"
            removed = pq.read_table(check_regular(gone)).to_pylist() if gone.exists() else []
        except (OSError, ValueError, RecursionError, pa.ArrowException) as err:
            raise DataError(f"index: {self.folder} is damaged ({err})") from err
        if about != self._about():
            raise ModelError(f"index: {self.folder} is of {about.get('backbone')}, this is {self._about()['backbone']}")
        numbers = sorted(int(p.stem) for p in (self.folder / "segments").glob("[0-9]*.parquet"))
        self._segments = [self._segment(n) for n in numbers]
        self._removed = {(r["segment"], r["row"]) for r in removed}

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One writer at a time, who has seen what the last one wrote."""
        with lock.hold_lock(lock.FileSlot(self.folder / "lock.json"), str(self.folder)):
            self._open()
            yield


def _place(picture: PreparedPicture) -> Row:
    """Place and time of the list, else of the EXIF."""
    lon, lat = picture.position or (None, None)
    return {"lon": lon, "lat": lat, "time": picture.reference.time or picture.exif.time}


def _inside(
    table: pa.Table, bbox: Bbox | None, between: tuple[dt.datetime | None, dt.datetime | None]
) -> NDArray[np.bool_]:
    keep = np.ones(len(table), bool)
    if bbox is not None:
        west, south, east, north = bbox
        if south > north:
            raise InputError(f"bbox: {bbox}; expected W S E N in degrees")
        lon, lat = (table[n].to_numpy().astype(float) for n in ("lon", "lat"))
        across = (lon >= west) & (lon <= east) if west <= east else (lon >= west) | (lon <= east)
        keep &= across & (lat >= south) & (lat <= north)
    first, last = between
    if first is not None or last is not None:
        keep &= [t is not None and (first is None or t >= first) and (last is None or t <= last)
                 for t in table["time"].to_pylist()]  # fmt: skip
    return keep
