"""Temporal Fusion Transformer: learns which variables count at which step, and which past steps each lead attends to.

B. Lim, S. Ö. Arık, N. Loeff and T. Pfister (2021): Temporal Fusion Transformers for interpretable multi-horizon time
series forecasting, https://doi.org/10.1016/j.ijforecast.2021.03.012, also https://arxiv.org/abs/1912.09363. Every place
is a series of its own with the same weights and, where ``places`` are known, an embedding as its static covariate. As
in the paper: gated residual networks, variable selection, an LSTM over past and leads, static enrichment, and attention
whose heads share their values, so that its weights can be interpreted. Its output is added to the guess, or to the last
value without one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError
from geoml.nn.forecast.config import ForecastConfig
from geoml.nn.forecast.layout import ForecastWindow
from geoml.nn.forecast.quantiles import rising

TASKS = ("forecast",)
TINY = {"history": 4, "leads": (1, 3), "background": True, "hidden": 8, "heads": 2, "futures": 2}


@dataclass(frozen=True)
class Config(ForecastConfig):
    """``places`` have an embedding; 0: all are alike. ``hidden`` is the width, of which each of ``heads`` has a part.

    Raises InputError for others.
    """

    places: int = 0
    hidden: int = 32
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.places < 0 or self.heads < 1 or self.hidden % self.heads or not 0 <= self.dropout < 1:
            raise InputError(f"tft: {self}; expected places from 0, a width that heads divide, dropout below 1")


class Affine(nn.Module):
    """``x @ weight + bias``; with ``each`` a map of its own for each of so many variables, which ``x`` begins with."""

    def __init__(self, inputs: int, outputs: int, each: int = 0) -> None:
        super().__init__()
        lead = (each,) if each else ()
        most = inputs**-0.5  # as nn.Linear begins
        self.weight = nn.Parameter(torch.empty(*lead, inputs, outputs).uniform_(-most, most))
        self.bias = nn.Parameter(torch.empty(*lead, 1, outputs).uniform_(-most, most))

    def forward(self, x: Float[Tensor, "*row input"]) -> Float[Tensor, "*row output"]:
        return _mapped(x, self.weight, self.bias)

    def after(self, other: Affine, x: Float[Tensor, "*row input"]) -> Float[Tensor, "*row output"]:
        """``self(other(x))`` in one product. Where ``other`` has a map for each variable and ``self`` takes what
        they say as one row, ``x`` is one of all inputs."""
        weight: Tensor = self.weight
        if weight.ndim < other.weight.ndim:
            weight = torch.unflatten(weight, 0, (len(other.weight), -1))
        joined, moved = other.weight @ weight, other.bias @ weight
        if joined.ndim > self.weight.ndim:
            joined, moved = joined.flatten(0, 1), moved.sum(0)
        return _mapped(x, joined, moved + self.bias)


def _mapped(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if weight.ndim == 3:
        return torch.baddbmm(bias, x, weight)
    return F.linear(x, weight.mT, bias[0])


class GatedResidual(nn.Module):
    """``LayerNorm(a + GLU(dense(ELU(dense(x) + dense(c)))))``: what is not needed passes by (equations 2 to 5).

    With ``each`` there is one of its own for each of so many variables, which ``x`` begins with.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, dropout: float, context: int = 0, each: int = 0) -> None:
        super().__init__()
        self.first, self.second = Affine(inputs, hidden, each), Affine(hidden, hidden, each)
        self.context = nn.Linear(context, hidden, bias=False) if context else None
        self.gate = Affine(hidden, 2 * outputs, each)
        self.skip = Affine(inputs, outputs, each) if inputs != outputs else None
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.ones(*((each, 1) if each else ()), outputs))
        self.shift = nn.Parameter(torch.zeros(*((each, 1) if each else ()), outputs))

    def forward(
        self, x: Float[Tensor, "*row feature"], context: Float[Tensor, "... _"] | None = None
    ) -> Float[Tensor, "*row output"]:
        return self.gated(self.first(x), x if self.skip is None else self.skip(x), context)

    def of(
        self, embed: Affine, x: Float[Tensor, "*row input"], context: Float[Tensor, "... _"] | None = None
    ) -> Float[Tensor, "*row output"]:
        """The same of ``embed(x)``."""
        skip = embed(x) if self.skip is None else self.skip.after(embed, x)
        return self.gated(self.first.after(embed, x), skip, context)

    def gated(
        self, inner: Float[Tensor, "*row hidden"], skip: Float[Tensor, "*row output"],
        context: Float[Tensor, "... _"] | None,
    ) -> Float[Tensor, "*row output"]:  # fmt: skip
        if self.context is not None and context is not None:
            inner = inner + self.context(context)
        inner = F.elu(inner, inplace=True)
        gate = self.gate(self.dropout(self.second(inner))) if self.training else self.gate.after(self.second, inner)
        normal = F.layer_norm(F.glu(gate, -1).add_(skip), skip.shape[-1:])
        return torch.addcmul(self.shift, normal, self.scale)


