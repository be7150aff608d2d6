"""Learn a map of land cover from few labels: from a recipe to a package with its scores."""

from __future__ import annotations

import hashlib
import logging
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import shapely
import torch
from numpy.typing import NDArray

from geoml.cube import domain
from geoml.data import label_file
from geoml.data.label_file import LabelFile
from geoml.data.recipe import resolve_vectors
from geoml.engine.contract import input_of
from geoml.engine.learn import choose, gather, wavelengths
from geoml.engine.learn.choose import Choice, HeadCandidate, Learnt, Standard, Worth, share
from geoml.engine.learn.gather import FeatureReader, PixelFeatures
from geoml.engine.learn.recipe import AroundLabels, LearnRecipe
from geoml.engine.packages import cards, encoder, package
from geoml.engine.packages.encoder import EncoderPackage
from geoml.engine.run.domain import one_level
from geoml.engine.run.plan import item_version, make_plan
from geoml.engine.run.search import region_of
from geoml.errors import InputError, NothingFound
from geoml.io.cards.class_colours import class_colours
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.io.stores.store import within
from geoml.models.few_labels import Decision, FewLabels, channels
from geoml.nn import applicability
from geoml.nn.applicability import Applicability
from geoml.nn.linear_heads import Head, KernelHead, LinearHead
from geoml.recipe import PredictRecipe, Query, digest
from geoml.texts import counted, listed

log = logging.getLogger(__name__)

MARGIN = 0.05
"""Of the width and height of the labels, around them, where no region is given."""
LEAST_MARGIN = 500.0
"""Metres."""
KEPT = ".learn"
"""Folder in that of the package with the features of pixels: they are computed once."""
CHIP = 128


@dataclass(frozen=True, eq=False)
class Ready:
    """What is known before a pixel is read."""

    recipe: LearnRecipe
    labels: LabelFile
    ground: NDArray[np.int64]
    encoder: EncoderPackage | None
    query: Query
    card: MapCard
    """Of a package that has learnt nothing yet."""

    @property
    def hash(self) -> str:
        """Of all that a package hangs on: recipe, labels, encoder."""
        return digest([self.recipe.hash, *_identity(self)])

    @property
    def hashes(self) -> list[str]:
        """Of the place of each label, so that labels which taught a model are known again."""
        places = shapely.to_wkb(self.labels.frame.geometry.to_numpy()).tolist()
        return [hashlib.sha256(place).hexdigest()[:12] for place in places]


def fit(ready: Ready, out: Path) -> MapCard:
    """Learn by what `prepare` gave and write a package to ``out``; the card holds what held-out labels say of it.

    A finished package of the same recipe and labels is given as it is. Raises InputError, NothingFound, DataError or
    ModelError for labels, images or an encoder that do not fit, naming field and count.
    """
    recipe = ready.recipe
    told = ready.hash
    if (card := _finished(out, told)) is not None:
        return card
    with tempfile.TemporaryDirectory() as folder:
        blank = package.save(_network(ready.card, ready.encoder), ready.card, folder)
        plan, items = make_plan(map_recipe(ready, folder))
        level = one_level(items)
        features = FeatureReader(plan, items, ready.encoder, level)
        mine, others = _features(ready, features, items, within(out, f"{KEPT}/x").parent)
    given, scaling, left = _learnt(ready, mine, others)
    choice = choose.choose(given, recipe.heads, recipe.folds, recipe.seed)
    fold = given.fold_of(recipe.folds, recipe.seed)
    worth = choose.judged(choice.chosen, given, fold, recipe.sets)
    card = _card(ready, blank, choice, worth, given, left, mine.doubt, fold)
    card = card.model_copy(update={"domain": _domain(others, card)})
    module = _taught(card, ready.encoder, choice, worth, given, scaling, fold, recipe)
    card = card.model_copy(update={"training": {**card.training, "hash": told}})
    return package.save(module, card, out, ready.encoder.path if ready.encoder else None)


def _finished(out: Path, told: str) -> MapCard | None:
    """The card of a package that is there already. Raises InputError for that of another recipe or other labels."""
    if not (out / cards.CARD).exists():
        return None
    card = cards.read_in(out, MapCard)
    if card.training.get("hash") != told:
        raise InputError(
            f"out: {out} contains the package {card.name} with a different recipe or labels; choose another"
        )
    return card


