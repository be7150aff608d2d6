"""Train a locator: features of every view once, a head on them, calibration on pictures that it never saw."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from geoml.backends.torch import choose
from geoml.data.recipe import resolve
from geoml.engine.train.loop import Training, learn
from geoml.engine.train.state import FolderClaim
from geoml.engine.train.team import OnEpoch
from geoml.errors import InputError
from geoml.geolocation import heads
from geoml.geolocation.cards.locator import Calibrated, Domained, LocatorCard
from geoml.geolocation.density.density import Density
from geoml.geolocation.locate import answers, locator
from geoml.geolocation.locate.features import Extractor
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.nn import conformal, domains, geoscores
from geoml.geolocation.nn.domains import DomainHead
from geoml.geolocation.training import backbone as fit_backbone
from geoml.geolocation.training import balance, draw, picture_sets, world, world_sets
from geoml.geolocation.training import domain as fit_domain
from geoml.geolocation.training.place_scores import PlaceScores
from geoml.geolocation.training.recipe import Calibration, GeoRecipe, HeadTraining, Views, WorldSource
from geoml.geolocation.training.world_sets import FeatureSet, WorldSets, joined
from geoml.grid import sphere
from geoml.io.stores.scratch import scratch
from geoml.texts import listed

Floats = NDArray[np.float64]


def fit(
    recipe: GeoRecipe, out: str | Path, cache: str | Path | None = None, on_epoch: OnEpoch | None = None
) -> Locator:
    """Train by the recipe and write a package to ``out``; its card holds calibration and the scores of every test set.

    Features are kept in ``cache``, a folder of the machine's scratch by default. With ``training.backbone`` the
    backbone learns first, see `geoml.geolocation.training.backbone`; a run that was stopped goes on after its last
    epoch. Raises InputError for a recipe that does not fit itself or the folder or a split that leaks, DataError for a
    picture that cannot be read, ModelError when the loss is not finite.
    """
    claim = FolderClaim(Path(out), recipe, recipe.hash)
    claim.check()
    check(recipe)
    torch.manual_seed(recipe.seed)
    backbone = locator.build_backbone(recipe.backbone, recipe.weights)
    learnt, asked, state = None, recipe, claim.take()
    if recipe.training.backbone is not None:
        learnt = fit_backbone.fit(recipe, backbone, state / "backbone", on_epoch)
        if fit_backbone.has_gallery(recipe.head):
            learnt = None
        else:  # nothing is trained on features any more
            asked = recipe.model_copy(update={"views": Views(clean=1, seasons=0)})
    extractor = Extractor(backbone, recipe.size)
    answering = Extractor(locator.rounded(backbone, recipe.half, True), recipe.size) if recipe.int8 else extractor
    sets = _of(recipe).prepare(asked, extractor, cache or features_cache(), answering)
    made = fit_features(recipe, sets, on_epoch, learnt, state)
    card = _card(recipe, made, sets, extractor)
    found = Locator(answering.backbone, made.head, card, domain=made.domain)
    found = dataclasses.replace(found, card=locator.save(found, out, recipe.half, recipe.int8), path=Path(out))
    claim.forget()
    return found


def check(recipe: GeoRecipe) -> None:
    """Raise InputError or DataError for what would only be met after hours: options of the head, files, the device."""
    heads.build(recipe.head.name, {**recipe.head.config, "features": 4096})  # how many is only known later
    source = recipe.source
    if isinstance(source, WorldSource):
        named = {"picture": source.picture, "other": source.other, "land": source.land}
        named |= {f"renderings.{n}": name for n, name in enumerate(source.renderings)}
        lost = [f"source.{field}: {name} is not there" for field, name in named.items()
                if name is not None and not world.find(name).is_file()]  # fmt: skip
        if lost:
            raise InputError(listed(lost, joined="; "))
    else:
        for field, text in (("pictures", source.pictures), *((f"tests.{n}", (v,)) for n, v in source.tests.items())):
            for name in text:
                if not any(c in name for c in "*?[") and "://" not in name and not resolve(name).exists():
                    raise InputError(f"source.{field}: {name} is not there")
    choose()


def _of(recipe: GeoRecipe) -> Any:
    """The module that makes the sets of a recipe."""
    return world_sets if isinstance(recipe.source, WorldSource) else picture_sets


def features_cache() -> Path:
    """Where features are kept that have been computed on this machine."""
    return scratch("features")


def score(model: str | Path, recipe: GeoRecipe, cache: str | Path | None = None) -> dict[str, Any]:
    """Scores of a package on every test set of a recipe, by its name, as plain JSON values.

    Raises InputError when the recipe is for pictures of another kind or width, and as `fit`.
    """
    found = locator.load(model)
    card = found.card
    wide = recipe.source.width_km if isinstance(recipe.source, WorldSource) else card.width_km
    if (card.kind, card.width_km) != (recipe.kind, wide):
        said = f"{card.kind} of {card.width_km} km, the recipe for {recipe.kind} of {wide} km"
        raise InputError(f"recipe: the model is for {said}")
    sets = _of(recipe).tests(recipe, found.extractor, cache or features_cache())
    scores = {}
    for name, queries in sets.items():
        unlike = np.array([why is not None for why in found.out_of_domain(queries.features)])
        no = unlike if card.domain is not None else None
        scores[name] = evaluate(found.head, card.calibration, queries, recipe.seed, unlike=no)
    return {"model": card.name, "sha256": card.sha256, "recipe": recipe.hash, "sets": scores}


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained head, its calibration and its scores by test set."""

    head: nn.Module
    config: dict[str, Any]
    calibration: Calibrated
    scores: dict[str, Any]
    domain: DomainHead | None = None
    domained: Domained | None = None


