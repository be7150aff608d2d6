"""Graph network: messages between places, by distance and by a learned adjacency, and a GRU over the steps.

As Graph WaveNet has it (Z. Wu et al. 2019, https://arxiv.org/abs/1906.00121) the learned adjacency is the softmax of
products of embeddings of the places; that of distance is a Gaussian of learned width. Messages are those of diffusion
convolution (Y. Li et al. 2018, https://arxiv.org/abs/1707.01926), with a GRU in place of the dilated convolutions. The
output is added to the guess, or to the last value without one; without this a young network is worse than persistence.

On a grid, every cell is a node. It receives messages from cells at most ``reach`` cells away, by distance and by
adjacencies learned from relative positions (`geoml.nn.forecast.cells`). All cells share these weights, none sees a
whole block, and a cell's output depends on nothing farther than ``radius``: the result does not depend on how a grid is
cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geoml.errors import InputError
from geoml.nn.forecast.cells import CellMessages
from geoml.nn.forecast.config import ForecastConfig
from geoml.nn.forecast.layout import UNKNOWN
from geoml.nn.forecast.quantiles import rising

TASKS = ("forecast",)
TINY = {"history": 4, "leads": (1, 3), "background": True, "hidden": 8, "reach": 1, "kernels": 2}
EARTH_KM = 6371.0
LAYERS = 2
"""In which states are mixed, after the steps were."""


@dataclass(frozen=True)
class Config(ForecastConfig):
    """``places`` have embeddings and with them a learned adjacency; 0: any places, by their distance alone.

    ``hidden`` is the width, ``km`` the distance of places that count at first. With ``reach`` the nodes are cells of a
    grid, which hear so many cells far and have ``kernels`` learned adjacencies. Raises InputError for others.
    """

    places: int = 0
    hidden: int = 64
    km: float = 20.0
    embedding: int = 8
    dropout: float = 0.1
    reach: int = 0
    kernels: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.reach, self.kernels) < 0 or (self.reach and self.places):
            raise InputError(f"graph: reach {self.reach}, kernels {self.kernels}, places {self.places}; expected them"
                             " from 0, and either reach, of a grid, or places")  # fmt: skip
        if self.places < 0 or min(self.hidden, self.embedding) < 1 or self.km <= 0 or not 0 <= self.dropout < 1:
            raise InputError(f"graph: {self}; expected places from 0, widths from 1, km above 0, dropout below 1")


class GraphForecast(nn.Module):
    """Places are stations along x or, with ``reach``, the cells of a grid; ``radius`` is how far a cell sees."""

    stride = 1

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        hidden, leads, levels = config.hidden, len(config.leads), len(config.levels)
        own = config.embedding if config.places else 0
        self.cells = CellMessages(config.reach, config.kernels) if config.reach else None
        self.radius = (1 + LAYERS) * config.reach if config.reach else None
        sides = 2 + int(bool(own)) if self.cells is None else 1 + self.cells.sides
        if self.cells is None:
            self.log_km = nn.Parameter(torch.tensor(config.km).log())
        self.places = nn.Parameter(0.1 * torch.randn(config.places, config.embedding)) if own else None
        self.step = nn.Linear(sides * (2 * config.variables + int(config.background)) + own, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.mix = nn.ModuleList(nn.Linear(sides * hidden, hidden) for _ in range(LAYERS))
        self.dropout = nn.Dropout(config.dropout)
        known = 1 + leads * (int(config.background) + int(config.guess) + config.futures)
        self.head = nn.Sequential(nn.Linear(hidden + own + known, hidden), nn.GELU(), nn.Linear(hidden, leads * levels))
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, -2.0)
        with torch.no_grad():
            last.bias.view(leads, levels)[:, levels // 2] = 0.0

    def forward(
        self,
        x: Float[Tensor, "batch channel y x"],
        looks: Bool[Tensor, "batch look y x"] | None = None,
        place: Float[Tensor, "batch 2 y x"] | None = None,
    ) -> Float[Tensor, "batch output y x"]:
        """Without ``place`` all stations are equally near. Raises InputError for another number of places, and for a
        grid without ``reach``."""
        window = self.config.layout.split(x, looks)
        shape, leads = x.shape[-2:], len(self.config.leads)
        if self.config.places not in (0, shape[0] * shape[1]):
            raise InputError(f"places: {shape[0] * shape[1]}; the network has embeddings for {self.config.places}")
        if self.cells is None and shape[0] > 1:
            raise InputError(f"graph: {shape[0]} x {shape[1]} cells of a grid; expected reach, how many cells far each"
                             " hears, such as config: {reach: 2}")  # fmt: skip
        steps = [window.history, window.known.to(x.dtype)]
        if window.past is not None:
            steps.append(window.past[:, :, None])
        sides = self.adjacency(x, place) if self.cells is None else []
        mixed = self._mixed(torch.cat(steps, 2), window.known[:, :, 0], sides)  # (batch, step, place, feature)
        batch, count, places, _ = mixed.shape
        own = [] if self.places is None else [self.places[None].expand(batch, -1, -1)]
        if own:
            mixed = torch.cat([mixed, own[0][:, None].expand(-1, count, -1, -1)], 3)
        series = torch.relu(self.step(mixed)).transpose(1, 2).flatten(0, 1)
        state = self.gru(series)[1][0].unflatten(0, (batch, places))
        last, ever = window.last()
        for layer in self.mix:
            field = torch.unflatten(state.transpose(1, 2), 2, tuple(shape))
            said = self._mixed(field[:, None], ever[:, None], sides)[:, 0]
            state = state + self.dropout(torch.relu(layer(said)))
        known = [last[:, None]]
        known += [] if window.background is None else [window.background]
        known += [] if window.guess is None else [window.guess]
        known.append(window.future.flatten(1, 2))
        told = torch.cat(known, 1).flatten(2).transpose(1, 2)
        raw = self.head(torch.cat([state, *own, told], 2)).transpose(1, 2)
        raw = torch.unflatten(torch.unflatten(raw, 2, tuple(shape)), 1, (leads, len(self.config.levels)))
        base, there = window.start(leads)
        found = rising(raw) + base[:, :, None]
        if self.cells is not None:
            found = torch.where(there[:, :, None], found, UNKNOWN)
        return found.flatten(1, 2)

    def _mixed(
        self, values: Float[Tensor, "batch step feature y x"], known: Bool[Tensor, "batch step y x"],
        sides: list[Tensor],
    ) -> Float[Tensor, "batch step place _"]:  # fmt: skip
        """What each place has, and what it hears of the others, at each step."""
        if self.cells is not None:
            heard = self.cells(values.flatten(0, 1), known.flatten(0, 1))
            both = torch.cat([values, torch.unflatten(heard, 0, values.shape[:2])], 2)
            return both.flatten(3).transpose(2, 3)
        seen = values.flatten(3).transpose(2, 3)
        return torch.cat([seen, *(torch.einsum("bpq,btqf->btpf", a, seen) for a in sides)], 3)

    def adjacency(
        self, x: Float[Tensor, "batch channel y x"], place: Float[Tensor, "batch 2 y x"] | None
    ) -> list[Float[Tensor, "batch place place"]]:
        """Weights of what each place (row) hears of the others, which sum to 1: by distance, and the learned ones."""
        batch, count = len(x), x.shape[-2] * x.shape[-1]
        if place is None:
            out = [torch.full((batch, count, count), 1 / count, dtype=x.dtype, device=x.device)]
        else:
            lon, lat = torch.deg2rad(place.to(x.dtype)).flatten(2).unbind(1)
            east = (lon[:, :, None] - lon[:, None]) * torch.cos((lat[:, :, None] + lat[:, None]) / 2)
            away = EARTH_KM * torch.hypot(torch.atan2(east.sin(), east.cos()), lat[:, :, None] - lat[:, None])
            out = [torch.softmax(-((away / self.log_km.exp()) ** 2), 2)]
        if self.places is not None:
            out.append(torch.softmax(self.places @ self.places.T, 1)[None].expand(batch, -1, -1))
        return out


build = GraphForecast
