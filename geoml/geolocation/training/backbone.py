"""Train a locator's backbone together with its head: from pictures, not from features that were computed once.

Every epoch makes its pictures anew, of places drawn by the weight of their block: cut from the world in any heading and
any width of the recipe, a share of them in another season and light (`geoml.geolocation.training.season`), or read from
a list and cropped (`geoml.geolocation.training.picture_sets`). So no picture comes twice. Layers that normalise by
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
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from geoml.backends.torch import Device, choose
from geoml.data.chips import OwnRows
from geoml.engine.machine.ahead import ahead
from geoml.engine.train.loop import Training, TrainingBatch, kept, learn
from geoml.engine.train.team import OnEpoch
from geoml.errors import InputError
from geoml.geolocation import heads
from geoml.geolocation.locate.features import AHEAD, BATCH, Extractor, compute
from geoml.geolocation.nn.backbones import Backbone
from geoml.geolocation.nn.locating import Standardise
from geoml.geolocation.training import balance, picture_sets, season, world, world_sets
from geoml.geolocation.training.draw import Draw, Pixels
from geoml.geolocation.training.recipe import BackboneTraining, GeoRecipe, Head, PictureSource
from geoml.geolocation.training.world import View, World
from geoml.geolocation.training.world_cuts import Cutter
from geoml.grid import sphere


@dataclass(frozen=True)
class WorldDraw(Draw):
    """Crops of worlds that are cut anew in every epoch.

    ``looks`` is the share of pictures that show another season and light than the world picture does.
    """

    worlds: tuple[World, ...]
    width_km: tuple[float, float]
    looks: float

    def made(self, rows: NDArray[np.int64], rngs: Sequence[np.random.Generator]) -> list[Pixels]:
        views = [self._view(row, rng) for row, rng in zip(rows, rngs, strict=True)]
        which = np.array([rng.integers(len(self.worlds)) for rng in rngs])
        rgb = np.zeros((len(rngs), self.size, self.size, 3), np.uint8)
        for k in np.unique(which):
            chosen = np.flatnonzero(which == k)
            rgb[chosen] = self._cutters[k]([views[i] for i in chosen], self.size)
        return [season.vary(x, g) if g.random() < self.looks else x for x, g in zip(rgb, rngs, strict=True)]

    @cached_property
    def _cutters(self) -> list[Cutter]:
        return [Cutter(world_) for world_ in self.worlds]

    def _view(self, row: int, rng: np.random.Generator) -> View:
        lon, lat = (float(v) for v in self.where[row])
        return View(lon, lat, float(rng.uniform(*self.width_km)), float(rng.uniform(0.0, 360.0)))


def draw_of(recipe: GeoRecipe, size: int) -> Draw:
    """What a recipe's training sees. An epoch has as many pictures as there are views of the training places."""
    source, views = recipe.source, recipe.views
    if isinstance(source, PictureSource):
        return picture_sets.draw_of(recipe, size)
    where = world_sets.choose(recipe, world.read_land(world.find(source.land))).train
    worlds = tuple(world.read(world.find(p)) for p in (source.picture, *source.renderings))
    number = views.clean + views.seasons + len(source.renderings)
    weight = balance.weights(balance.coarse(where[:, 0], where[:, 1]), recipe.training.balance)
    count = number * len(where)
    count += count % recipe.training.batch == 1  # normalisation by batch needs two
    return WorldDraw(where, weight, count, size, recipe.seed, worlds, source.width_km, views.seasons / number)