def fit_features(
    recipe: GeoRecipe,
    sets: WorldSets,
    on_epoch: OnEpoch | None = None,
    learnt: nn.Module | None = None,
    state: Path | None = None,
) -> Fitted:
    """Head, calibration and scores of features that are there already; ``learnt`` is a head that needs no training.

    What is trained is kept below ``state``, and goes on from there.
    """
    head = learnt
    if head is None:
        asked, folder = recipe.head, None if state is None else state / "head"
        head = train_head(asked.name, asked.config, sets.train, recipe.training, recipe.seed, on_epoch, folder)
    if recipe.int8:  # what is written is what is calibrated and scored
        head = locator.rounded(head, recipe.half, True)
    config = dataclasses.asdict(head.config)  # type: ignore[call-overload]
    strict = sets.val_blocks if recipe.calibration.blocks else None
    calibrated = calibrate(head, sets.val, recipe.calibration, strict)
    domain, domained = _domain(recipe, head, calibrated, sets, state)
    scores = {}
    for name, queries in sets.tests.items():
        unlike = (
            None if domain is None or domained is None else ~domains.inside(domain, queries.features, domained.limit)
        )
        scores[name] = evaluate(head, calibrated, queries, recipe.seed, unlike=unlike)
    return Fitted(head, config, calibrated, scores, domain, domained)


def _domain(
    recipe: GeoRecipe, head: nn.Module, calibrated: Calibrated, sets: WorldSets, state: Path | None
) -> tuple[DomainHead | None, Domained | None]:
    """The head that tells what the locator is not for; its limit is chosen on validation pictures that are answered."""
    how = recipe.source.foreign if isinstance(recipe.source, WorldSource) else None
    if how is None:
        return None, None
    folder = None if state is None else state / "domain"
    domain = fit_domain.fit(sets.train.features, sets.foreign, how, recipe.seed, folder)
    if recipe.int8:
        domain = locator.rounded(domain, recipe.half, True)
    both = joined([sets.val, sets.val_blocks])
    density = locator.head_density(head, both.features).tempered(calibrated.temperature, calibrated.spread)
    sure = answers.sure_regions(density, calibrated) == 0
    return domain, fit_domain.choose(domain, both.features[sure], sets.foreign_val, how)


def train_head(
    name: str,
    config: Mapping[str, Any],
    train: FeatureSet,
    how: HeadTraining,
    seed: int,
    on_epoch: OnEpoch | None = None,
    folder: Path | None = None,
) -> nn.Module:
    """A head of ``geoml/geolocation/heads`` in eval mode, trained on (N, F) features; the same for the same seed.

    Goes on with the state in ``folder``. Raises as `geoml.engine.train.loop.learn`.
    """
    torch.manual_seed(seed)
    x = torch.from_numpy(np.ascontiguousarray(train.features, np.float32))
    xyz = torch.from_numpy(sphere.to_xyz(train.lon, train.lat).astype(np.float32))
    head = heads.build(name, {**config, "features": x.shape[1]})
    head.start(x, xyz)  # type: ignore[operator]
    learnt = [p for p in head.parameters() if p.requires_grad]
    if not learnt:
        return head.eval()
    weight = balance.weights(balance.coarse(train.lon, train.lat), how.balance)
    batches = draw.FeatureBatches(x, xyz, weight, how.batch, np.random.default_rng([seed, 0x7EA]))
    training = Training(
        name=f"head {name}", lower="training.lr", net=head, batches=batches, epochs=how.epochs,
        loss=head.loss,  # type: ignore[arg-type]
        optimiser=partial(AdamW, learnt, how.lr, weight_decay=how.weight_decay), clip=how.clip,
        schedule=partial(OneCycleLR, max_lr=how.lr, total_steps=len(batches) * how.epochs),
        generators=(batches.draw,), buffers=False,
    )  # fmt: skip
    learn(training, folder, on_epoch)
    return head


