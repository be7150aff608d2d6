"""Places to label next: where the map is unsure, each like others that are, and apart on the ground.

The most unsure pixels are mixed ones at edges that lie side by side, and those that are furthest from all labels are
odd ones; neither helps more than random places (tests/benchmarks/fewlabels.py). So the pixels of a sample are put into
as many clusters as places are wanted, unsure ones counting more, and the middle of each is asked for: Zhdanov 2019,
https://arxiv.org/abs/1901.05954.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyproj
import shapely
import torch
from numpy.typing import NDArray

from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.learn.doubtful import doubtful_places, own_columns, spacing
from geoml.engine.learn.gather import FeatureReader, PixelFeatures, sampled
from geoml.engine.packages.encoder import EncoderPackage
from geoml.engine.packages.package import Package
from geoml.engine.run.domain import one_level
from geoml.engine.run.plan import Plan, read_plan
from geoml.engine.run.planned import found_again, load_planned
from geoml.errors import InputError, NothingFound, limits, needs
from geoml.grid.plane import Window
from geoml.grid.region import squares_of
from geoml.grid.sphere import distance
from geoml.io.stac.table import read_items
from geoml.io.stores.remote import run_store
from geoml.io.tables import place_files
from geoml.models.few_labels import FewLabels

SQUARES = 8
"""Squares of the region that are looked through for each place that is asked for."""
PIXELS = 64
"""Pixels of each."""
MOST = 512
"""Squares at most."""
CERTAIN = 0.05
"""What a pixel of which the model is certain counts, beside 1 for one of two equally likely classes."""

Floats = NDArray[np.float64]


def spread(
    features: Floats, unsure: Floats, lonlat: Floats, places: int, apart: float, seed: int = 0
) -> NDArray[np.int64]:
    """Rows of up to ``places`` candidates, those of the largest clusters first.

    ``features`` (n, feature), ``unsure`` (n,) how much a candidate counts, ``lonlat`` (n, 2) degrees, ``apart`` metres
    between any two that are chosen. Fewer are given where no more lie so far apart.
    """
    with needs("train", "learn"):
        from sklearn.cluster import KMeans  # a second to import, which a map does without

    count = min(places, len(np.unique(features, axis=0)))
    found = KMeans(count, n_init=1, random_state=seed).fit(features, sample_weight=unsure)
    away = found.transform(features)
    size = np.bincount(found.labels_, unsure, minlength=count)
    free = np.ones(len(features), np.bool_)
    chosen: list[int] = []
    for cluster in cycle(np.argsort(-size, kind="stable")):
        if len(chosen) == places or not free.any():
            break
        mine = np.flatnonzero(free & (found.labels_ == cluster))
        if not len(mine):
            continue
        best = int(mine[away[mine, cluster].argmin()])
        chosen.append(best)
        metres = 1000 * distance(lonlat[best, 0], lonlat[best, 1], lonlat[:, 0], lonlat[:, 1])
        free &= metres >= max(apart, 1e-6)
        free[best] = False
    return np.array(chosen, np.int64)


@limits("area next")
def next_places(run: str | Path, places: int, out: Path, seed: int = 0) -> geopandas.GeoDataFrame:
    """Choose up to ``places`` pixels of the map of a run of `geoml learn` and write them to ``out`` to be labelled.

    Of other maps of classes they are those of `geoml.engine.learn.doubtful.doubtful_places`.

    ``.gpkg`` or ``.geojson``: places in EPSG:4326 of the kind that the labels had, points or the outlines of pixels,
    with an empty column that is called as that of the labels, and beside it ``set_size`` and ``dissimilarity``. What
    the model was never taught is left out: it may be no class at all. Relative paths of the run are found again: see
    `geoml.engine.run.planned.found_again`.
    Raises InputError for a run of another kind of model and an ``out`` in which places are filled in, NothingFound if
    nothing can be chosen.
    """
    out = Path(out)
    if places < 1:
        raise InputError(f"places: {places}; expected one at least")
    plan = read_plan(run)
    if plan.card.task != "landcover":
        return doubtful_places(run, places, out, seed)
    recipe = plan.card.training.get("recipe") or {}
    field = str(recipe.get("field", "class"))
    place_files.check(out, field)
    store = run_store(run)
    plan = found_again(plan, store.local)
    loaded = load_planned(plan.model_path, plan.card)
    items = list(read_items(store.local / "sources.parquet"))
    features = FeatureReader(plan, items, encoder_of(loaded), one_level(items))
    region = shapely.total_bounds([zone.geometry for zone in plan.zones]).tolist()
    squares = min(MOST, max(16, SQUARES * places))
    found = sampled(features, region, seed, squares=squares, pixels=PIXELS)
    module = loaded.module
    assert isinstance(module, FewLabels)
    x, probability, index = _said(module, found)
    inside = np.flatnonzero(index <= 1)
    if not len(inside):
        raise NothingFound(f"places: all {len(index)} pixels of the sample are unlike what the model was taught")
    limit = plan.card.made.get("limit")
    size = np.ones(len(index)) if limit is None else np.maximum((probability >= limit).sum(1), 1).astype(np.float64)
    unsure = np.exp(-(probability * np.log(probability)).sum(1)) - 1 + CERTAIN
    lonlat = found.lonlat[inside].astype(np.float64)
    rows = inside[spread(x[inside], unsure[inside], lonlat, places, _apart(lonlat, places, recipe), seed)]
    number, sizes, unlike = own_columns(field, "id", "set_size", "dissimilarity")
    frame = geopandas.GeoDataFrame(
        {
            number: np.arange(1, len(rows) + 1),
            field: pd.Series([None] * len(rows), dtype="str"),
            sizes: np.round(size[rows].astype(np.float64), 2),
            unlike: np.round(index[rows], 3),
        },
        geometry=_outlined(plan, found, rows),
        crs="EPSG:4326",
    )
    place_files.write(frame, out)
    return frame


def _outlined(plan: Plan, found: PixelFeatures, rows: NDArray[np.int64]) -> list[shapely.Geometry]:
    """The middles of pixels for labels that are points, else their outlines, which can be added to polygons."""
    if plan.card.scores["learnt"]["kind"] == "point":
        return list(shapely.points(found.lonlat[rows]))
    squares = []
    for zone, y, x in found.pixel[rows].tolist():
        plane = plan.zones[zone].plane
        to = pyproj.Transformer.from_crs(plane.crs, "EPSG:4326", always_xy=True)
        (square,) = squares_of(plane, [Window(y, x, y + 1, x + 1)])
        squares.append(shapely.transform(square, to.transform, interleaved=False))
    return squares


def _said(module: FewLabels, pixels: PixelFeatures) -> tuple[Floats, Floats, Floats]:
    """Of each pixel its standardised features, the probabilities of the classes, and the dissimilarity."""
    joined = torch.from_numpy(np.concatenate([pixels.parts[n] for n in module.config.features], axis=1))
    with torch.inference_mode():
        row = joined.T[None, :, None]
        probability = module.head(row)[0, :, 0].double().softmax(0).T.numpy()
        index = module.dissimilarity(row)[0, 0, 0].double().numpy()
    values = joined.double().numpy()
    spread_of = values.std(0)
    return (values - values.mean(0)) / np.where(spread_of > 0, spread_of, 1.0), np.maximum(probability, 1e-12), index


def _apart(lonlat: Floats, places: int, recipe: Mapping[str, Any]) -> float:
    """Metres between places: those of the recipe's ground, or less where so many would not have room."""
    return float(min(recipe.get("ground", 0.0), spacing(lonlat[:, 0], lonlat[:, 1], places)))


def encoder_of(loaded: Package) -> EncoderPackage | None:
    """The encoder inside of a package that learnt from few labels; None if it has none."""
    module, card = loaded.module, loaded.card
    assert isinstance(module, FewLabels)
    if module.encoder is None or module.config.encoder is None:
        return None
    chosen = module.config.encoder_bands or tuple(range(len(card.bands)))
    made = EncoderCard(
        name=card.name, license=card.license, architecture=module.config.encoder, config=module.config.encoder_config,
        bands=tuple(card.bands[b] for b in chosen), level=card.level, gsd=card.gsd, steps=int(module.encoder.steps),  # type: ignore[arg-type]
        width=int(module.encoder.width),  # type: ignore[arg-type]
        profile=card.profile,
    )  # fmt: skip
    return EncoderPackage(module.encoder, made, loaded.path)
