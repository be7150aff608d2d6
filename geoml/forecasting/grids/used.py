"""The steps of a cube that cycles can use: which reference times there are, and of what values each is."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from geoml.engine.packages import cards
from geoml.errors import InputError
from geoml.forecasting.grids.frames import CubeFrames
from geoml.forecasting.grids.run import HISTORY, SIMPLE, source_asked
from geoml.forecasting.recipe import CycleRecipe
from geoml.io.cards.forecast import ForecastTerms, period
from geoml.io.cards.map_card import MapCard
from geoml.io.cubes.cube import Cube
from geoml.io.cubes.spec import CubeSpec, load_cube_spec
from geoml.io.cubes.usable import Hashes, usable_frames
from geoml.io.tables.durations import StepDuration
from geoml.recipe import digest, parse


class UsedSteps:
    """See `geoml.forecasting.cycles.look.Used`; it is read when it is made, see `usable_frames` for what is raised."""

    def __init__(
        self, asked: CycleRecipe, until: dt.datetime, last: dt.datetime | None, back: StepDuration, hashes: Hashes
    ) -> None:
        card = None if asked.model in SIMPLE else cards.read(asked.model, MapCard)
        self.sha256 = "" if card is None else card.sha256
        source = source_asked(asked, card)
        spec = load_cube_spec(source.cube)
        if not spec.duration.seconds:
            raise InputError(f"cube: steps of {spec.step}; grids are forecast in steps of seconds to days")
        step = dt.timedelta(seconds=spec.duration.seconds)
        terms = None if card is None else parse(ForecastTerms, dict(card.made), f"{card.name}: made")
        self.history = HISTORY if terms is None else terms.history
        leads = [period(text) for text in asked.leads] or ([] if terms is None else list(terms.leads))
        self.longest = max(leads, default=step)
        days = dt.timedelta(days=-(-self.longest // dt.timedelta(days=1))) if terms and terms.background else step
        before = max((self.history + 1) * step, days + step)

        begun = []

        def begin(newest: int) -> int:
            first = back.before(dt.datetime.fromtimestamp(newest, dt.UTC))
            begun.append(min(filter(None, (first, last))))
            return int((begun[-1] - before).timestamp())

        self.frames = usable_frames(str(asked.cube), spec, source.factor, until, begin, hashes)
        self.left_out = self.frames.left_out
        self.steps = CubeFrames(self.frames.open())
        self._pixels = dict(zip(self.steps.numbers.tolist(), self.frames.pixels.values(), strict=True))
        times = [self.steps.time(n) for n in self._pixels]
        self.newest = times[-1]
        self.references = tuple(time for time in times if time >= max(begun))  # whose history was read too

    def number(self, time: dt.datetime) -> int:
        return self.steps.number(time)

    def used(self, reference: dt.datetime) -> str:
        return digest([[self.steps.seconds_of(n), pixels] for n, pixels in self._history(reference).items()])

    def pixels(self, reference: dt.datetime) -> list[str]:
        """The hash of each step of the history that is there."""
        return list(self._history(reference).values())

    def _history(self, reference: dt.datetime) -> dict[int, str]:
        last = self.steps.number(reference)
        return {n: self._pixels[n] for n in range(last - self.history + 1, last + 1) if n in self._pixels}

    def at(self, time: dt.datetime) -> str | None:
        return self._pixels.get(self.steps.number(time))

    def missing(self, reference: dt.datetime) -> list[dt.datetime]:
        """Steps of the history that are not there."""
        last = self.steps.number(reference)
        return [self.steps.time(n) for n in range(last - self.history + 1, last) if n not in self._pixels]

    def open(self, source: Path, spec: CubeSpec, factor: int, until: dt.datetime | None = None) -> Cube:
        """These frames, in place of `geoml.io.cubes.cube.open_cube`."""
        return self.frames.open(until)