def prepare(recipe: LearnRecipe, *, judge: bool = False) -> Ready:
    """All that can be told before an image is read. Labels that only ``judge`` a model need not be cut into folds, so
    one class or one place is enough. Raises InputError, naming field and count."""
    taught = None if recipe.model == "bands" else encoder.load(recipe.model)
    if taught is not None and len(recipe.query.datetime) > taught.card.steps:
        raise InputError(
            f"datetime: {len(recipe.query.datetime)} steps given; {taught.card.name} takes at most {taught.card.steps}"
        )
    files = _files(recipe, 1 if judge or recipe.add else 2)
    query, region = _query(recipe.query, files)
    recipe = wavelengths.settled(recipe, query, region)
    labels = label_file.joined([label_file.within(one, region) for one in files], recipe.field, least=1 if judge else 2)
    ground = label_file.ground(labels, recipe.ground)
    if not judge:
        label_file.check_ground(labels, ground, recipe.field)
    card = _blank(recipe, labels, taught)
    input_of(card).check(query.datetime)
    return Ready(recipe, labels, ground, taught, query, card)


def _files(recipe: LearnRecipe, least: int) -> list[LabelFile]:
    """The files of labels, each of at least so many classes; the last wins."""
    allowed = recipe.contradictions == "allow"
    return [
        label_file.read(resolve_vectors(place), recipe.field, layer, contradictions=allowed, least=least)
        for place, layer in ((recipe.labels, recipe.layer), *((more, None) for more in recipe.add))
    ]


def _identity(ready: Ready) -> list[str]:
    """What a package hangs on beside its recipe: the labels and the weights of the encoder."""
    frame = ready.labels.frame
    content = shapely.to_wkb(frame.geometry.to_numpy()).tolist()
    last = frame["file"].to_numpy().tobytes() if ready.recipe.add else b""
    told = hashlib.sha256(b"".join(content) + frame["label"].to_numpy().tobytes() + last).hexdigest()
    return [told, *ready.labels.classes, "" if ready.encoder is None else ready.encoder.card.sha256 or ""]


def _query(asked: AroundLabels, files: Sequence[LabelFile]) -> tuple[Query, shapely.MultiPolygon]:
    """The query with a region, that around the labels where none is given; and the region in degrees."""
    fields = asked.model_dump()
    if asked.bbox is None and asked.region is None:
        west, south, east, north = shapely.total_bounds(np.concatenate([f.frame.geometry for f in files])).tolist()
        high = max(LEAST_MARGIN / 111_320, MARGIN * (north - south))
        wide = max(high / max(math.cos(math.radians((south + north) / 2)), 0.01), MARGIN * (east - west))
        fields["bbox"] = (
            max(-180.0, west - wide), max(-90.0, south - high), min(180.0, east + wide), min(90.0, north + high),
        )  # fmt: skip
    query = Query.model_validate(fields)
    return query, region_of(query)


def _blank(recipe: LearnRecipe, labels: LabelFile, taught: EncoderPackage | None) -> MapCard:
    known = () if taught is None else taught.card.bands
    names = [b.name for b in known]
    if missing := [b for b in names if recipe.bands and b not in recipe.bands]:
        raise InputError(f"bands: {listed(missing)} of {len(names)} that {recipe.model} needs are not among them")
    more = tuple(Band(name=b) for b in recipe.bands if b not in names)
    config: dict[str, Any] = {"features": ["bands"]}
    about: dict[str, Any] = {"gsd": recipe.gsd}
    if taught is not None:
        config |= {
            "encoder": taught.card.architecture,
            "encoder_config": taught.card.config,
            "encoder_bands": list(range(len(known))),
        }
        about = {"gsd": recipe.gsd or taught.card.gsd, "level": taught.card.level}
        about |= {} if more else {"profile": taught.card.profile}
    return MapCard(
        name=recipe.name,
        description=recipe.description,
        license=recipe.license,
        architecture="few_labels",
        task="landcover",
        config=config,
        bands=(*known, *more),
        dates=len(recipe.query.datetime),
        chip_size=CHIP,
        classes=tuple(
            ClassInfo(value=k, name=name, color=color)
            for k, (name, color) in enumerate(zip(labels.classes, class_colours(labels.classes), strict=True))
        ),
        **about,
    )


