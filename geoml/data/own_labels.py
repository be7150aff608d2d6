"""A training recipe from an image and drawn labels: classes, split, grid and settings for a small training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
import yaml
from shapely.geometry import MultiPolygon

from geoml.data import label_file
from geoml.data.ground_split import HELD, GroundSplit, split_ground, too_few
from geoml.data.label_file import LabelFile
from geoml.data.own_recipe import OwnRecipe
from geoml.errors import InputError
from geoml.grid.plane import Plane
from geoml.grid.region import plane_of, polygonal, polygons_of, squares_of, utm_crs
from geoml.io.cards.class_colours import class_colours
from geoml.io.cog.scene_files import FileScene, scenes_of
from geoml.io.cog.scene_items import catalog_place, footprint, write_scenes
from geoml.io.crs import true_metres
from geoml.io.stores.remote import is_url
from geoml.io.stores.store import read_small, sha256, within, write_text
from geoml.io.tables import place_files, vectors
from geoml.recipe import digest
from geoml.texts import counted, listed

RECIPE, IMAGES, LABELS = "recipe.yaml", "images", "labels"
"""In the folder of the package."""
CHIP = 64
SAMPLES = 128
"""Crops of an epoch: an image with few labels has too few tiles to learn from."""
SHARED = "in the pixel of another of the same class"
OUTSIDE = "outside of the region"
"""Why labels are left out, as `geoml.data.label_file.within` says it."""


@dataclass(frozen=True)
class OwnTraining:
    """A recipe as plain values, and what it is made of: ``labels`` is the folder of its label files, called by what the
    labels and images hold, so that a recipe says it; ``left_out`` counts labels by why they are not in it."""

    recipe: dict[str, Any]
    scenes: tuple[FileScene, ...]
    split: GroundSplit
    asked: OwnRecipe
    labels: str
    left_out: dict[str, int]

    @property
    def text(self) -> str:
        """The recipe as YAML."""
        return yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True, width=120)

    @property
    def said(self) -> list[str]:
        """What was made of the labels, for a person to check."""
        frame, names = self.split.frame, [c["name"] for c in self.recipe["classes"]]
        lines = [s.said for s in self.scenes]
        gsd = float(self.recipe["gsd"])
        for k, name in enumerate(names):
            mine = frame[frame["label"] == k]
            train, val, test = (
                round(float(mine[mine["split"] == s].area.sum()) / gsd**2) for s in ("train", "val", "test")
            )
            lines.append(
                f"{name}: about {counted(train, 'pixel')} to learn from, {val:,} to choose by, {test:,} to score on"
            )
        lines.append(f"held out by squares of ground of {self.split.side:g} m")
        return lines + [f"left out: {counted(n, 'label')}, {why}" for why, n in self.left_out.items()]

    def write(self, out: Path) -> Path:
        """Write the catalog, the labels of each split and the recipe into ``out``; gives the recipe's file.

        Raises InputError if ``out`` contains a training with different images, labels or options.
        """
        before = read_small(out / RECIPE)
        if before is not None and before != self.text.encode():
            raise InputError(
                f"out: {out} contains a training with different images, labels or options; expected another folder"
            )
        write_scenes(self.scenes, self.asked, out / IMAGES, "images with labels")
        names = np.array([c["name"] for c in self.recipe["classes"]])
        for name in ("train", *HELD):
            mine = self.split.frame[self.split.frame["split"] == name]
            frame = gpd.GeoDataFrame(
                {self.asked.field: names[mine["label"]]}, geometry=mine.geometry.to_numpy(), crs=mine.crs
            )
            place = within(out, f"{self.labels}/{name}.gpkg")
            place.parent.mkdir(parents=True, exist_ok=True)
            place_files.write(frame, place)
        write_text(within(out, RECIPE), self.text)
        return out / RECIPE


def own_training(asked: OwnRecipe, out: Path) -> OwnTraining:
    """The training that is asked for, which ``out`` will hold. Reads headers and labels, and writes nothing.

    Raises InputError that names an option, with counts, for files, bands and labels that cannot be used and classes
    that cannot be held out; NothingFound if no label lies on an image.
    """
    asked.check()
    scenes = scenes_of(asked.image, asked, asked.datetime, field="image", undated=True)
    crs, gsd, anchor = _grid(scenes)
    labels, left = _labels(asked, scenes, crs, plane_of(crs, gsd, anchor))
    classes = labels.classes
    frame = labels.frame
    if asked.few == "drop" and (few := too_few(frame, classes, gsd, asked.ground)):
        gone = frame["label"].isin(few)
        left |= {f"in too few places: {listed(classes[k] for k in few)}": int(gone.sum())}
        kept = [k for k in range(len(classes)) if k not in few]
        frame = frame[~gone].assign(label=lambda f: f["label"].map({k: n for n, k in enumerate(kept)}))
        classes = tuple(classes[k] for k in kept)
        if len(classes) < 2:
            raise InputError(f"labels: {len(classes)} classes lie in enough places; expected two or more, draw more")
    try:
        split = split_ground(frame, classes, gsd, asked.ground, asked.seed, anchor=anchor)
    except InputError as err:
        known = label_file.read(asked.labels, asked.field, contradictions=True, least=1).classes
        split_nowhere = [classes[k] for k in too_few(frame, classes, gsd, asked.ground)]
        if new := [c for c in split_nowhere if c not in known]:
            raise InputError(f"{err}. Only the files of --add have {listed(new)}; is it spelled right?") from err
        raise
    out = out.absolute()
    folder = f"{LABELS}-{_contents(split, classes, scenes)[:8]}"
    recipe = {
        "name": asked.name or re.sub(r"[^A-Za-z0-9._-]", "-", out.resolve().name).strip("-._") or "own",
        "description": f"{', '.join(classes)} of {listed(s.name for s in scenes)}, from"
        f" {counted(len(labels.frame), 'label')}",
        "bands": [name for file in scenes[0].bands for name in file if name],
        "gsd": gsd,
        "license": "other",
        "classes": _classes(classes, asked, labels),
        "source": {
            "kind": "stac",
            "catalog": str(catalog_place(scenes, out / IMAGES)),
            "datetime": "../..",
            "mask": "none",
            "crs": crs,
            "anchor": anchor,
            "labels": [
                {"name": name, "file": str(out / folder / f"{name}.gpkg"), "field": asked.field}
                for name in ("train", *HELD)
            ],
        },
        "split": {"kind": "labels", **{name: [name] for name in ("train", *HELD)}, "buffer": gsd},
        "sampling": {"kind": "balanced", "samples": SAMPLES},
        "loss": {"parts": "auto", "weights": "auto"},
        "epochs": asked.epochs,
        "batch": 8,
        "chip_size": CHIP,
        "seed": asked.seed,
    }
    if asked.unit:
        recipe["units"] = asked.unit
    return OwnTraining(recipe, tuple(scenes), split, asked, folder, left)


def _contents(split: GroundSplit, classes: Sequence[str], scenes: Sequence[FileScene]) -> str:
    """sha256 of labels, splits and images; of an image elsewhere of its address."""
    frame = split.frame
    places = [href for s in scenes for f in s.files for href in f.hrefs]
    rows = zip(
        shapely.to_wkb(frame.geometry.to_numpy(), hex=True), frame["label"].tolist(), frame["split"], strict=True
    )
    return digest(
        [list(classes), [list(map(str, r)) for r in rows], [p if is_url(p) else sha256(Path(p)) for p in places]]
    )


def _grid(scenes: Sequence[FileScene]) -> tuple[str, float, float]:
    """CRS, pixel size in metres and phase of the plane: those of the images where they share one in true metres."""
    boxes = [f.box for s in scenes for f in s.files]
    gsd = min(s.gsd for s in scenes)
    shared = {b.crs for b in boxes}
    crs = next(iter(shared))
    if len(shared) == 1 and all(true_metres(b) for b in boxes):
        box = next(f.box for s in scenes for f in s.files if f.gsd == gsd)
        square = abs(abs(box.affine.a) - gsd) < 1e-6 * gsd and abs(abs(box.affine.e) - gsd) < 1e-6 * gsd
        phases = [(v / gsd) % 1 for v in (box.affine.c, box.affine.f)]
        half = square and all(abs(p - 0.5) < 1e-3 for p in phases)
        return str(crs), gsd if square else float(f"{gsd:.3g}"), 0.5 if half else 0.0
    middle = footprint(scenes).centroid
    return utm_crs(middle.x, middle.y), float(f"{gsd:.3g}"), 0.0


def _labels(asked: OwnRecipe, scenes: Sequence[FileScene], crs: str, plane: Plane) -> tuple[LabelFile, dict[str, int]]:
    """All labels on the images as polygons in ``crs``, later files before earlier ones where they differ."""
    ground = footprint(scenes)
    allowed = asked.contradictions == "allow"
    to = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    seen = polygons_of(shapely.make_valid(shapely.transform(ground, to.transform, interleaved=False)))
    files = [
        label_file.within(label_file.read(place, asked.field, contradictions=allowed, least=1), ground)
        for place in (asked.labels, *asked.add)
    ]
    found = label_file.joined(files, asked.field)
    classes, left = found.classes, dict(found.left_out)
    frame = gpd.GeoDataFrame({"label": []}, geometry=[], crs=crs)
    for one in range(len(files)):
        mine = found.frame.loc[found.frame["file"] == one, ["label", "geometry"]].to_crs(crs)
        if files[one].kind == "point":
            mine, shared = _pixels(mine, plane)
            if shared:
                left[SHARED] = left.get(SHARED, 0) + shared
        mine, lost = _clipped(mine, seen)
        if lost:
            left[OUTSIDE] = left.get(OUTSIDE, 0) + lost
        frame = mine if frame.empty else pd.concat([_under(frame, mine), mine], ignore_index=True)
    return LabelFile(frame, classes, "polygon", left), left


def _pixels(points: gpd.GeoDataFrame, plane: Plane) -> tuple[gpd.GeoDataFrame, int]:
    """The pixels that hold points, and how many points are left out: another of their class lies in the same pixel."""
    squares = squares_of(plane, [plane.pixel(p.x, p.y) for p in points.geometry])
    found = points.set_geometry(squares, crs=points.crs)
    again = found.assign(square=shapely.to_wkb(squares)).duplicated(["label", "square"]).to_numpy()
    return found[~again], int(again.sum())


def _clipped(frame: gpd.GeoDataFrame, ground: MultiPolygon) -> tuple[gpd.GeoDataFrame, int]:
    """The part of labels that images show, and how many have none."""
    shapes = frame.geometry.to_numpy().copy()
    shapely.prepare(ground)
    out = ~shapely.covers(ground, shapes)
    shapes[out] = polygonal(shapely.intersection(shapes[out], ground))
    lost = shapely.is_empty(shapes)
    return frame.set_geometry(shapes, crs=frame.crs)[~lost], int(lost.sum())


def _under(frame: gpd.GeoDataFrame, over: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Labels without the ground that others give to another class."""
    shapes = frame.geometry.to_numpy().copy()
    mine, theirs = over.sindex.query(shapes, predicate="intersects")
    other = frame["label"].to_numpy()[mine] != over["label"].to_numpy()[theirs]
    for row in np.unique(mine[other]):
        shapes[row] = shapely.difference(
            shapes[row], shapely.union_all(over.geometry.to_numpy()[theirs[other & (mine == row)]])
        )
    shapes = polygonal(shapes)
    return frame.set_geometry(shapes, crs=frame.crs)[~shapely.is_empty(shapes)]


