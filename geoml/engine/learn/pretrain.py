"""Train an encoder of series without labels: the views of a pixel are two halves of its dates.

What is read is a sample of the region as a map would read it. Squares of ground of `GROUND` pixels are held out to say
whether anything was learnt; the projector behind the encoder is thrown away.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from geoml import models
from geoml.backends.torch import choose
from geoml.cube import profile
from geoml.cube.series import Series
from geoml.data.chips import OwnRows
from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.contract import input_of
from geoml.engine.learn.gather import FeatureReader, PixelFeatures, sampled
from geoml.engine.learn.pretrain_recipe import PretrainRecipe
from geoml.engine.packages import encoder
from geoml.engine.run.domain import one_level
from geoml.engine.run.plan import make_plan
from geoml.engine.run.search import region_of
from geoml.engine.train.loop import Training, TrainingBatch, learn
from geoml.engine.train.state import FolderClaim
from geoml.engine.train.team import OnEpoch
from geoml.errors import InputError, NothingFound
from geoml.io.cards.map_card import Band
from geoml.io.cards.profile import BandProfile
from geoml.nn.context import asked
from geoml.nn.vicreg import GROUP, Projector, RetrievalScores, vicreg
from geoml.recipe import PredictRecipe

GROUND = 32
"""Pixels of a side of what is held out together."""
HELD_OUT = 8
"""One of so many pieces of ground is held out."""

REFLECTANCES = 0.9
"""Least share of the values of each band that a profile of reflectances does not clip."""

Floats = NDArray[np.float32]


class _Reader(FeatureReader):
    """Gives values and looks of the steps, as they are."""

    months: tuple[int, ...] = ()

    def of(
        self, series: Series, rows: NDArray[np.intp], cols: NDArray[np.intp], origin: tuple[int, int]
    ) -> dict[str, Floats]:
        self.months = series.months
        looks = series.looks[:, rows, cols]
        values = np.where(looks[:, None], series.values[:, :, rows, cols], np.float32(0))
        return {"values": values.reshape(-1, len(rows)).T.copy(), "looks": looks.T.astype(np.float32)}


@dataclass(frozen=True, eq=False)
class SeriesSample:
    """Pixels with two looks at least: ``values`` (n, step * band) standardised, 0 without a look, ``looks`` (n, step),
    ``place`` (n, 2) degrees, ``held_out`` (n,); ``months`` of the steps, 0 to 11."""

    values: Tensor
    looks: Tensor
    place: Tensor
    held_out: NDArray[np.bool_]
    months: tuple[int, ...]

    def views(self, rows: NDArray[np.intp], random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Looks (n, step) of two halves of the dates of each row, none of which is in both."""
        looks = self.looks[torch.from_numpy(rows)].numpy()
        order = np.argsort(np.where(looks, random.random(looks.shape), 2.0), axis=1)
        rank = np.argsort(order, axis=1)
        half = (looks.sum(1) + random.integers(0, 2, len(looks))) // 2
        first = looks & (rank < np.clip(half, 1, looks.sum(1) - 1)[:, None])
        return torch.from_numpy(first), torch.from_numpy(looks & ~first)