def calibrate(head: nn.Module, chosen: FeatureSet, how: Calibration, strict: FeatureSet | None = None) -> Calibrated:
    """Temperature and spread by likelihood, the conformal quantile, and the threshold for the target precision.

    Half of the pictures give temperature and spread, the others quantile and threshold: a threshold that was chosen on
    the pictures that shaped the confidence would promise too much. With ``strict``, pictures of blocks that were never
    trained, the threshold is chosen on those. Raises InputError for fewer than 20 pictures.
    """
    if len(chosen) < 20:
        raise InputError(f"calibration: {len(chosen)} validation pictures; expected at least 20")
    first, second = chosen.take(np.arange(0, len(chosen), 2)), chosen.take(np.arange(1, len(chosen), 2))
    t, spread = temperature(locator.head_density(head, first.features), first.lon, first.lat)
    density = locator.head_density(head, second.features).tempered(t, spread)
    asked = second if strict is None else strict
    told = density if strict is None else locator.head_density(head, strict.features).tempered(t, spread)
    at = told.mode()
    sure = told.within(*at, how.within_km)
    right = sphere.distance(*at, asked.lon, asked.lat) <= how.within_km
    limit = geoscores.threshold(sure, right, how.precision)
    cells = locator.head_cells(head)
    quantile = None
    if cells is not None:
        q = conformal.quantile(
            locator.cell_probability(density, cells), cells.assign(second.lon, second.lat), how.alpha
        )
        quantile = q if np.isfinite(q) else None
    kept = sure >= limit if limit is not None else np.zeros(len(sure), bool)
    value = {
        "temperature": t, "spread": spread, "alpha": how.alpha, "conformal": quantile, "within_km": how.within_km,
        "threshold": limit, "precision": how.precision, "reached": float(right[kept].mean()) if kept.any() else None,
        "coverage": float(kept.mean()), "pictures": len(chosen),
    }  # fmt: skip
    name = hashlib.sha256(json.dumps(value, sort_keys=True).encode() + chosen.features.tobytes()).hexdigest()[:16]
    return Calibrated(**value, id=name)


def temperature(density: Density, lon: Floats, lat: Floats, rounds: int = 2) -> tuple[float, float]:
    """Temperature of the weights and spread of the components with the best likelihood, by turns on a grid.

    Guo et al. 2017 (https://arxiv.org/abs/1706.04599), with a second number since a mixture has two ways to be unsure.
    """
    grid = np.geomspace(0.05, 8.0, 25)
    t, spread = 1.0, 1.0
    for _ in range(rounds):
        t = float(min(grid, key=lambda v: geoscores.nll(density.tempered(float(v), spread).log_density(lon, lat))))
        spread = float(min(grid, key=lambda v: geoscores.nll(density.tempered(t, float(v)).log_density(lon, lat))))
    return t, spread


def evaluate(
    head: nn.Module,
    calibration: Calibrated,
    queries: FeatureSet,
    seed: int = 0,
    draws: int = 1000,
    unlike: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Scores of a test set, see `geoml.geolocation.training.place_scores`."""
    density = locator.head_density(head, queries.features).tempered(calibration.temperature, calibration.spread)
    scores = PlaceScores(calibration, locator.head_cells(head), seed, draws)
    scores.update(density, queries.lon, queries.lat, unlike)
    return scores.compute()


def _card(recipe: GeoRecipe, made: Fitted, sets: WorldSets, extractor: Extractor) -> LocatorCard:
    backbone = extractor.backbone
    m, s = backbone.mean, backbone.std
    source, train = recipe.source, sets.train
    wide, note = None, "pictures with positions of their own"
    box = (float(train.lon.min()), float(train.lat.min()), float(train.lon.max()), float(train.lat.max()))
    if isinstance(source, WorldSource):
        wide, box = source.width_km, (-180.0, source.south, 180.0, source.north)
        note = "random places on land; pictures from above, without clouds"
    return LocatorCard(
        name=recipe.name, description=recipe.description, kind=recipe.kind, license=recipe.license,
        data_license=recipe.data_license, backbone=recipe.backbone, head=recipe.head.name, head_config=made.config,
        features=backbone.features, size=extractor.size, mean=(m[0], m[1], m[2]), std=(s[0], s[1], s[2]),
        width_km=wide, calibration=made.calibration, domain=made.domained, scores=made.scores, bbox=box,
        coverage_note=note,
        training={"recipe": recipe.model_dump(mode="json"), "recipe_hash": recipe.hash, "pictures": len(sets.train),
                  "sets": {k: len(v) for k, v in sets.tests.items()}},
    )  # fmt: skip