def _classes(names: Sequence[str], asked: OwnRecipe, labels: LabelFile) -> list[dict[str, Any]]:
    """Numbers are their own values, other names are numbered; colours are the file's or made."""
    numbers = [int(n) for n in names if re.fullmatch(r"\d{1,3}", n) and int(n) <= label_file.MOST]
    values = numbers if len(set(numbers)) == len(names) else list(range(1, len(names) + 1))
    colors = _colors(asked, names) if asked.color else class_colours(names)
    return [{"value": v, "name": n, "color": c} for v, n, c in zip(values, names, colors, strict=True)]


def _colors(asked: OwnRecipe, names: Sequence[str]) -> list[str]:
    """The one colour that the labels have for each class. Raises InputError for none, several or another text."""
    frame = vectors.read(asked.labels)
    if asked.color not in frame.columns:
        raise InputError(f"color: no {asked.color!r} in {asked.labels}; it has {listed(map(str, frame.columns))}")
    named = frame[asked.field].map(label_file.word)
    said = [sorted({str(v).strip() for v in frame.loc[named == n, asked.color].dropna()}) for n in names]
    if wrong := [
        n for n, c in zip(names, said, strict=True) if len(c) != 1 or not re.fullmatch(r"#[0-9a-fA-F]{6}", c[0])
    ]:
        raise InputError(
            f"color: {len(wrong)} of {len(names)} classes have no one colour such as #1f78b4: {listed(wrong)}"
        )
    return [c[0] for c in said]