class TwoViews(nn.Module):
    """An encoder and a projector; both views of the rows that it is given, side by side."""

    def __init__(self, module: nn.Module, width: int, months: Sequence[int]) -> None:
        super().__init__()
        self.encoder, self.projector = module, Projector(int(module.width), width)  # type: ignore[arg-type]
        self.months = tuple(months)

    def embed(
        self, values: Float[Tensor, "row channel"], looks: Bool[Tensor, "row step"], place: Float[Tensor, "row 2"]
    ) -> Float[Tensor, "row width"]:
        """Embeddings of rows as pixels of one column."""
        known = {
            "looks": looks.T[None, :, :, None],
            "months": torch.tensor([self.months], device=values.device),
            "place": place.T[None, :, :, None],
        }
        seen = torch.repeat_interleave(looks, values.shape[1] // looks.shape[1], 1)
        x = torch.where(seen, values, 0.0).T[None, :, :, None]
        found = self.encoder(x, **{n: v for n, v in known.items() if n in asked(self.encoder)})
        out: Tensor = found[0, :, :, 0].T
        return out

    def forward(
        self,
        values: Float[Tensor, "row channel"],
        one: Bool[Tensor, "row step"],
        two: Bool[Tensor, "row step"],
        place: Float[Tensor, "row 2"],
    ) -> Float[Tensor, "row both"]:
        found = [self.projector(self.embed(values, looks, place)) for looks in (one, two)]
        return torch.cat(found, 1)


def fit(recipe: PretrainRecipe, out: Path, on_epoch: OnEpoch | None = None) -> EncoderCard:
    """Train by the recipe and write a package of an encoder to ``out``; one that was stopped goes on.

    Raises InputError for a recipe that does not fit, NothingFound or DataError for its images, ModelError if the loss
    is not finite.
    """
    out = Path(out)
    claim = FolderClaim(out, recipe, recipe.hash)
    if (earlier := claim.finished(EncoderCard)) is not None:
        return earlier
    claim.check()
    torch.manual_seed(recipe.seed)
    module, blank = start(recipe)
    sample, card = read(recipe, module, blank)
    device = choose()
    net = TwoViews(module, recipe.projector, sample.months)
    rows = np.flatnonzero(~sample.held_out)
    steps = max(1, len(rows) // recipe.batch)
    training = Training(
        name=recipe.name, lower="lr", net=net, batches=partial(_batches, sample, recipe), loss=_loss,
        optimiser=partial(AdamW, net.parameters(), weight_decay=recipe.weight_decay),
        schedule=partial(OneCycleLR, max_lr=recipe.lr, total_steps=steps * recipe.epochs), epochs=recipe.epochs,
        device=device, clip=1.0, seed=recipe.seed,
    )  # fmt: skip
    done = learn(training, claim.take(), on_epoch)
    told = {
        "recipe": recipe.model_dump(mode="json"), "recipe_hash": recipe.hash, "pixels": len(rows),
        "history": done.history, "source": "own pretraining", **({"init": recipe.init} if recipe.init else {}),
    }  # fmt: skip
    card = card.model_copy(update={"training": told, "scores": scores(net, sample, recipe.seed)})
    card = encoder.save(module, card, out)
    claim.forget()
    return card


def start(recipe: PretrainRecipe) -> tuple[nn.Module, EncoderCard]:
    """The encoder before it learns, and its card. Raises InputError for one that there is not."""
    if recipe.init is not None:
        loaded = encoder.load(recipe.init)
        about = {"name": recipe.name, "description": recipe.description, "license": recipe.license, "sha256": None}
        return loaded.module, loaded.card.model_copy(update=about)
    assert recipe.gsd is not None
    module = models.encoder(recipe.architecture, {**recipe.config, "bands": len(recipe.bands)})
    card = EncoderCard(
        name=recipe.name, description=recipe.description, license=recipe.license, architecture=recipe.architecture,
        config=recipe.config, bands=tuple(Band(name=b) for b in recipe.bands), gsd=recipe.gsd,
        steps=int(module.steps), width=int(module.width), stride=int(module.stride),  # type: ignore[arg-type]
    )  # fmt: skip
    return module, card


def read(recipe: PretrainRecipe, module: nn.Module, card: EncoderCard) -> tuple[SeriesSample, EncoderCard]:
    """A sample of the region, and the card with how its bands are standardised.

    Raises NothingFound for too few pixels that were seen twice, and what a plan and reading raise.
    """
    if int(module.stride) != 1:  # type: ignore[arg-type]
        raise InputError(f"architecture: {card.architecture} sees windows; expected an encoder of single pixels")
    plain = card.model_copy(update={"bands": tuple(Band(name=b.name, unit=b.unit) for b in card.bands)})
    with tempfile.TemporaryDirectory() as folder:
        encoder.save(module, plain, folder)
        asked_for = PredictRecipe(
            model=folder, query=recipe.query, crs=recipe.crs, mask=recipe.mask, composite=recipe.composite
        )
        plan, items = make_plan(asked_for)
        input_of(plan.card, asked_for).check(recipe.query.datetime)
        level = one_level(items)
        region = region_of(recipe.query).bounds
        reader = _Reader(plan, items, None, level)
        found = sampled(reader, region, recipe.seed, squares=recipe.squares, pixels=recipe.pixels)
    if recipe.init is None:
        ratio = card.config.get("ndvi")  # of reflectances, and not of what is standardised
        bands = card.bands if ratio else _standardising(found, card.bands)
        card = card.model_copy(update={"bands": bands, "level": level, "profile": _profile(found, len(bands))})
    return _sample(found, card, reader.months), card


def _looks(found: PixelFeatures, bands: int) -> Floats:
    """(look, band) values of all looks at the pixels."""
    seen: Floats = found.parts["values"].reshape(len(found.place), -1, bands)[found.parts["looks"] > 0]
    return seen


def _profile(found: PixelFeatures, bands: int) -> BandProfile | None:
    """How the bands stand to each other, by which another order is refused later; None unless they are reflectances."""
    seen = _looks(found, bands)
    like = ((seen > profile.LOW) & (seen < profile.HIGH)).mean(0)
    if len(seen) < profile.LOOKS or like.min() < REFLECTANCES:
        return None
    return profile.fit(seen, "the sample of its own pretraining")


def _standardising(found: PixelFeatures, bands: Sequence[Band]) -> tuple[Band, ...]:
    seen = _looks(found, len(bands))
    pairs = zip(bands, seen.mean(0, dtype=np.float64).tolist(), seen.std(0, dtype=np.float64).tolist(), strict=True)
    return tuple(b.model_copy(update={"mean": m, "std": s if s > 0 else 1.0}) for b, m, s in pairs)


def _sample(found: PixelFeatures, card: EncoderCard, months: tuple[int, ...]) -> SeriesSample:
    looks = found.parts["looks"] > 0
    twice = looks.sum(1) >= 2
    mean, std = (np.array([getattr(b, k) for b in card.bands], np.float32) for k in ("mean", "std"))
    values = found.parts["values"].reshape(len(twice), -1, len(mean))
    values = np.where(looks[..., None], (values - mean) / std, np.float32(0)).reshape(len(twice), -1)[twice]
    cells = np.concatenate([found.pixel[twice, :1], found.pixel[twice, 1:] // GROUND], 1)
    _, number = np.unique(cells, axis=0, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(int(number.max(initial=0)) + 1)
    held_out = shuffled[number.ravel()] % HELD_OUT == 0
    if held_out.sum() < GROUP or (~held_out).sum() < 2 * GROUP:
        raise NothingFound(
            f"pixels: {int(twice.sum())} of the sample were seen twice, {int(held_out.sum())} of them held out;"
            f" expected {GROUP} and more of these"
        )
    return SeriesSample(
        torch.from_numpy(values.astype(np.float32)),
        torch.from_numpy(looks[twice]),
        torch.from_numpy(found.lonlat[twice].astype(np.float32)),
        held_out,
        months,
    )


def _batches(sample: SeriesSample, recipe: PretrainRecipe, epoch: int, part: OwnRows) -> Iterator[TrainingBatch]:
    """Whole batches of training pixels in an order of the epoch."""
    random = np.random.default_rng([recipe.seed, epoch])
    order = random.permutation(np.flatnonzero(~sample.held_out))
    size = min(recipe.batch, len(order))
    for at in range(0, len(order) - size + 1, size):
        rows = order[at : at + size]
        mine = part(size)
        x = _given(sample, rows, random)
        yield TrainingBatch(tuple(v[mine] for v in x), torch.zeros(size)[mine], size)


def _given(sample: SeriesSample, rows: NDArray[np.intp], random: np.random.Generator) -> tuple[Tensor, ...]:
    index = torch.from_numpy(rows)
    one, two = sample.views(rows, random)
    return sample.values[index], one, two, sample.place[index]


def _loss(raw: Tensor, target: Tensor) -> Tensor:
    one, two = raw.float().chunk(2, 1)
    return vicreg(one, two)


@torch.inference_mode()
def scores(net: TwoViews, sample: SeriesSample, seed: int) -> dict[str, Any]:
    """Whether a view of held-out ground finds the other one, by the encoder and by the means of its bands."""
    random = np.random.default_rng([seed, 10**6])
    rows = random.permutation(np.flatnonzero(sample.held_out))
    values, one, two, place = _given(sample, rows, random)
    net = net.cpu().eval()
    mine, plain = RetrievalScores(), RetrievalScores()
    steps = one.shape[1]
    for start_at in range(0, len(rows) - GROUP + 1, GROUP):
        part = slice(start_at, start_at + GROUP)
        mine.update(*(net.embed(values[part], looks[part], place[part]) for looks in (one, two)))
        bands = torch.unflatten(values[part], 1, (steps, -1))
        means = [
            (bands * looks[part][..., None]).sum(1) / looks[part].sum(1, keepdim=True).clamp(min=1)
            for looks in (one, two)
        ]
        plain.update(*means)
    return {"split": "held-out ground", **mine.compute(), "bands": plain.compute()["retrieval"]}


def scores_of(model: str | Path, recipe: PretrainRecipe, split: str) -> dict[str, Any]:
    """`scores` of a package on the ground that a recipe holds out.

    Raises InputError for another split than ``test`` or an encoder of other bands, and what `read` raises.
    """
    if split != "test":
        raise InputError(f"split: {split!r}; expected test: the ground that is held out")
    loaded = encoder.load(model)
    names = [b.name for b in loaded.card.bands]
    if recipe.init is None and list(recipe.bands) != names:
        raise InputError(f"bands: {list(recipe.bands)}; {loaded.card.name} has {names}")
    with_weights = recipe.model_copy(update={"init": str(model), "bands": (), "gsd": None, "config": {}})
    sample, card = read(with_weights, loaded.module, loaded.card)
    net = TwoViews(loaded.module, recipe.projector, sample.months)
    about = {"model": card.name, "sha256": card.sha256, "recipe": recipe.hash}
    return {**scores(net, sample, recipe.seed), **about}
