"""A reference and the acceptance of matches with it, both kept on disk.

The index of a mosaic, the keypoints and ties of frames, and the acceptance that was chosen on them lie in one folder
below a cache, under a key of content and parameters.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import shapely

from geoml.cube.footprint import footprint
from geoml.cube.keypoints import CONTRAST, MOST, Keypoints
from geoml.cube.resize import opencv
from geoml.errors import DataError, InputError, NothingFound
from geoml.geolocation.matching import frames as among
from geoml.geolocation.matching.acceptance import LEAST, MARGIN, PRECISION, Acceptance
from geoml.geolocation.matching.decoys import TRIES, of_frames, of_map
from geoml.geolocation.matching.frames import FrameReference
from geoml.geolocation.matching.match import SIDE
from geoml.geolocation.matching.mosaic import MapReference, index
from geoml.geolocation.matching.network import Tie
from geoml.geolocation.pictures import lists as photo_lists
from geoml.geolocation.pictures.positions import positioned
from geoml.io.cog.read import header
from geoml.io.stac.bands import BandSpec
from geoml.io.stores.store import atomic, read_small, write_json
from geoml.recipe import digest

SUFFIXES = (".tif", ".tiff", ".jp2")
SIDES = (80, 113, 160, 226, 320, 453, SIDE)
"""Pixels of made pictures: few pixels have few inliers, right and wrong."""
VERSION = 2
"""Raised when acceptances or ties are made in another way."""


@dataclass(eq=False)
class IndexedReference:
    """A reference in its ``folder``. ``pieces`` are the names and outlines (degrees, None if there is none) of a
    mosaic's files, the first counts; ``left_out`` says which frames could not be used, and why; ``chosen`` are
    acceptances by `SIDES`."""

    index: MapReference | FrameReference
    folder: Path
    pieces: Sequence[tuple[str, shapely.MultiPolygon | None]] = ()
    left_out: Sequence[tuple[str, str]] = ()
    chosen: dict[int, Acceptance] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name of its content."""
        return self.index.key

    def acceptance(self, side: int) -> Acceptance:
        """The acceptance of pictures with a longer side of ``side`` pixels.

        It is chosen once for each of `SIDES`, on pieces of the map no smaller than the picture, and kept. Raises
        DataError and NothingFound if none can be chosen.
        """
        size = 0 if isinstance(self.index, FrameReference) else next((s for s in SIDES if s >= side), SIDE)
        if size not in self.chosen:
            path = acceptance_path(self.folder, size)
            self.chosen[size] = _kept(path) or self._choose(path, size)
        return self.chosen[size]

    def _choose(self, path: Path, size: int) -> Acceptance:
        try:
            if isinstance(self.index, FrameReference):
                acceptance = of_frames(self.index)
            else:
                acceptance = of_map(self.index, side=size, tries=TRIES)
        except (DataError, NothingFound) as err:
            raise type(err)(f"no threshold can be chosen on this reference: {err}") from err
        write_json(path, asdict(acceptance))
        return acceptance

    @property
    def thresholds(self) -> list[int]:
        """Inliers from which pictures are accepted, of all acceptances that were chosen."""
        acceptances = [_kept(acceptance_path(self.folder, size)) for size in (0, *SIDES)]
        return sorted({one.threshold for one in acceptances if one is not None})

    def piece(self, lon: float, lat: float) -> str | None:
        """The file of a mosaic that shows a place; None if that is not known."""
        point = shapely.Point(lon, lat)
        return next((name for name, outline in self.pieces if outline is not None and outline.intersects(point)), None)


def acceptance_path(folder: Path, size: int) -> Path:
    """Where the acceptance of a reference is kept, for made pictures of ``size`` pixels, 0 for frames."""
    parameters = [*(("map", TRIES) if size else ("frames",)), PRECISION, MARGIN, LEAST, VERSION]
    return folder / f"acceptance-{size or 'frames'}-{_short(parameters)}.json"


def calibration_id(acceptance: Acceptance) -> str:
    """The id of an acceptance, 16 hexadecimal digits."""
    return _short([VERSION, asdict(acceptance)])


