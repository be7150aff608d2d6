"""Which scenes are in train, val and test, and the check that no ground is in two of them.

Random splits of neighbouring or repeated images measure memory, not skill: the official train and val lists of a data
set with three years of the same places may share nearly all of their ground. So ground is asked here, not file names.
"""

from __future__ import annotations

import fnmatch
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyproj
import shapely

from geoml.data.recipe import Blocks, ByLabel, Carve, Files, Folds, Lists, RightPart, Split, resolve
from geoml.data.scene import LabelledScene, Piece, fingerprint, outline, overlap
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.io.tables import csv_rows

SPLITS = ("train", "val", "test")
SHARED = 1e-3
"""Footprints that share less of the smaller one than this touch by rounding only."""


def assign(scenes: Sequence[LabelledScene], split: Split, root: str | None, seed: int) -> list[Piece]:
    """Every scene, or its parts, with a split; checked. Raises InputError for a leak or an empty train split."""
    if isinstance(split, Blocks):
        shares = {"test": split.test, "val": split.val}
        pieces = [p for s in scenes for p in _inner(_by_ground(s, split.size, shares, seed), split.buffer)]
    elif isinstance(split, Lists):
        pieces = _by_list(scenes, split, root)
    elif isinstance(split, Files):
        pieces = [Piece(s, s.window, name) for s in scenes if (name := _by_pattern(s.id, split)) is not None]
    elif isinstance(split, Folds):
        pieces = _by_fold(scenes, split)
    else:
        pieces = [Piece(s, s.window, s.split) for s in scenes if s.split is not None]
    if not isinstance(split, Blocks) and split.carve is not None:
        pieces = _carve(pieces, split.carve, seed)
    if isinstance(split, Files) and split.strip is not None:
        pieces = [p for piece in pieces for p in _stripped(piece, split.strip)]
    if not any(p.split == "train" for p in pieces):
        raise InputError(f"split: no scene of {len(scenes)} is in train")
    check_ids(pieces)
    if not isinstance(split, ByLabel):  # there the same ground is meant; its labelled pixels are checked at the source
        check_ground(pieces)
    return pieces


def check_ids(pieces: Sequence[Piece]) -> None:
    """Raise InputError if two windows of one scene share a pixel."""
    by_scene: dict[str, list[Piece]] = {}
    for piece in pieces:
        for other in by_scene.setdefault(piece.scene.id, []):
            if other.window.touches(piece.window):
                raise InputError(f"split: {piece.name} ({piece.split}) and {other.name} ({other.split}) share pixels")
        by_scene[piece.scene.id].append(piece)


def check_ground(pieces: Sequence[Piece]) -> None:
    """Raise InputError if pieces of different splits cover the same ground."""
    placed = [(p, f) for p in pieces if (f := p.footprint) is not None]
    outlines = [f for _, f in placed]
    if not outlines:
        return
    for a, b in shapely.STRtree(outlines).query(outlines, predicate="intersects").T:
        one, two = placed[a][0], placed[b][0]
        if one.split < two.split and (shared := overlap(outlines[a], outlines[b])) > SHARED:
            raise InputError(
                f"split: leak, {one.name} ({one.split}) and {two.name} ({two.split}) share {shared:.0%} of their"
                " ground; split by blocks, or use lists with same_ground: true"
            )


def check_copies(pieces: Iterable[Piece]) -> None:
    """Raise InputError if images without georeference of different splits hold the same pixels. Reads them."""
    seen: dict[str, Piece] = {}
    for piece in pieces:
        if piece.scene.geobox is not None:
            continue
        print_ = fingerprint(piece.scene.read())
        if print_ is None:
            continue
        other = seen.setdefault(print_, piece)
        if other.split != piece.split and other.scene is not piece.scene:
            raise InputError(f"split: leak, {piece.name} ({piece.split}) is a copy of {other.name} ({other.split})")