def _network(card: MapCard, taught: EncoderPackage | None) -> FewLabels:
    """The network of a card, with the weights of the encoder and heads that know nothing."""
    module = package.build(card)
    assert isinstance(module, FewLabels)
    if taught is not None and module.encoder is not None:
        module.encoder.load_state_dict(taught.module.state_dict())
    with torch.no_grad():
        for head in (module.head, module.other):
            if head is not None:
                head.linear.weight.zero_()
                head.linear.bias.zero_()  # type: ignore[union-attr]
    return module.eval()


def map_recipe(ready: Ready, model: str | Path) -> PredictRecipe:
    """The run of the map that the package ``model``, once it has learnt, is for."""
    r = ready.recipe
    return PredictRecipe(
        model=str(model), query=ready.query, crs=r.crs, mask=r.mask, composite=r.composite, block_size=r.block_size
    )


def _features(
    ready: Ready, features: FeatureReader, items: Sequence[pystac.Item], kept: Path
) -> tuple[PixelFeatures, PixelFeatures]:
    """Features of the labelled pixels and of the region's sample; those that were computed before are read again."""
    region = region_of(ready.query).bounds
    r = ready.recipe
    read = r.model_dump(mode="json", include={"bands", "gsd", "pixels", "seed", "crs", "mask", "composite"})
    where = [ready.query.model_dump(mode="json"), region_of(ready.query).wkt]
    key = digest([*_identity(ready), read, where, sorted((i.id, item_version(i)) for i in items)])[:32]
    found = []
    for name in ("labels", "sample"):
        path = kept / f"{name}-{key}.npz"
        pixels = gather.load(path)
        if pixels is None:
            if name == "labels":
                pixels = gather.labelled(features, ready.labels, r, region)
            else:
                pixels = gather.sampled(features, region, r.seed)
            gather.save(path, pixels)
        found.append(pixels)
    return found[0], found[1]


def read_features(ready: Ready, loaded: package.Package) -> tuple[NDArray[np.float64], PixelFeatures]:
    """What a package says of labelled pixels: (n, class) probabilities, and the pixels."""
    plan, items = make_plan(map_recipe(ready, loaded.path))
    features = FeatureReader(plan, items, ready.encoder, one_level(items))
    found = gather.labelled(features, ready.labels, ready.recipe, region_of(ready.query).bounds)
    pixels, _ = _corrected(found, ready.labels)
    module = loaded.module
    assert isinstance(module, FewLabels)
    joined = np.concatenate([pixels.parts[n] for n in module.config.features], axis=1)
    with torch.inference_mode():
        logits = module.head(torch.from_numpy(joined)[:, :, None, None])[..., 0, 0]
    return logits.double().softmax(1).numpy(), pixels


def _learnt(
    ready: Ready, mine: PixelFeatures, others: PixelFeatures
) -> tuple[Learnt, dict[str, Standard], dict[str, int]]:
    """The labelled pixels as heads see them, their scaling, and how many places were left out by why."""
    label = ready.labels.frame["label"].to_numpy()
    left = dict(ready.labels.left_out)
    if lost := len(label) - len(np.unique(mine.place)):
        left["without data"] = lost
    mine, under = _corrected(mine, ready.labels)
    if under:
        left["corrected by a later file"] = under
    _check_shared(mine, label, ready)
    have = np.bincount(label[np.unique(mine.place)], minlength=len(ready.labels.classes))
    if few := [f"{n} has {k}" for n, k in zip(ready.labels.classes, have, strict=True) if k < 2]:
        raise NothingFound(
            f"labels: {len(few)} of {len(have)} classes have fewer than two {ready.labels.kind}s where images have"
            f" data: {listed(few)}"
        )
    scaling = {n: Standard.of(v) for n, v in others.parts.items()}
    parts = {n: (v.astype(np.float64) - scaling[n].center) / scaling[n].spread for n, v in mine.parts.items()}
    given = Learnt(parts, label[mine.place], mine.place, ready.ground[mine.place], len(ready.labels.classes))
    label_file.check_ground(
        LabelFile(ready.labels.frame.iloc[np.unique(mine.place)], ready.labels.classes, ready.labels.kind),
        ready.ground[np.unique(mine.place)],
        ready.recipe.field,
    )
    return given, scaling, left