def fit(
    recipe: GeoRecipe,
    backbone: Backbone,
    folder: str | Path,
    on_epoch: OnEpoch | None = None,
    device: Device | None = None,
) -> nn.Module:
    """Train the backbone in place, with a head that is returned, both in eval mode and on the CPU.

    A head with a gallery has another one while the backbone learns, see `stand_in`. After every epoch the state is in
    ``folder``; given again, the same recipe goes on from there, and ends with the weights of a run that was never
    stopped. Raises InputError for a recipe that does not say what learns, and as `geoml.engine.train.loop.learn`.
    """
    how, asked = recipe.training, recipe.training.backbone
    if asked is None:
        raise InputError("training.backbone: missing; expected which layers of the backbone learn")
    folder, device = Path(folder), device or choose()
    draw = draw_of(recipe, recipe.size or backbone.size)
    said = kept(folder)
    torch.manual_seed(recipe.seed)
    if recipe.weights is None and said is None:
        _start(backbone)
    learnt = _learnt(backbone, asked)
    head = _head(recipe, backbone, draw, device) if said is None else heads.build(said["head"], said["config"])
    device.place(backbone)
    net, slow = LocatedNetwork(backbone, head, device), how.lr * asked.rate_factor
    groups = [{"params": learnt, "lr": slow}, {"params": list(head.parameters()), "lr": how.lr}]
    training = Training(
        name=f"backbone {backbone.name}", lower="training.lr", net=net, batches=partial(_batches, draw, how.batch),
        loss=head.loss,  # type: ignore[arg-type]
        optimiser=partial(AdamW, groups, weight_decay=how.weight_decay, fused=True), clip=how.clip,
        schedule=partial(OneCycleLR, max_lr=[slow, how.lr], total_steps=-(-draw.count // how.batch) * how.epochs),
        epochs=how.epochs, device=device, seed=recipe.seed,
        mode=partial(_train_mode, given=recipe.weights is not None),
        about={"head": type(head).__module__.rpartition(".")[2], "config": dataclasses.asdict(head.config)},  # type: ignore[call-overload]
    )  # fmt: skip
    learn(training, folder, on_epoch)
    for value in (*net.parameters(), *net.buffers()):  # no trace of channels_last in the strides of what others read
        value.data = value.clone(memory_format=torch.contiguous_format)
    return head


class LocatedNetwork(nn.Module):
    """(B, H, W, 3) uint8 pictures to what the head says of their features."""

    def __init__(self, backbone: Backbone, head: nn.Module, device: Device) -> None:
        super().__init__()
        self.backbone, self.head, self.device = backbone, head, device

    def forward(self, rgb: Tensor) -> Tensor:
        x = self.backbone.normalised(rgb.permute(0, 3, 1, 2))
        with self.device.autocast():
            features = self.backbone(x.contiguous(memory_format=torch.channels_last))
        raw: Tensor = self.head(features.float())
        return raw


def _batches(draw: Draw, batch: int, epoch: int, part: OwnRows) -> Iterator[TrainingBatch]:
    rows = draw.rows(epoch)
    xyz = torch.from_numpy(sphere.to_xyz(draw.where[rows, 0], draw.where[rows, 1]).astype(np.float32))
    true = xyz.split(batch)  # type: ignore[no-untyped-call]
    for rgb, at in zip(ahead(draw.batches(epoch, batch, part), AHEAD, "pictures"), true, strict=True):
        yield TrainingBatch((torch.from_numpy(np.stack(rgb)),), at[part(len(at))], len(at))


def stand_in(asked: Head) -> Head:
    """The head that learns beside the backbone: ``cells`` for one whose gallery would age with every step."""
    if not has_gallery(asked):
        return asked
    known = {f.name for f in dataclasses.fields(heads.find("cells").Config)}
    return Head(name="cells", config={k: v for k, v in asked.config.items() if k in known})


def has_gallery(asked: Head) -> bool:
    """True for a head that answers with training pictures, so has to see them once more when the backbone is ready."""
    return "gallery" in {f.name for f in dataclasses.fields(heads.find(asked.name).Config)}


def _head(recipe: GeoRecipe, backbone: Backbone, draw: Draw, device: Device) -> nn.Module:
    """A head started on one picture of every place, as the backbone sees them before it learns."""
    seen = dataclasses.replace(draw, weight=np.full(len(draw.where), 1 / len(draw.where)), count=len(draw.where))
    rows = seen.rows(0)
    x = torch.from_numpy(compute(chain.from_iterable(seen.batches(0, BATCH)), Extractor(backbone, draw.size, device)))
    xyz = torch.from_numpy(sphere.to_xyz(draw.where[rows, 0], draw.where[rows, 1]).astype(np.float32))
    asked = stand_in(recipe.head)
    head = heads.build(asked.name, {**asked.config, "features": backbone.features})
    head.start(x, xyz)  # type: ignore[operator]
    for part in head.modules():
        if isinstance(part, Standardise):  # what hardly varies yet may vary a lot when the backbone has learnt
            part.std.clamp_(min=float(part.std.median()))
    return head


def _start(backbone: Backbone) -> None:
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


def _learnt(backbone: Backbone, asked: BackboneTraining) -> list[nn.Parameter]:
    """The parameters that learn; the others are frozen. The last stages are the later half of the layers."""
    stages = [s for s in _stages(backbone.net) if any(True for _ in s.parameters())]
    frozen = stages[: len(stages) // 2] if asked.learn == "last-stages" else []
    for stage in frozen:
        stage.requires_grad_(False)
    return [p for p in backbone.parameters() if p.requires_grad]


def _stages(net: nn.Module) -> Iterator[nn.Module]:
    """The layers that a network is made of, those of its sequences one by one."""
    for part in net.children():
        yield from part if isinstance(part, nn.Sequential) else (part,)


def _train_mode(net: LocatedNetwork, given: bool) -> None:
    """Training mode, but for normalisation whose statistics were given or whose layer is frozen."""
    net.train()
    for part in net.backbone.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.train(not given and all(p.requires_grad for p in part.parameters()))
