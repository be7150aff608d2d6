"""ConvLSTM: an encoder reads the observed steps, and a forecaster continues from there, lead by lead.

Shi et al.: Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting. NIPS 2015,
https://arxiv.org/abs/1506.04214. Here the forecaster sees the guess for each lead, such as the advected frame, and
learns what to add to it, so it starts from the simple method. Without a guess it starts from the last known value.
Cells work on squares of ``patch`` pixels (Shi et al. 2016, https://doi.org/10.1109/CVPR.2016.207).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError
from geoml.nn.forecast.config import ForecastConfig
from geoml.nn.forecast.layout import UNKNOWN, ForecastWindow
from geoml.nn.forecast.quantiles import rising

TASKS = ("forecast",)
TINY = {"history": 2, "leads": (1, 3), "width": 8, "patch": 2}

State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Config(ForecastConfig):
    """``width`` channels remember, of squares of ``patch`` pixels.

    Raises InputError for other variables than the target, or for features of the future, which it does not read.
    """

    width: int = 32
    patch: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.width, self.patch) < 1:
            raise InputError(f"convlstm: width {self.width}, patch {self.patch}; expected at least 1")
        if self.variables != 1 or self.futures or self.background:
            raise InputError("convlstm: reads the target and a guess; expected one variable, no futures, no background")


class ConvLSTMCell(nn.Module):
    """One step: (B, inputs, y, x) and the state to the next state."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.gates = nn.Conv2d(inputs + width, 4 * width, 3, padding=1)
        assert self.gates.bias is not None
        with torch.no_grad():  # remember at first: Jozefowicz et al. 2015
            self.gates.bias[width : 2 * width] += 1

    def forward(
        self, x: Float[Tensor, "batch input y x"], state: State | None
    ) -> tuple[Float[Tensor, "batch width y x"], Float[Tensor, "batch width y x"]]:
        if state is None:
            zero = x.new_zeros(x.shape[0], self.width, *x.shape[2:])
            state = zero, zero
        hidden, cell = state
        enter, keep, leave, new = self.gates(torch.cat([x, hidden], 1)).chunk(4, 1)
        cell = keep.sigmoid() * cell + enter.sigmoid() * new.tanh()
        return leave.sigmoid() * cell.tanh(), cell


class ConvLSTM(nn.Module):
    """Quantiles around the guess of each lead; unknown where neither a guess nor a step is known."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.stride, self.levels = config, config.patch, len(config.levels)
        area = config.patch**2
        self.encoder = ConvLSTMCell(2 * area, config.width)
        self.forecaster = ConvLSTMCell(2 * area, config.width)
        self.answer = nn.Sequential(
            nn.Conv2d(config.width + 2 * area, 2 * config.width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * config.width, self.levels * area, 1),
        )
        last = self.answer[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        bias = torch.full((self.levels, area), -3.0)  # narrow about the guess
        bias[self.levels // 2] = 0
        last.bias = nn.Parameter(bias.flatten())

    def forward(
        self, x: Float[Tensor, "batch channel y x"], looks: Bool[Tensor, "batch look y x"] | None = None
    ) -> Float[Tensor, "batch output y x"]:
        height, width = x.shape[-2:]
        more = (0, -width % self.stride, 0, -height % self.stride)
        if any(more):
            x = F.pad(x, more)
            looks = None if looks is None else F.pad(looks, more)
        window = self.config.layout.split(x, looks)
        found = rising(self._raw(window))
        centre, known = window.start(len(self.config.leads))
        out = torch.where(known[:, :, None], found + centre[:, :, None], UNKNOWN)
        return out.flatten(1, 2)[..., :height, :width]

    def _raw(self, window: ForecastWindow) -> Float[Tensor, "batch lead level y x"]:
        state: State | None = None
        for step in range(self.config.history):
            state = self.encoder(self._seen(window.history[:, step, 0], window.known[:, step, 0]), state)
        assert state is not None
        hidden, cell = state
        centre, known = window.start(len(self.config.leads))
        raw = []
        for lead in range(len(self.config.leads)):
            seen = self._seen(centre[:, lead], known[:, lead])
            hidden, cell = self.forecaster(seen, (hidden, cell))
            answer = F.pixel_shuffle(self.answer(torch.cat([hidden, seen], 1)), self.stride)
            raw.append(answer)
        return torch.stack(raw, 1)

    def _seen(self, value: Tensor, known: Tensor) -> Float[Tensor, "batch input y x"]:
        both = torch.stack([torch.where(known, value, 0.0), known.to(value.dtype)], 1)
        return F.pixel_unshuffle(both, self.stride)


build = ConvLSTM
