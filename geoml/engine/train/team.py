"""The processes of one training: each makes its rows of every batch, and the loss is that of the whole batch.

One process needs none of this. Several are Lightning's Fabric with distributed data parallel: NCCL between GPUs, gloo
between processes of the CPU. The outputs of all processes are put together before the loss, so a loss that is no mean
over rows (pixels without a label, pairs against all others) is what one process would have computed, and gradients are
the same but for the order of sums. Normalisation by batch sees the whole batch on GPUs, on the CPU the rows of its own
process.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import socket
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.queues import SimpleQueue
from typing import Any, Protocol, TypeVar, final

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from geoml.backends.torch import Device
from geoml.errors import GeomlError, InputError, TransientError, needs
from geoml.settings import settings

W = TypeVar("W")
OnEpoch = Callable[[dict[str, float]], None]

LOOK = 0.2
"""Seconds between two looks for news of the processes."""


class Team(Protocol):
    """What a process knows of the others."""

    rank: int
    world: int
    device: torch.device

    def rows(self, size: int) -> slice:
        """Which rows of a batch of ``size`` this process makes: as many as every other, so some may be made twice."""

    def wrap(self, net: nn.Module) -> nn.Module:
        """The network as it is called in training, as long as the same of its parameters learn."""

    def whole(self, part: Tensor, size: int) -> Tensor:
        """All ``size`` rows of a batch from those of each process; a gradient reaches the own ones."""


@final
class Alone:
    """One process that does all."""

    rank, world = 0, 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def rows(self, size: int) -> slice:
        return slice(0, size)

    def wrap(self, net: nn.Module) -> nn.Module:
        return net

    def whole(self, part: Tensor, size: int) -> Tensor:
        return part


@final
class Together:
    """One of ``world`` processes of this machine; those of GPUs have one each, from that of ``device`` on."""

    def __init__(self, rank: int, world: int, device: torch.device, port: int) -> None:
        with needs("train", "training in several processes"):
            from lightning.fabric import Fabric
            from lightning.fabric.plugins.environments.lightning import LightningEnvironment
            from lightning.fabric.strategies.ddp import DDPStrategy

        here = {"LOCAL_RANK": rank, "NODE_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({k: str(v) for k, v in here.items()})
        cuda = device.type == "cuda"
        if not cuda:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            torch.set_num_threads(max(1, torch.get_num_threads() // world))
        logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
        first = device.index or 0
        self.rank, self.world = rank, world
        self.fabric = Fabric(
            accelerator="cuda" if cuda else "cpu",
            devices=list(range(first, first + world)) if cuda else world,
            strategy=DDPStrategy(process_group_backend="nccl" if cuda else "gloo"),
            plugins=[LightningEnvironment()],
        )
        self.fabric.launch()
        self.device = self.fabric.device

    def rows(self, size: int) -> slice:
        return share(self.rank, self.world, size)

    def wrap(self, net: nn.Module) -> nn.Module:
        if self.device.type == "cuda":
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
        wrapped: nn.Module = self.fabric.setup_module(net)
        return wrapped

    def whole(self, part: Tensor, size: int) -> Tensor:
        own = part.detach().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.world)]
        torch.distributed.all_gather(parts, own)
        if part.requires_grad:  # gradients are averaged over the processes, and each has those of its rows only
            part.register_hook(lambda gradient: gradient * self.world)  # type: ignore[no-untyped-call]
            parts[self.rank] = part
        starts = [share(rank, self.world, size) for rank in range(self.world)]
        ends = [0, *(s.stop for s in starts)]
        return torch.cat([p[end - s.start :] for p, s, end in zip(parts, starts, ends, strict=False)])


def share(rank: int, world: int, size: int) -> slice:
    """The rows of a batch of ``size`` that one of several processes makes."""
    each = -(-size // world)
    first = min(rank * each, size - each)
    return slice(first, first + each)


def processes(device: Device) -> int:
    """How many processes train together on this machine. Raises InputError for more than it has GPUs."""
    count = settings().devices
    if count > 1 and device.torch.type not in ("cpu", "cuda"):
        raise InputError(f"GEOML_DEVICES: {count}; expected 1 on {device.torch.type}")
    there = torch.cuda.device_count() - (device.torch.index or 0)
    if device.torch.type == "cuda" and count > there:
        raise InputError(f"GEOML_DEVICES: {count}; expected at most {there}, the GPUs from {device.torch} on")
    return count


def run(
    action: Callable[[W, Team, OnEpoch], None],
    work: W,
    device: torch.device,
    on_epoch: OnEpoch | None,
) -> None:
    """Call ``action(work, team, tell)`` in each process of a team; what it tells comes to ``on_epoch`` here.

    An error of one ends all, and is raised here; so does an error of ``on_epoch``. Raises TransientError for a process
    that was killed.
    """
    world = settings().devices
    news: SimpleQueue[Any] = multiprocessing.get_context("spawn").SimpleQueue()
    # by value: tensors that go to a process as they are would be shared by all of them
    given = pickle.dumps((action, work))
    of = (world, device, _free_port())
    context = start_processes(_process, (of, given, news), world, join=False, start_method="spawn")  # type: ignore[no-untyped-call]
    try:
        ended = False
        while not ended:
            try:
                ended = context.join(LOOK)
            except ProcessRaisedException:
                _drain(news, None)  # raises what it was, if that was foreseen
                raise
            except ProcessExitedException as err:
                _drain(news, None)
                raise TransientError(f"training: {err}; the same command resumes after its last epoch") from err
            _drain(news, on_epoch)
    finally:
        for process in context.processes:
            if process.is_alive():
                process.terminate()
            process.join()


def _drain(news: SimpleQueue[Any], on_epoch: OnEpoch | None) -> None:
    while not news.empty():
        said = news.get()
        if isinstance(said, GeomlError):
            raise said
        if on_epoch is not None:
            on_epoch(said)


def _process(rank: int, of: tuple[int, torch.device, int], given: bytes, news: SimpleQueue[Any]) -> None:
    action, work = pickle.loads(given)
    try:
        action(work, Together(rank, *of), news.put)
    except GeomlError as err:
        news.put(err)
        raise
    finally:
        with suppress(Exception):
            torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