class VariableSelection(nn.Module):
    """Weights of the variables of a step, and their sum so weighted (section 4.2)."""

    def __init__(self, variables: int, hidden: int, dropout: float, context: int = 0) -> None:
        super().__init__()
        self.embed = Affine(2, hidden, variables)
        self.each = GatedResidual(hidden, hidden, hidden, dropout, each=variables)
        self.choose = GatedResidual(variables * hidden, hidden, variables, dropout, context)

    def forward(
        self, x: Float[Tensor, "row step variable 2"], context: Float[Tensor, "row 1 _"] | None
    ) -> tuple[Float[Tensor, "row step hidden"], Float[Tensor, "row step variable"]]:
        """Of values and whether they are known."""
        rows, steps = x.shape[:2]
        by_variable = x.flatten(0, 1).transpose(0, 1)
        weights = torch.softmax(self.choose.of(self.embed, x.flatten(2), context), 2)
        said = self.each.of(self.embed, by_variable)
        chosen = torch.zeros_like(said[0])
        for part, weight in zip(said, weights.flatten(0, 1).T, strict=True):
            chosen = torch.addcmul(chosen, part, weight[:, None])
        return torch.unflatten(chosen, 0, (rows, steps)), weights


class TemporalFusion(nn.Module):
    """Places are all pixels of the input: stations along x, or the cells of a grid."""

    stride = 1

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        hidden, drop = config.hidden, config.dropout
        own = hidden if config.places else 0
        self.places = nn.Parameter(0.1 * torch.randn(config.places, hidden)) if own else None
        self.past = VariableSelection(config.variables + int(config.background), hidden, drop, own)
        ahead = 1 + int(config.background) + int(config.guess) + config.futures
        self.ahead = VariableSelection(ahead, hidden, drop, own)
        self.encoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.decoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.after_lstm = _Gate(hidden, drop)
        self.enrich = GatedResidual(hidden, hidden, hidden, drop, own)
        self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.value, self.merge = nn.Linear(hidden, hidden // config.heads), nn.Linear(hidden // config.heads, hidden)
        self.after_attention = _Gate(hidden, drop)
        self.feed, self.after_feed = GatedResidual(hidden, hidden, hidden, drop), _Gate(hidden, drop)
        self.head = nn.Linear(hidden, len(config.levels))
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, -2.0)
        with torch.no_grad():
            self.head.bias[len(config.levels) // 2] = 0.0

    def forward(
        self, x: Float[Tensor, "batch channel y x"], looks: Bool[Tensor, "batch look y x"] | None = None
    ) -> Float[Tensor, "batch output y x"]:
        """Raises InputError for another number of channels or places."""
        window = self.config.layout.split(x, looks)
        raw, _, _ = self._said(window)
        batch, (height, width) = len(x), x.shape[-2:]
        raw = torch.unflatten(raw, 0, (batch, height, width)).permute(0, 3, 4, 1, 2)
        base = window.last()[0][:, None] if window.guess is None else window.guess
        return (rising(raw) + base[:, :, None]).flatten(1, 2)

    @torch.no_grad()
    def explain(
        self, x: Float[Tensor, "batch channel y x"], looks: Bool[Tensor, "batch look y x"] | None = None
    ) -> tuple[Float[Tensor, " variable"], Float[Tensor, "lead step"]]:
        """Mean weights of the variables of the past (the target, the others, the climatology), which sum to 1, and of
        the steps that each lead looks at: those of the history, then the leads up to it."""
        _, chosen, attention = self._said(self.config.layout.split(x, looks))
        return chosen.mean((0, 1)), attention.mean(0)

    def _said(self, window: ForecastWindow) -> tuple[Tensor, Tensor, Tensor]:
        """Raw output (row, lead, level) of every place as a row, selection weights of the past, attention."""
        history, known = (_rows(v) for v in (window.history, window.known.to(window.history.dtype)))
        parts = [torch.stack([history, known], 3)]
        last, seen = window.last()
        leads = len(self.config.leads)
        told = [last[:, None].expand(-1, leads, -1, -1)]
        if window.past is not None and window.background is not None:
            parts.append(_known(_rows(window.past[:, :, None])))
            told.append(window.background)
        if window.guess is not None:
            told.append(window.guess)
        ahead = torch.cat([torch.stack(told, 2), window.future], 2)
        rows = len(history)
        own = None
        if self.places is not None:
            places = last.shape[1] * last.shape[2]
            if places != len(self.places):
                raise InputError(f"places: {places}; the network has embeddings for {len(self.places)}")
            own = self.places.repeat(rows // places, 1)[:, None]
        past, chosen = self._past(torch.cat(parts, 2), len(last), own)
        there = _known(_rows(ahead))
        there[:, :, 0, 1] = seen.flatten()[:, None].to(there.dtype)
        future, _ = self.ahead(there, own)
        encoded, state = self.encoder(past)
        decoded, _ = self.decoder(future, state)
        whole = self.after_lstm(torch.cat([encoded, decoded], 1), torch.cat([past, future], 1))
        rich = self.enrich(whole, own)
        attended, weights = self._attend(rich)
        out = self.after_attention(attended, rich[:, -leads:])
        out = self.after_feed(self.feed(out), whole[:, -leads:])
        return self.head(out), chosen, weights

    def _past(self, x: Tensor, batch: int, own: Tensor | None) -> tuple[Tensor, Tensor]:
        """Selection of (row, step, variable, 2). A step that several windows see is selected once where windows slide
        along one series, as those of a calibration or of a test do."""
        windows = torch.unflatten(x, 0, (batch, -1))
        slide = 0 if self.training else _slide(windows)
        if not slide:
            both: tuple[Tensor, Tensor] = self.past(x, own)
            return both
        series = torch.cat([windows[0], *windows[1:, :, -slide:]], 1)
        said = self.past(series, None if own is None else own[: len(series)])
        past, chosen = (v.unfold(1, x.shape[1], slide).permute(1, 0, 3, 2).flatten(0, 1) for v in said)
        return past, chosen

    def _attend(self, rich: Tensor) -> tuple[Tensor, Tensor]:
        """Interpretable attention (section 4.4): heads have queries and keys of their own and share the values."""
        heads, leads = self.config.heads, len(self.config.leads)
        query = torch.unflatten(self.query(rich[:, -leads:]), 2, (heads, -1)).transpose(1, 2)
        key = torch.unflatten(self.key(rich), 2, (heads, -1)).permute(0, 2, 3, 1)
        scores = (query / key.shape[2] ** 0.5) @ key
        steps = rich.shape[1]
        later = (
            torch.arange(steps, device=rich.device) > torch.arange(steps - leads, steps, device=rich.device)[:, None]
        )
        weights = torch.softmax(scores.masked_fill_(later, -torch.inf), 3).mean(1)
        return self.merge(weights @ self.value(rich)), weights


class _Gate(nn.Module):
    """``LayerNorm(skip + GLU(x))``."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.gate, self.norm, self.dropout = nn.Linear(hidden, 2 * hidden), nn.LayerNorm(hidden), nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "row step hidden"], skip: Float[Tensor, "row step hidden"]
    ) -> Float[Tensor, "row step hidden"]:
        out: Tensor = self.norm(skip + F.glu(self.gate(self.dropout(x)), -1))
        return out


def _slide(windows: Tensor) -> int:
    """By how many steps each of (window, place, step, ...) goes on from the one before; 0 where they do not."""
    steps = windows.shape[2] if len(windows) > 1 else 0
    found = (n for n in range(1, steps) if torch.equal(windows[1:, :, :-n], windows[:-1, :, n:]))
    return next(found, 0)


def _rows(x: Tensor) -> Tensor:
    """(batch, step, variable, y, x) as (batch * y * x, step, variable)."""
    return x.permute(0, 3, 4, 1, 2).flatten(0, 2)


def _known(x: Tensor) -> Tensor:
    """Values (row, step, variable) with a 1 beside each: it is known."""
    return torch.stack([x, torch.ones_like(x)], 3)


build = TemporalFusion