def files(places: Iterable[str | Path]) -> list[str]:
    """Rasters by path or URL, those of folders in the order of names.

    Raises InputError for what is not there and for local files together with URLs, NothingFound without
    a raster.
    """
    rasters: list[str] = []
    for place in map(str, places):
        path = Path(place)
        if "://" in place or path.is_file():
            rasters.append(place)
        elif path.is_dir():
            rasters += [str(p) for p in sorted(path.iterdir()) if p.suffix.lower() in SUFFIXES and p.is_file()]
        else:
            raise InputError(f"reference: {place!r} does not exist; expected a GeoTIFF, a folder of them or a URL")
    if len({"://" in f for f in rasters}) > 1:
        raise InputError("reference: files and URLs; expected one of them")
    if not rasters:
        raise NothingFound("reference: no .tif, .tiff or .jp2 in the folders")
    return list(dict.fromkeys(rasters))


def of_files(rasters: Sequence[str | BandSpec], cache: Path, scales: Sequence[float] = (1.0,)) -> IndexedReference:
    """The reference of a mosaic of rasters. Raises the errors of `geoml.geolocation.matching.mosaic.index`."""
    remote = any(isinstance(r, str) and "://" in r for r in rasters)
    reference = index(list(rasters), cache, remote=remote, scales=scales)
    pieces = tuple((specs[0].item, footprint(header(specs[0]).geobox)) for specs in reference.mosaic.files)
    return IndexedReference(reference, cache / reference.key, pieces)


def of_pictures(sources: Iterable[str | Path], cache: Path, sigma: float = 5.0) -> IndexedReference:
    """The reference of pictures with a position in their list or EXIF that is good to ``sigma`` metres.

    Those without one, and those that cannot be read, are left out and named. Raises InputError for sources that
    are none, NothingFound without a frame or keypoint, MissingExtra.
    """
    pictures, left_out = positioned(sources)
    content = [[one.reference.id, one.sha256, one.lon, one.lat] for one in pictures]
    how = [VERSION, opencv().__version__, CONTRAST, MOST, among.SIDE, among.TIED, among.WITHIN, among.STRONGEST, sigma]
    folder = cache / f"frames-{_short([content, how], 24)}"
    lonlat = np.array([(one.lon, one.lat) for one in pictures], float)
    names = [one.reference.id for one in pictures]
    stored = folder / "frames.npz"
    if not stored.is_file():
        decoded = [among.frame_keypoints(photo_lists.load(one.reference).rgb) for one in pictures]
        if not any(len(points) for points, _ in decoded):
            raise NothingFound(f"frames: no keypoints in any of {len(decoded)}")
        _save(stored, [s[0] for s in decoded], [s[1] for s in decoded], among.overlaps(*zip(*decoded, strict=True)))
    keypoints, shapes, ties = _load(stored)
    reference = FrameReference(names, keypoints, shapes, lonlat, sigma, ties)
    return IndexedReference(reference, folder, left_out=left_out)


def _kept(path: Path) -> Acceptance | None:
    if (body := read_small(path)) is None:
        return None
    try:
        return Acceptance(**json.loads(body))
    except (ValueError, TypeError, RecursionError) as err:
        raise DataError(f"{path}: a damaged acceptance ({err}); delete it") from err


def _save(path: Path, keypoints: Sequence[Keypoints], shapes: Sequence[tuple[int, int]], ties: Sequence[Tie]) -> None:
    pairs = np.array([(t.first, t.second, len(t.source)) for t in ties], np.int64).reshape(-1, 3)
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            points=np.concatenate([k.points for k in keypoints]),
            descriptors=np.concatenate([k.descriptors for k in keypoints]),
            counts=np.array([len(k) for k in keypoints], np.int64),
            shapes=np.array(shapes, np.int64),
            pairs=pairs,
            tied=np.concatenate([np.zeros((0, 4)), *(np.hstack([t.source, t.target]) for t in ties)]),
        )


def _load(path: Path) -> tuple[list[Keypoints], list[tuple[int, int]], list[Tie]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            points, descriptors, counts, shapes, pairs, tied = (
                file[k] for k in ("points", "descriptors", "counts", "shapes", "pairs", "tied")
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as err:
        raise DataError(f"{path}: damaged frames ({err}); delete the folder") from err
    cuts = np.cumsum(counts)[:-1]
    keypoints = [Keypoints(p, d) for p, d in zip(np.split(points, cuts), np.split(descriptors, cuts), strict=True)]
    shared = np.split(tied, np.cumsum(pairs[:, 2])[:-1]) if len(pairs) else []
    ties = [Tie(int(i), int(j), s[:, :2], s[:, 2:]) for (i, j, _), s in zip(pairs, shared, strict=True)]
    return keypoints, [(int(h), int(w)) for h, w in shapes], ties


def _short(value: object, digits: int = 16) -> str:
    return digest(value)[:digits]
