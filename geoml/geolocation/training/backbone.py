"""Train a locator's backbone together with its head: from pictures, not from features that were computed once.

Every epoch makes its pictures again, of places drawn by the weight of their block: cut from the world in any heading
and any width of the recipe, a share of them in another season and light (`geoml.geolocation.training.season`), or read
from a list and cropped (`geoml.geolocation.training.picture_sets`). So no picture comes twice. Layers that normalise by
batch keep the statistics of weights that were given, and learn their own in a network that starts from random ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from geoml.backends.torch import Device, choose
from geoml.data.chips import OwnRows
from geoml.engine.machine.prefetch import prefetch
from geoml.engine.train.loop import Training, TrainingBatch, kept, learn
from geoml.engine.train.team import OnEpoch
from geoml.errors import InputError
from geoml.geolocation import heads
from geoml.geolocation.locate.features import BATCH, PREFETCH, Extractor, compute
from geoml.geolocation.nn.backbones import Backbone
from geoml.geolocation.nn.head_parts import DensityHead, Standardise
from geoml.geolocation.training import picture_sets, season, world, world_sets
from geoml.geolocation.training.recipe import BackboneTraining, GeoRecipe, Head, PictureSource
from geoml.geolocation.training.sampling import PictureSampler, Pixels, epoch
from geoml.geolocation.training.world import View, World
from geoml.geolocation.training.world_crops import BatchCropper
from geoml.grid import sphere


@dataclass(frozen=True)
class WorldSampler(PictureSampler):
    """Crops of worlds that are cut again in every epoch.

    ``season_share`` of the pictures show another season and light than the world picture does.
    """

    worlds: tuple[World, ...]
    width_km: tuple[float, float]
    season_share: float

    def pictures(self, rows: NDArray[np.int64], rngs: Sequence[np.random.Generator]) -> list[Pixels]:
        views = [self._view(row, rng) for row, rng in zip(rows, rngs, strict=True)]
        which = np.array([rng.integers(len(self.worlds)) for rng in rngs])
        rgb = np.zeros((len(rngs), self.size, self.size, 3), np.uint8)
        for k in np.unique(which):
            chosen = np.flatnonzero(which == k)
            rgb[chosen] = self._croppers[k]([views[i] for i in chosen], self.size)
        return [season.augment(x, g) if g.random() < self.season_share else x for x, g in zip(rgb, rngs, strict=True)]

    @cached_property
    def _croppers(self) -> list[BatchCropper]:
        return [BatchCropper(world_) for world_ in self.worlds]

    def _view(self, row: int, rng: np.random.Generator) -> View:
        lon, lat = (float(v) for v in self.lonlat[row])
        return View(lon, lat, float(rng.uniform(*self.width_km)), float(rng.uniform(0.0, 360.0)))


def sampler(recipe: GeoRecipe, size: int) -> PictureSampler:
    """What a recipe's training sees. An epoch has as many pictures as there are views of the training places."""
    source, views = recipe.source, recipe.views
    if isinstance(source, PictureSource):
        return picture_sets.sampler(recipe, size)
    places = world_sets.choose(recipe).train
    worlds = tuple(map(world.read, (source.picture, *source.renderings)))
    number = views.clean + views.seasons + len(source.renderings)
    weight, count = epoch(places, number, recipe.training)
    return WorldSampler(places, weight, count, size, recipe.seed, worlds, source.width_km, views.seasons / number)


