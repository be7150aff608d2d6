"""Train a locator: features of every view once, a head on them, calibration on pictures that it never saw."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from geoml.backends.torch import choose
from geoml.data.recipe import resolve
from geoml.engine.train.loop import Training, learn
from geoml.engine.train.state import FolderClaim
from geoml.engine.train.team import OnEpoch
from geoml.errors import InputError
from geoml.geolocation import heads
from geoml.geolocation.cards.locator import FittedCalibration, FittedDomain, LocatorCard
from geoml.geolocation.density.density import Density
from geoml.geolocation.locate import answers, locator
from geoml.geolocation.locate.features import Extractor
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.nn import conformal, domains, geoscores
from geoml.geolocation.nn.domains import DomainHead
from geoml.geolocation.nn.head_parts import DensityHead
from geoml.geolocation.training import backbone as fit_backbone
from geoml.geolocation.training import balance, picture_sets, world, world_sets
from geoml.geolocation.training import domain as fit_domain
from geoml.geolocation.training.place_scores import PlaceScores, constant_baselines
from geoml.geolocation.training.recipe import Calibration, GeoRecipe, HeadTraining, Views, WorldSource
from geoml.geolocation.training.sampling import FeatureBatches
from geoml.geolocation.training.world_sets import FeatureSet, FeatureSets, joined
from geoml.grid import sphere
from geoml.io.stores.scratch import scratch
from geoml.texts import listed

Floats = NDArray[np.float64]


def fit(
    recipe: GeoRecipe, out: str | Path, cache: str | Path | None = None, on_epoch: OnEpoch | None = None
) -> Locator:
    """Train by the recipe and write a package to ``out``; its card holds calibration and the scores of every test set.

    Features are cached in ``cache``, a folder of the machine's scratch by default. With ``training.backbone`` the
    backbone learns first, see `geoml.geolocation.training.backbone`; a run that was stopped goes on after its last
    epoch. Raises InputError for a recipe that does not fit itself or the folder or a split that leaks, DataError for a
    picture that cannot be read, ModelError if the loss is not finite.
    """
    claim = FolderClaim(Path(out), recipe, recipe.hash)
    claim.check()
    check(recipe)
    torch.manual_seed(recipe.seed)
    backbone = locator.build_backbone(recipe.backbone, recipe.weights)
    trained, views, state = None, recipe, claim.take()
    if recipe.training.backbone is not None:
        trained = fit_backbone.fit(recipe, backbone, state / "backbone", on_epoch)
        if fit_backbone.has_gallery(recipe.head):
            trained = None
        else:  # nothing is trained on features any more
            views = recipe.model_copy(update={"views": Views(clean=1, seasons=0)})
    extractor = Extractor(backbone, recipe.size)
    answering = Extractor(locator.rounded(backbone, recipe.half, True), recipe.size) if recipe.int8 else extractor
    sets = _maker(recipe).prepare(views, extractor, cache or scratch("features"), answering)
    fitted = fit_features(recipe, sets, on_epoch, trained, state)
    package = Locator(answering.backbone, fitted.head, _card(recipe, fitted, sets, extractor), domain=fitted.domain)
    package = dataclasses.replace(package, card=locator.save(package, out, recipe.half, recipe.int8), path=Path(out))
    claim.forget()
    return package


def check(recipe: GeoRecipe) -> None:
    """Raise InputError or DataError for what would only be met after hours: options of the head, files, the device."""
    heads.build(recipe.head.name, {**recipe.head.config, "features": 4096})  # how many is only known later
    source = recipe.source
    if isinstance(source, WorldSource):
        named = {"picture": source.picture, "other": source.other, "land": source.land}
        named |= {f"renderings.{n}": name for n, name in enumerate(source.renderings)}
        missing = [f"source.{field}: {name} does not exist" for field, name in named.items()
                   if name is not None and not world.find(name).is_file()]  # fmt: skip
        if missing:
            raise InputError(listed(missing, joined="; "))
    else:
        for field, text in (("pictures", source.pictures), *((f"tests.{n}", (v,)) for n, v in source.tests.items())):
            for name in text:
                if not any(c in name for c in "*?[") and "://" not in name and not resolve(name).exists():
                    raise InputError(f"source.{field}: {name} does not exist")
    choose()


class SetMaker(Protocol):
    """What makes the sets of a recipe: a module of its own for each kind of source."""

    def prepare(
        self, recipe: GeoRecipe, extractor: Extractor, cache: str | Path | None, answering: Extractor | None = None
    ) -> FeatureSets: ...

    def tests(
        self, recipe: GeoRecipe, extractor: Extractor, cache: str | Path | None
    ) -> tuple[dict[str, FeatureSet], Floats]: ...


def _maker(recipe: GeoRecipe) -> SetMaker:
    return world_sets if isinstance(recipe.source, WorldSource) else picture_sets


def score(model: str | Path, recipe: GeoRecipe, cache: str | Path | None = None) -> dict[str, object]:
    """Scores of a package on every test set of a recipe, by its name, as plain JSON values; ``baseline`` of each is
    what doing nothing scores.

    Raises InputError if the recipe is for pictures of another kind or width, and as `fit`.
    """
    package = locator.load(model)
    card = package.card
    wide = recipe.source.width_km if isinstance(recipe.source, WorldSource) else card.width_km
    if (card.kind, card.width_km) != (recipe.kind, wide):
        both = f"{card.kind} of {card.width_km} km, the recipe for {recipe.kind} of {wide} km"
        raise InputError(f"recipe: the model is for {both}")
    sets, train = _maker(recipe).tests(recipe, package.extractor, cache or scratch("features"))
    scores = _scores(package.head, card.calibration, sets, train, recipe.seed, package.domain, card.domain)
    return {"model": card.name, "sha256": card.sha256, "recipe": recipe.hash, "sets": scores}


@dataclasses.dataclass(frozen=True)
class FittedHead:
    """A trained head, its calibration and its scores by test set."""

    head: DensityHead
    calibration: FittedCalibration
    scores: dict[str, dict[str, object]]
    domain: DomainHead | None = None
    domain_card: FittedDomain | None = None


def fit_features(
    recipe: GeoRecipe,
    sets: FeatureSets,
    on_epoch: OnEpoch | None = None,
    trained: DensityHead | None = None,
    state: Path | None = None,
) -> FittedHead:
    """Head, calibration and scores of features that are there already; ``trained`` is a head that needs no training.

    What is trained is kept below ``state``, and goes on from there.
    """
    head = trained
    if head is None:
        options, folder = recipe.head, None if state is None else state / "head"
        head = train_head(options.name, options.config, sets.train, recipe.training, recipe.seed, on_epoch, folder)
    if recipe.int8:  # what is written is what is calibrated and scored
        head = locator.rounded(head, recipe.half, True)
    strict = sets.val_blocks if recipe.calibration.blocks else None
    calibration = calibrate(head, sets.val, recipe.calibration, strict)
    domain, domain_card = _domain(recipe, head, calibration, sets, state)
    train = np.stack([sets.train.lon, sets.train.lat], 1)
    scores = _scores(head, calibration, sets.tests, train, recipe.seed, domain, domain_card)
    return FittedHead(head, calibration, scores, domain, domain_card)


def _scores(
    head: DensityHead,
    calibration: FittedCalibration,
    tests: Mapping[str, FeatureSet],
    train: Floats,
    seed: int,
    domain: DomainHead | None,
    domain_card: FittedDomain | None,
) -> dict[str, dict[str, object]]:
    """By test set, next to those of doing nothing, which knows the places (N, 2) of training only."""
    rows = {}
    for name, queries in tests.items():
        unlike = None
        if domain is not None and domain_card is not None:
            unlike = domains.odds_and_kinds(domain, queries.features, domain_card.kinds)[0] < domain_card.limit
        scores = evaluate(head, calibration, queries, seed, unlike=unlike)
        rows[name] = {**scores, "baseline": constant_baselines(train, queries.lon, queries.lat)}
    return rows


def _domain(
    recipe: GeoRecipe, head: DensityHead, calibration: FittedCalibration, sets: FeatureSets, state: Path | None
) -> tuple[DomainHead | None, FittedDomain | None]:
    """The head that tells what the locator is not for; its limit is chosen on validation pictures that are answered."""
    how = recipe.source.foreign if isinstance(recipe.source, WorldSource) else None
    if how is None:
        return None, None
    folder = None if state is None else state / "domain"
    domain = fit_domain.fit(sets.train.features, sets.outliers, how, recipe.seed, folder)
    if recipe.int8:
        domain = locator.rounded(domain, recipe.half, True)
    both = joined([sets.val, sets.val_blocks])
    density = locator.head_density(head, both.features).tempered(calibration.temperature, calibration.spread)
    sure = answers.sure_regions(density, calibration) == 0
    return domain, fit_domain.choose(domain, both.features[sure], sets.outliers_val, how)


def train_head(
    name: str,
    config: Mapping[str, object],
    train: FeatureSet,
    how: HeadTraining,
    seed: int,
    on_epoch: OnEpoch | None = None,
    folder: Path | None = None,
) -> DensityHead:
    """A head of ``geoml/geolocation/heads`` in eval mode, trained on (N, F) features; the same for the same seed.

    Goes on with the state in ``folder``. Raises ModelError if the loss is not finite or the state is damaged,
    InputError for a batch too small for the processes, DataError if the state cannot be written, TransientError for
    a process that was killed.
    """
    torch.manual_seed(seed)
    x = torch.from_numpy(np.ascontiguousarray(train.features, np.float32))
    xyz = torch.from_numpy(sphere.to_xyz(train.lon, train.lat).astype(np.float32))
    head = heads.build(name, {**config, "features": x.shape[1]})
    head.start(x, xyz)
    trainable = [p for p in head.parameters() if p.requires_grad]
    if not trainable:
        return head.eval()
    weight = balance.weights(balance.coarse(train.lon, train.lat), how.balance)
    batches = FeatureBatches(x, xyz, weight, how.batch, np.random.default_rng([seed, 0x7EA]))
    training = Training(
        name=f"head {name}", lower="training.lr", net=head, batches=batches, epochs=how.epochs,
        loss=head.loss, optimiser=partial(AdamW, trainable, how.lr, weight_decay=how.weight_decay), clip=how.clip,
        schedule=partial(OneCycleLR, max_lr=how.lr, total_steps=len(batches) * how.epochs),
        generators=(batches.rng,), buffers=False,
    )  # fmt: skip
    learn(training, folder, on_epoch)
    return head


def calibrate(
    head: DensityHead, chosen: FeatureSet, how: Calibration, strict: FeatureSet | None = None
) -> FittedCalibration:
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
    queries = second if strict is None else strict
    answer = density if strict is None else locator.head_density(head, strict.features).tempered(t, spread)
    at = answer.mode()
    sure = answer.within(*at, how.within_km)
    right = sphere.distance(*at, queries.lon, queries.lat) <= how.within_km
    limit = geoscores.threshold(sure, right, how.precision)
    cells = locator.head_cells(head)
    quantile = None
    if cells is not None:
        q = conformal.quantile(
            locator.cell_probability(density, cells), cells.assign(second.lon, second.lat), how.alpha
        )
        quantile = q if np.isfinite(q) else None
    answered = sure >= limit if limit is not None else np.zeros(len(sure), bool)
    value = {
        "temperature": t, "spread": spread, "alpha": how.alpha, "conformal": quantile, "within_km": how.within_km,
        "threshold": limit, "precision": how.precision,
        "reached": float(right[answered].mean()) if answered.any() else None,
        "coverage": float(answered.mean()), "pictures": len(chosen),
    }  # fmt: skip
    name = hashlib.sha256(json.dumps(value, sort_keys=True).encode() + chosen.features.tobytes()).hexdigest()[:16]
    return FittedCalibration.model_validate(value | {"id": name})


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
    head: DensityHead,
    calibration: FittedCalibration,
    queries: FeatureSet,
    seed: int = 0,
    draws: int = 1000,
    unlike: NDArray[np.bool_] | None = None,
) -> dict[str, object]:
    """Scores of a test set, see `geoml.geolocation.training.place_scores`."""
    density = locator.head_density(head, queries.features).tempered(calibration.temperature, calibration.spread)
    scores = PlaceScores(calibration, locator.head_cells(head), seed, draws)
    scores.update(density, queries.lon, queries.lat, unlike)
    return scores.compute()


def _card(recipe: GeoRecipe, fitted: FittedHead, sets: FeatureSets, extractor: Extractor) -> LocatorCard:
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
        data_license=recipe.data_license, backbone=recipe.backbone, head=recipe.head.name,
        head_config=dataclasses.asdict(fitted.head.config),
        features=backbone.features, size=extractor.size, mean=(m[0], m[1], m[2]), std=(s[0], s[1], s[2]),
        width_km=wide, calibration=fitted.calibration, domain=fitted.domain_card, scores=fitted.scores, bbox=box,
        coverage_note=note,
        training={"recipe": recipe.model_dump(mode="json"), "recipe_hash": recipe.hash, "pictures": len(sets.train),
                  "sets": {k: len(v) for k, v in sets.tests.items()}},
    )  # fmt: skip
