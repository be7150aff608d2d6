"""Train a locator's backbone together with its head: from pictures, not from features that were computed once.

Every epoch makes its pictures anew, of places drawn by the weight of their block: cut from the world in any heading and
any width of the recipe, a share of them in another season and light (`geoml.geolocation.training.season`), or read from
a list and cropped (`geoml.geolocation.training.picture_sets`). So no picture comes twice. Layers that normalise by
batch keep the statistics of weights that were given, and learn their own in a network that starts from random ones.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from geoml.backends.torch import Device, choose
from geoml.engine.machine.ahead import ahead
from geoml.errors import InputError, ModelError
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
from geoml.io.stores import store

STATE, PROGRESS = ".fit", "backbone.safetensors"
"""Folder within that of the package, until it is written; weights and the optimiser's moments after the last epoch."""


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
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    device: Device | None = None,
) -> nn.Module:
    """Train the backbone in place, with a head that is returned, both in eval mode and on the CPU.

    A head with a gallery has another one while the backbone learns, see `stand_in`. After every epoch the state is in
    ``folder``; given again, the same recipe goes on from there, and ends with the weights of a run that was never
    stopped. Raises InputError for a recipe that does not say what learns, ModelError when the loss is not finite or
    what was kept is damaged, DataError when it cannot be written.
    """
    how, asked = recipe.training, recipe.training.backbone
    if asked is None:
        raise InputError("training.backbone: missing; expected which layers of the backbone learn")
    device = device or choose()
    size = recipe.size or backbone.size
    draw = draw_of(recipe, size)
    path = Path(folder) / PROGRESS
    said = _said(path, recipe.hash)
    torch.manual_seed(recipe.seed)
    if recipe.weights is None and said is None:
        _start(backbone)
    learnt = _learnt(backbone, asked)
    head = _head(recipe, backbone, draw, device) if said is None else heads.build(said["head"], said["config"])
    both = nn.ModuleDict({"backbone": device.place(backbone), "head": head.to(device.torch)})
    steps = math.ceil(draw.count / how.batch)
    slow = how.lr * asked.rate_factor
    groups = [{"params": learnt, "lr": slow}, {"params": list(head.parameters()), "lr": how.lr}]
    optimiser = torch.optim.AdamW(groups, weight_decay=how.weight_decay, fused=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, [slow, how.lr], total_steps=steps * how.epochs)
    done = 0 if said is None else _resume(path, said, both, optimiser, cycle)
    step = partial(_step, both, optimiser, [*learnt, *head.parameters()], device, how.clip)
    xyz = torch.from_numpy(sphere.to_xyz(draw.where[:, 0], draw.where[:, 1]).astype(np.float32))
    for epoch in range(done, how.epochs):
        torch.manual_seed(recipe.seed * 1_000_003 + epoch)  # dropout repeats after a resume
        _train_mode(backbone, given=recipe.weights is not None)
        head.train()
        true, total = xyz[torch.from_numpy(draw.rows(epoch))].split(how.batch), 0.0  # type: ignore[no-untyped-call]
        for rgb, at in zip(ahead(draw.batches(epoch, how.batch), AHEAD, "pictures"), true, strict=True):
            loss = step(torch.from_numpy(np.stack(rgb)), at)
            if not math.isfinite(loss):
                raise ModelError(
                    f"backbone {backbone.name}: loss is not finite in epoch {epoch + 1}; lower training.lr"
                )
            cycle.step()
            total += loss * len(at)
        _keep(path, recipe.hash, epoch + 1, both, optimiser, cycle)
        if on_epoch is not None:
            on_epoch({"epoch": epoch, "loss": total / draw.count})
    backbone.requires_grad_(True)
    both.eval().cpu()
    for value in (*both.parameters(), *both.buffers()):  # no trace of channels_last in the strides of what others read
        value.data = value.clone(memory_format=torch.contiguous_format)
    return head


def forget(folder: str | Path) -> None:
    """Remove what `fit` kept, once the package is written."""
    path = Path(folder) / PROGRESS
    path.unlink(missing_ok=True)
    with suppress(OSError):  # something else lies in it, or it was never made
        path.parent.rmdir()


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


def _train_mode(backbone: Backbone, given: bool) -> None:
    """Training mode, but for normalisation whose statistics were given or whose layer is frozen."""
    backbone.train()
    for part in backbone.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.train(not given and all(p.requires_grad for p in part.parameters()))


def _step(
    both: nn.ModuleDict,
    optimiser: torch.optim.Optimizer,
    learnt: list[nn.Parameter],
    device: Device,
    clip: float,
    rgb: Tensor,
    xyz: Tensor,
) -> float:
    """One step on (B, H, W, 3) uint8 pictures of (B, 3) places, or none if the loss is not finite; the loss."""
    backbone, head = both["backbone"], both["head"]
    x = backbone.normalised(rgb.to(device.torch).permute(0, 3, 1, 2))  # type: ignore[operator]
    with device.autocast():
        features = backbone(x.contiguous(memory_format=torch.channels_last))
    loss = head.loss(head(features.float()), xyz.to(device.torch))  # type: ignore[operator]
    value = float(loss.detach())
    if math.isfinite(value):
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learnt, clip)
        optimiser.step()
    return value


def _keep(
    path: Path, recipe: str, epoch: int, both: nn.ModuleDict, optimiser: torch.optim.Optimizer, cycle: Any
) -> None:
    state = optimiser.state_dict()
    head: Any = both["head"]
    tensors = {f"moments.{i}.{k}": v for i, of in state["state"].items() for k, v in of.items()}
    tensors |= {f"weights.{k}": v for k, v in both.state_dict().items()}
    said = {
        "recipe": recipe, "epoch": epoch, "head": type(head).__module__.rpartition(".")[2],
        "config": dataclasses.asdict(head.config), "groups": state["param_groups"],
        "cycle": {k: v for k, v in cycle.state_dict().items() if isinstance(v, int | float | str | list)},
    }  # fmt: skip
    with store.atomic(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, {"said": json.dumps(said)})


def _said(path: Path, recipe: str) -> dict[str, Any] | None:
    """How far a run of this recipe has come; None where nothing of it is kept."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            said: dict[str, Any] = json.loads(file.metadata()["said"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as err:
        raise ModelError(f"{path}: damaged ({err}); delete it, the training begins again") from err
    return said if said["recipe"] == recipe else None


def _resume(path: Path, said: dict[str, Any], both: nn.ModuleDict, optimiser: torch.optim.Optimizer, cycle: Any) -> int:
    moments: dict[int, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            kind, _, rest = name.partition(".")
            if kind == "weights":
                weights[rest] = file.get_tensor(name)
            else:
                row, _, key = rest.partition(".")
                moments.setdefault(int(row), {})[key] = file.get_tensor(name)
    both.load_state_dict(weights)
    for row, p in enumerate(p for group in optimiser.param_groups for p in group["params"]):
        # the fused step walks through memory, so moments have to lie in it as their parameter does
        moments[row] = {k: torch.empty_like(p).copy_(v) if v.ndim else v for k, v in moments.get(row, {}).items()}
    optimiser.load_state_dict({"state": moments, "param_groups": said["groups"]})
    cycle.load_state_dict(said["cycle"])
    return int(said["epoch"])