def draw(key: str, shares: dict[str, float], seed: int) -> str:
    """A split by the hash of a key: the same key always gets the same split, on every machine."""
    number = int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big") / 2**64
    for name, share in shares.items():
        if number < share:
            return name
        number -= share
    return "train"


def _by_list(scenes: Sequence[LabelledScene], split: Lists, root: str | None) -> list[Piece]:
    named: dict[str, str] = {}
    for name in SPLITS:
        file = getattr(split, name)
        for item in _lines(resolve(root or ".") / file, split.name) if file else []:
            if named.setdefault(item, name) != name:
                raise InputError(f"split: {item} is in the lists of {named[item]} and {name}")
    pieces = []
    for scene in scenes:
        of = {named[name] for name in (scene.id, *scene.members) if name in named}
        if len(of) > 1:
            raise InputError(f"split: {scene.id} is of images in {' and '.join(sorted(of))}")
        pieces += [Piece(scene, scene.window, name) for name in of]
    listed = {p.scene.id for p in pieces}
    if not split.same_ground:
        return pieces
    held = [(outline(p.scene.geobox, p.window), p.split) for p in pieces if p.scene.geobox is not None]
    tree = shapely.STRtree([f for f, _ in held]) if held else None
    for scene in scenes:
        if tree is None or scene.id in listed or scene.geobox is None:
            continue
        ground = outline(scene.geobox, scene.window)
        near = [held[i] for i in tree.query(ground, predicate="intersects")]
        over = {name for f, name in near if overlap(ground, f) > SHARED}
        if len(over) > 1:
            raise InputError(f"split: {scene.id} covers ground of {' and '.join(sorted(over))}")
        pieces += [Piece(scene, scene.window, name) for name in over]
    return pieces


def _lines(path: Path, pattern: str) -> list[str]:
    """Ids of a list file; of a CSV the first column."""
    before, _, after = pattern.partition("{id}")
    try:
        with csv_rows.cells(path) as rows:
            lines = [row[0] for row in rows]
    except csv_rows.ERRORS as err:
        raise InputError(f"split: list {path} cannot be read ({getattr(err, 'strerror', None) or err})") from err
    fits = [x for x in lines if x.startswith(before) and x.endswith(after) and len(x) > len(before) + len(after)]
    return [x[len(before) : len(x) - len(after)] for x in fits]


def _by_pattern(name: str, split: Files) -> str | None:
    for part in ("test", "val", "train"):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in getattr(split, part)):
            return part
    return None


def _by_fold(scenes: Sequence[LabelledScene], split: Folds) -> list[Piece]:
    """All in train but the group that is held out. Raises InputError for an empty group and a scene in two."""
    scenes = [s for s in scenes if not _fits(s, split.never)]
    groups = {s.id: [name for name, patterns in split.of.items() if _fits(s, patterns)] for s in scenes}
    if twice := next((i for i, names in groups.items() if len(names) > 1), None):
        raise InputError(f"split: {twice} is in the folds {' and '.join(groups[twice])}")
    if empty := set(split.of) - {n for names in groups.values() for n in names}:
        raise InputError(f"split: no scene of {len(scenes)} is in the fold {min(empty)}")
    return [Piece(s, s.window, "test" if split.hold in groups[s.id] else "train") for s in scenes]


def _fits(scene: LabelledScene, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(scene.id, pattern) for pattern in patterns)


def _carve(pieces: Sequence[Piece], carve: Carve, seed: int) -> list[Piece]:
    """The pieces, a share of train's ground as val. Pieces of one ground block go together."""
    if any(p.split == "val" for p in pieces):
        raise InputError("split.carve: there are validation scenes already; give one or the other")
    out = []
    for piece in pieces:
        if piece.split != "train":
            out.append(piece)
        elif piece.window != piece.scene.window:
            raise InputError(f"split.carve: {piece.name} is a part of a scene")
        else:
            out += _by_ground(piece.scene, carve.size, {"val": carve.share}, seed)
    return out