def _corrected(mine: PixelFeatures, labels: LabelFile) -> tuple[PixelFeatures, int]:
    """The pixels without those that a later file labels again, and how many places have none left."""
    file = labels.frame["file"].to_numpy()[mine.place]
    _, pixel = np.unique(mine.pixel, axis=0, return_inverse=True)
    last = np.zeros(pixel.max() + 1, np.int64)
    np.maximum.at(last, pixel.ravel(), file)
    kept = mine.take(np.flatnonzero(file == last[pixel.ravel()]))
    return kept, len(np.unique(mine.place)) - len(np.unique(kept.place))


def _check_shared(mine: PixelFeatures, label: NDArray[np.int64], ready: Ready) -> None:
    """Refuse pixels that two classes label: points on both sides of a border that the images do not tell apart."""
    _, pixel = np.unique(mine.pixel, axis=0, return_inverse=True)
    of = label[mine.place]
    low, high = np.full(pixel.max() + 1, 10**6), np.full(pixel.max() + 1, -1)
    np.minimum.at(low, pixel.ravel(), of)
    np.maximum.at(high, pixel.ravel(), of)
    if bad := int((low < high).sum()):
        at = int(np.flatnonzero(low < high)[0])
        names = ready.labels.classes
        raise InputError(
            f"field: {counted(bad, 'pixel')} labelled as two classes of {ready.recipe.field!r}, such as"
            f" {names[low[at]]} and {names[high[at]]}; expected places further apart than {ready.card.gsd:g} m"
        )


