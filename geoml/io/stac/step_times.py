"""The ``datetime`` by which a run asks for the steps of a forecast, and the reference time that the last one means."""

from __future__ import annotations

import datetime as dt

from geoml.io.cards.forecast import ForecastTerms
from geoml.io.stac.query import middle
from geoml.io.stac.times import instant, rfc3339

SECOND = dt.timedelta(seconds=1)


def steps_of(terms: ForecastTerms, reference: dt.datetime) -> list[str]:
    """The ``datetime`` of the steps up to a reference time, RFC 3339: of a step of a period the middle of it, so that
    an item that has its start and end belongs to one step alone. Where the model sees what was last known, a step is
    all of the time from the one before, since dates of what is seen between clouds keep to no clock."""
    if terms.latest:
        ends = [reference - n * terms.step for n in range(terms.history - 1, -1, -1)]
        return [f"{rfc3339(end - terms.step + SECOND)}/{rfc3339(end)}" for end in ends]
    return [rfc3339(reference - n * terms.step - _half(terms)) for n in range(terms.history - 1, -1, -1)]


def reference_of(terms: ForecastTerms, last: str) -> dt.datetime:
    """The reference time, of the ``datetime`` of the last step."""
    if terms.latest:
        return instant(last.rpartition("/")[2])
    return middle(last) + _half(terms)


def _half(terms: ForecastTerms) -> dt.timedelta:
    return terms.step / 2 if terms.accumulated else dt.timedelta(0)