def _stripped(piece: Piece, strip: RightPart) -> list[Piece]:
    """A training image without its right-hand part, and that for validation."""
    if piece.split == "val" or piece.window != piece.scene.window:
        raise InputError("split.strip: there is validation already; give one or the other")
    if piece.split != "train":
        return [piece]
    w = piece.window
    start = w.x1 - round(strip.share * w.shape[1])
    if not w.x0 < start - strip.gap < w.x1 or start == w.x1:
        raise InputError(f"split.strip: {piece.name} of {w.shape[1]} columns leaves none for train or for val")
    parts = {"train": replace(w, x1=start - strip.gap), "val": replace(w, x0=start)}
    return [replace(piece, window=part, split=name) for name, part in parts.items()]


def _by_ground(scene: LabelledScene, size: float, shares: dict[str, float], seed: int) -> list[Piece]:
    """A scene cut along ground blocks of ``size`` metres; one that is no larger than a block stays whole.

    Blocks are squares of an equal-area plane for whole scenes (by their centre) and squares of the scene's CRS for
    those that are cut, so files on one pixel grid are cut along the same lines.
    """
    if scene.geobox is None:
        return [Piece(scene, scene.window, draw(scene.id, shares, seed))]
    affine = scene.geobox.affine
    if affine.b or affine.d:
        raise InputError(f"{scene.id}: a rotated image cannot be cut into ground blocks; use a split by files")
    centre = outline(scene.geobox, scene.window).centroid
    crs = scene.geobox.crs
    metres = 111_320.0 if crs is not None and crs.geographic else 1.0
    unit_y, unit_x = abs(affine.e) * metres, abs(affine.a) * metres
    if max(scene.shape[0] * unit_y, scene.shape[1] * unit_x) <= size:
        x, y = pyproj.Transformer.from_crs(4326, 6933, always_xy=True).transform(centre.x, centre.y)
        split = draw(f"{math.floor(x / size)} {math.floor(y / size)}", shares, seed)
        return [Piece(scene, scene.window, split)]
    rows = _cuts(affine.f * metres, affine.e * metres, scene.shape[0], size)
    cols = _cuts(affine.c * metres, affine.a * metres, scene.shape[1], size)
    pieces = []
    for (y0, y1), iy in rows:
        for (x0, x1), ix in cols:
            split = draw(f"{scene.geobox.crs} {ix} {iy}", shares, seed)
            pieces.append(Piece(scene, Window(y0, x0, y1, x1), split))
    return _joined(pieces)


def _inner(pieces: list[Piece], buffer: float) -> list[Piece]:
    """Held-out pieces of a scene that was cut, without the outer ``buffer`` metres: so far is train from them."""
    if not buffer:
        return pieces
    out = []
    for piece in pieces:
        w, whole = piece.window, piece.scene.window
        if piece.split == "train" or w == whole or piece.scene.geobox is None:
            out.append(piece)
            continue
        affine = piece.scene.geobox.affine
        y, x = math.ceil(buffer / abs(affine.e)), math.ceil(buffer / abs(affine.a))
        window = Window(
            w.y0 + y * (w.y0 > 0), w.x0 + x * (w.x0 > 0), w.y1 - y * (w.y1 < whole.y1), w.x1 - x * (w.x1 < whole.x1)
        )
        if not window.empty:
            out.append(replace(piece, window=window))
    return out


def _cuts(origin: float, step: float, count: int, size: float) -> list[tuple[tuple[int, int], int]]:
    """Pixel ranges of an axis and the number of the ground block that holds the centres of their pixels."""
    index = np.floor((origin + (np.arange(count) + 0.5) * step) / size).astype(int)
    edges = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), count]
    return [((a, b), int(index[a])) for a, b in pairwise(edges)]


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours in a row that are of one split as one piece, so that chips are not cut without need."""
    out: list[Piece] = []
    for piece in pieces:
        last = out[-1] if out else None
        w = piece.window
        if last is not None and last.split == piece.split and last.window.y0 == w.y0 and last.window.x1 == w.x0:
            out[-1] = replace(last, window=last.window.union(w))
        else:
            out.append(piece)
    return out
