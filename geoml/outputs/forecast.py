"""A forecast: a COG for each lead, ``lead_PT15M``, whose bands are quantiles, or one value; and ``age`` where it is of
what was last known of each pixel.

Raw output is (B, leads * quantiles, y, x) as `geoml.nn.forecast.layout` says. What ``made`` of a card says is
`geoml.io.cards.forecast.ForecastTerms`. Metadata: https://github.com/stac-extensions/forecast (v0.2.0), whose
``datetime`` is the time that is spoken of; a lead's is that of its asset, and the block's are the first and the last.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from geoml.engine.contract import BlockPart, BlockRun, FinishedRun, Layer, Rows
from geoml.engine.stored import BROKEN, LARGEST, NODATA, stored
from geoml.errors import InputError
from geoml.io.cards.forecast import ForecastTerms, spelled
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.each_band import of_each
from geoml.io.stac.step_times import reference_of
from geoml.io.stac.times import rfc3339
from geoml.recipe import PredictRecipe, parse

if TYPE_CHECKING:
    from torch import Tensor

    from geoml.outputs._forecast_report import ForecastReport

AGE = "age"
"""Of what was last known: file and asset."""

TINY: Final[Mapping[str, object]] = {
    "task": "grid_forecast",
    "channels": 6,
    "dates": 2,
    "made": {
        "variable": "rain", "unit": "mm/h", "step": "PT5M", "history": 2, "leads": ["PT5M", "PT15M"],
        "quantiles": [0.1, 0.5, 0.9], "dtype": "int16",
    },
}  # fmt: skip
"""Arguments of `geoml.testing.card`, for the contract tests."""


@dataclass(frozen=True)
class Output:
    """One COG for each lead."""

    card: MapCard
    recipe: PredictRecipe | None = None

    joiner: ClassVar[Literal["pixels"]] = "pixels"
    changes: ClassVar[bool] = False
    tables: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        _ = self.terms

    @cached_property
    def terms(self) -> ForecastTerms:
        return parse(ForecastTerms, dict(self.card.made), f"{self.card.name}: made")

    @property
    def raw(self) -> int:
        return self.terms.raw

    @property
    def channels(self) -> int:
        return self.raw

    @property
    def about(self) -> str:
        return f"{self.terms.variable} at each lead"

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        leads = tuple(self._layer(lead) for lead in self.terms.written)
        return (*leads, self._age()) if self.terms.latest else leads

    def _age(self) -> Layer:
        """How old what was last known is; where it is nodata, nothing was known, and nothing is said."""
        days = self.terms.step / dt.timedelta(days=1)
        said = "age of the last known value at the reference time"
        return Layer(key=AGE, title=said, dtype="int16", nodata=NODATA["int16"], scale=days, unit="d", description=said)

    def _layer(self, lead: dt.timedelta) -> Layer:
        terms, text = self.terms, spelled(lead)
        names = tuple(f"q{round(100 * q):02d}" for q in terms.quantiles) or ("value",)
        of = terms.standard_name or terms.variable
        fields: dict[str, object] = {}
        if self.recipe is not None:
            reference = reference_of(terms, self.recipe.query.datetime[-1])
            fields = {
                "datetime": rfc3339(reference + lead),
                "forecast:reference_datetime": rfc3339(reference),
                "forecast:horizon": text,
                "forecast:variable": of,
                **({"forecast:duration": spelled(terms.step)} if terms.accumulated else {}),
            }
        return Layer(
            key=f"lead_{text}",
            title=f"{terms.variable} {text} ahead",
            dtype=terms.dtype,
            nodata=NODATA[terms.dtype],
            bands=names,
            descriptions=tuple(f"{terms.variable} {n}" for n in names),
            scale=terms.resolution if terms.dtype == "int16" else 1.0,
            unit=terms.unit,
            description=of,
            fields=fields,
        )

    # on the device

    def average(self, raw: Tensor) -> Tensor:
        """(B, leads * quantiles, y, x) float32 in the unit; what nothing is said of stays below ``SAID``."""
        import torch

        from geoml.nn.forecast.layout import SAID, UNKNOWN

        terms, band = self.terms, self.card.bands[0]
        said = len(terms.leads) * terms.values
        raw, age = raw[:, :said].float(), raw[:, said:].float()
        values = (raw * band.std).add_(band.mean)
        if terms.offsets:
            values += torch.tensor(terms.offsets, device=raw.device).flatten()[:, None, None]
            levels = torch.unflatten(values, 1, (len(terms.leads), -1)).unbind(2)
            for below, level in pairwise(levels):  # cummax takes five times as long, and indices with it
                torch.maximum(below, level, out=level)
        if terms.transform == "log":
            values.exp2_().sub_(1).mul_(terms.faint)
        if terms.floor is not None:
            values.clamp_(min=terms.floor)
        values.masked_fill_(raw <= SAID, UNKNOWN)
        return torch.cat([values, age], 1) if terms.latest else values

    def encode(self, averaged: Tensor) -> list[Tensor]:
        """Of each lead (B, quantiles, y, x), and (B, 1, y, x) of the age where there is one."""
        import torch

        from geoml.nn.forecast.layout import SAID

        said = len(self.terms.leads) * self.terms.values
        averaged, age = averaged[:, :said], averaged[:, said:]
        ages = torch.where(age <= SAID, NODATA["int16"], age.round()).to(torch.int16)
        nodata, silent = NODATA[self.terms.dtype], averaged <= SAID
        if self.terms.dtype == "float32":
            values = torch.where(silent, nodata, averaged)
        else:
            steps = (averaged / self.terms.resolution).round_().clamp_(-LARGEST, LARGEST)
            steps.masked_fill_(~torch.isfinite(averaged), float(BROKEN))
            values = steps.masked_fill_(silent, nodata).to(torch.int16)
        each = dict(zip(self.terms.leads, values.chunk(len(self.terms.leads), 1), strict=True))
        return [each[lead] for lead in self.terms.written] + [ages] * self.terms.latest

    def encode_raw(self, raw: Tensor) -> list[Tensor]:
        """As `encode`."""
        return self.encode(self.average(raw))

    # on the host

    def stored(self, encoded: Sequence[NDArray[np.number]], known: NDArray[np.bool_]) -> dict[str, NDArray[np.number]]:
        """As `geoml.engine.contract.PixelOutput.stored`."""
        return stored(self.layers, encoded, known)

    def answer(self, rows: Rows) -> tuple[NDArray[np.number], ...]:
        """Of each lead and quantile (y, x) float32 in the unit, and the age in days; NaN where nothing is said."""
        found: list[NDArray[np.number]] = []
        for layer in self.layers:
            a = rows[layer.key]
            unknown = a == np.asarray(layer.nodata, a.dtype)
            values = np.multiply(a, of_each(layer.scale, 1)[0], dtype=np.float32, casting="unsafe")
            found += list(np.where(unknown, np.float32(np.nan), values))
        return tuple(found)

    # the run

    def part(self, run: BlockRun) -> BlockPart:
        """None is asked for, since there are no tables."""
        raise InputError(f"{self.card.name}: a forecast on a grid has no part of a block")

    def collect(self, run: FinishedRun) -> None:
        """Nothing is left to be put together."""

    def follower(self) -> None:
        """Nothing keeps its id."""

    def report(self, out: Path) -> ForecastReport:
        """Maps of some leads, the fan of all, and what is known of its skill."""
        from geoml.outputs._forecast_report import ForecastReport

        return ForecastReport(self.terms, self.layers, self.card.scores)