def _domain(sample: PixelFeatures, card: MapCard) -> Any:
    """The record of what the model saw: the region's sample in physical values, each step by itself."""
    bands = len(card.bands)
    mean, std = (np.array([getattr(b, k) for b in card.bands]) for k in ("mean", "std"))
    values = sample.parts["bands"].reshape(len(sample.place), card.dates, bands) * std + mean
    cut = max(1, len(values) * 3 // 4)
    seen, held_out = values[:cut].reshape(-1, bands), values[cut:].reshape(-1, bands)
    return domain.fit(seen, held_out if len(held_out) else seen)


def _card(
    ready: Ready,
    blank: MapCard,
    choice: Choice,
    worth: Worth,
    given: Learnt,
    left: dict[str, int],
    doubt: str,
    fold: NDArray[np.int64],
) -> MapCard:
    """The card of the package, with scores as the page and `geoml models show` have them."""
    names, r = ready.labels.classes, ready.recipe
    other = choice.other.name if choice.other else ""
    references = min(applicability.REFERENCES, len(given.y))
    config = {
        **blank.config,
        "features": list(choice.chosen.parts),
        "other": list(choice.other.parts) if choice.other else [],
        "references": references,
        "landmarks": _landmarks(choice.chosen, given),
        "other_landmarks": _landmarks(choice.other, given),
    }
    scores = dict(worth.scores)
    for name in ("iou", "f1", "precision", "recall"):
        scores[name] = dict(zip(names, scores[name], strict=True))
    scores["absent"] = [names[k] for k in scores["absent"]]
    place, label, _ = given.by_place
    pixels, places = np.bincount(given.y, minlength=len(names)), np.bincount(label, minlength=len(names))
    support = {n: {"pixels": int(a), "places": int(b)} for n, a, b in zip(names, pixels, places, strict=True)}
    said = [f"{counted(n, ready.labels.kind)} left out: {why}." for why, n in left.items()]
    said += [choice.why] if choice.why else []
    said += [f"Temperature {worth.temperature:.2f}; ECE {scores['ece']:.3f} on held-out labels."]
    said += [doubt] if doubt else []
    learnt = {
        "chosen": choice.chosen.name, "other": other, "rows": choose.table(choice.rows), "kind": ready.labels.kind,
        "places": len(place), "folds": int(fold.max()) + 1, "repeats": choose.REPEATS, "ground": r.ground,
        "sets": scores.pop("sets"), "said": said,
        "curve": choose.curve(choice.chosen, given, r.folds, r.seed),
    }  # fmt: skip
    common = int(np.bincount(given.y).argmax())
    base = {"class": names[common], "overall_accuracy": float((given.y == common).mean()), "miou": None}
    base["miou"] = float((given.y == common).mean() / len(names))
    scores |= {
        "split": "held-out labels", "support": support, "baseline": base, "learnt": learnt,
    }  # fmt: skip
    made = {"limit": worth.limit, "level": r.sets, "references": True, "other": other}
    told = {"recipe": r.model_dump(mode="json"), "recipe_hash": r.hash, "labels": len(place), "left_out": left}
    told["label_hashes"] = ready.hashes
    if ready.encoder is not None:
        told["init"] = ready.encoder.card.name
        told["encoder"] = {"name": ready.encoder.card.name, "sha256": ready.encoder.card.sha256}
    raw = channels(len(names), references=bool(references), other=bool(other))
    return blank.model_copy(
        update={
            "description": blank.description
            or f"Land cover from {counted(len(place), f'labelled {ready.labels.kind}')}",
            "config": config,
            "made": made,
            "scores": scores,
            "training": told,
            "channels": raw,
        }
    )


def _taught(
    card: MapCard,
    taught: EncoderPackage | None,
    choice: Choice,
    worth: Worth,
    given: Learnt,
    scaling: dict[str, Standard],
    fold: NDArray[np.int64],
    recipe: LearnRecipe,
) -> FewLabels:
    """The network with heads and training pixels, all scaling folded in."""
    module = _network(card, taught)
    head = choice.chosen.fit(given)
    _fill(module.head, head.tempered(worth.temperature), *_affine(choice.chosen.parts, scaling))
    if choice.other is not None and module.other is not None:
        _fill(module.other, choice.other.fit(given), *_affine(choice.other.parts, scaling))
    weights = np.ones(given.x(choice.chosen.parts).shape[1])
    if isinstance(head, LinearHead):
        weights = applicability.importance(head.weight)
    near = applicability.fit(given.x(choice.chosen.parts), weights, fold, recipe.seed)
    _place(module, near, *_affine(choice.chosen.parts, scaling))
    return module


def _affine(parts: tuple[str, ...], scaling: dict[str, Standard]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(center, factor) of joined features: what heads see is (feature - center) * factor."""
    first = len(scaling[parts[0]].center)
    factor = [share(first, len(scaling[n].center)) / scaling[n].spread for n in parts]
    return np.concatenate([scaling[n].center for n in parts]), np.concatenate(factor)


def _landmarks(candidate: HeadCandidate | None, given: Learnt) -> int:
    """Of the head of a candidate."""
    head = None if candidate is None else candidate.fit(given)
    return len(head.landmarks) if isinstance(head, KernelHead) else 0


def _fill(module: Decision, head: Head, center: NDArray[np.float64], factor: NDArray[np.float64]) -> None:
    if isinstance(head, KernelHead):
        module.landmarks.copy_(torch.from_numpy(head.landmarks))
        module.scale.copy_(torch.from_numpy(factor))
        module.offset.copy_(torch.from_numpy(center * factor))
        weight, bias = head.head.weight, head.head.bias
    else:
        weight = head.weight * factor
        bias = head.bias - weight @ center
    with torch.no_grad():
        module.linear.weight.copy_(torch.from_numpy(weight)[:, :, None, None])
        assert module.linear.bias is not None
        module.linear.bias.copy_(torch.from_numpy(bias))


def _place(module: FewLabels, near: Applicability, center: NDArray[np.float64], factor: NDArray[np.float64]) -> None:
    module.references.copy_(torch.from_numpy(near.references))
    module.weights.copy_(torch.from_numpy(factor * near.weights))
    module.offset.copy_(torch.from_numpy(center * factor * near.weights))
    module.reach.copy_(torch.tensor(near.mean * near.threshold))