def fit(
    recipe: GeoRecipe,
    backbone: Backbone,
    folder: str | Path,
    on_epoch: OnEpoch | None = None,
    device: Device | None = None,
) -> DensityHead:
    """Train the backbone in place, with a head that is returned, both in eval mode and on the CPU.

    A head with a gallery has another one while the backbone learns, see `stand_in`. After every epoch the state is in
    ``folder``; given again, the same recipe goes on from there, and ends with the weights of a run that was never
    stopped. Raises InputError for a recipe that does not say what learns, and as `geoml.engine.train.loop.learn`.
    """
    how, options = recipe.training, recipe.training.backbone
    if options is None:
        raise InputError("training.backbone: missing; expected which layers of the backbone learn")
    folder, device = Path(folder), device or choose()
    pictures = sampler(recipe, recipe.size or backbone.size)
    state = kept(folder)
    torch.manual_seed(recipe.seed)
    if recipe.weights is None and state is None:
        _initialise(backbone)
    trainable = _trainable(backbone, options)
    head = _head(recipe, backbone, pictures, device) if state is None else heads.build(state["head"], state["config"])
    device.place(backbone)
    net, slow = LocatedNetwork(backbone, head, device), how.lr * options.rate_factor
    groups = [{"params": trainable, "lr": slow}, {"params": list(head.parameters()), "lr": how.lr}]
    training = Training(
        name=f"backbone {backbone.name}", lower="training.lr", net=net,
        batches=partial(_batches, pictures, how.batch), loss=head.loss,
        optimiser=partial(AdamW, groups, weight_decay=how.weight_decay, fused=True), clip=how.clip,
        schedule=partial(OneCycleLR, max_lr=[slow, how.lr], total_steps=-(-pictures.count // how.batch) * how.epochs),
        epochs=how.epochs, device=device, seed=recipe.seed,
        mode=partial(_train_mode, pretrained=recipe.weights is not None),
        about={"head": type(head).__module__.rpartition(".")[2], "config": dataclasses.asdict(head.config)},
    )  # fmt: skip
    learn(training, folder, on_epoch)
    for value in (*net.parameters(), *net.buffers()):  # no trace of channels_last in the strides of what others read
        value.data = value.clone(memory_format=torch.contiguous_format)
    return head


class LocatedNetwork(nn.Module):
    """Pictures to what the head says of their features."""

    def __init__(self, backbone: Backbone, head: DensityHead, device: Device) -> None:
        super().__init__()
        self.backbone, self.head, self.device = backbone, head, device

    def forward(self, rgb: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch out"]:
        x = self.backbone.normalised(rgb.permute(0, 3, 1, 2))
        with self.device.autocast():
            features = self.backbone(x.contiguous(memory_format=torch.channels_last))
        raw: Tensor = self.head(features.float())
        return raw


def _batches(pictures: PictureSampler, batch: int, epoch: int, part: OwnRows) -> Iterator[TrainingBatch]:
    true = torch.split(_xyz(pictures, pictures.rows(epoch)), batch)
    for rgb, at in zip(prefetch(pictures.batches(epoch, batch, part), PREFETCH, "pictures"), true, strict=True):
        yield TrainingBatch((torch.from_numpy(np.stack(rgb)),), at[part(len(at))], len(at))


def _xyz(pictures: PictureSampler, rows: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(sphere.to_xyz(*pictures.lonlat[rows].T).astype(np.float32))


def stand_in(head: Head) -> Head:
    """The head that learns with the backbone: ``cells`` for one whose gallery would age with every step."""
    if not has_gallery(head):
        return head
    fields = {f.name for f in dataclasses.fields(heads.find("cells").Config)}
    return Head(name="cells", config={k: v for k, v in head.config.items() if k in fields})


def has_gallery(head: Head) -> bool:
    """True for a head that answers with training pictures, so has to see them once more when the backbone is ready."""
    return "gallery" in {f.name for f in dataclasses.fields(heads.find(head.name).Config)}


def _head(recipe: GeoRecipe, backbone: Backbone, pictures: PictureSampler, device: Device) -> DensityHead:
    """A head started on one picture of every place, as the backbone sees them before it learns."""
    count = len(pictures.lonlat)
    once = dataclasses.replace(pictures, weight=np.full(count, 1 / count), count=count)
    extractor = Extractor(backbone, pictures.size, device)
    x = torch.from_numpy(compute(chain.from_iterable(once.batches(0, BATCH)), extractor))
    options = stand_in(recipe.head)
    head = heads.build(options.name, {**options.config, "features": backbone.features})
    head.start(x, _xyz(once, once.rows(0)))
    for part in head.modules():
        if isinstance(part, Standardise):  # what hardly varies yet may vary a lot when the backbone has learnt
            part.std.clamp_(min=float(part.std.median()))
    return head


def _initialise(backbone: Backbone) -> None:
    """Random weights that keep the variance of what passes, for a network without layers that normalise.

    He et al. 2015, https://arxiv.org/abs/1502.01852, equation 10. By torch's own start, features of AlexNet differ from
    picture to picture by some thousandths.
    """
    layers = list(backbone.modules())
    if any("norm" in type(m).__name__.lower() for m in layers):
        return
    for part in layers:
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _trainable(backbone: Backbone, options: BackboneTraining) -> list[nn.Parameter]:
    """The parameters that learn; the others are frozen. The last stages are the later half of the layers."""
    stages = [s for s in _stages(backbone.net) if any(True for _ in s.parameters())]
    frozen = stages[: len(stages) // 2] if options.learn == "last-stages" else []
    for stage in frozen:
        stage.requires_grad_(False)
    return [p for p in backbone.parameters() if p.requires_grad]


def _stages(net: nn.Module) -> Iterator[nn.Module]:
    """The layers that a network is made of, those of its sequences one by one."""
    for part in net.children():
        yield from part if isinstance(part, nn.Sequential) else (part,)


def _train_mode(net: LocatedNetwork, pretrained: bool) -> None:
    """Training mode, but for normalisation whose statistics are those of pretraining or whose layer is frozen."""
    net.train()
    for part in net.backbone.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.train(not pretrained and all(p.requires_grad for p in part.parameters()))
