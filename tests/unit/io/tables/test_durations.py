"""Durations as ISO 8601 writes them."""

from __future__ import annotations

import pytest

from geoml.errors import InputError
from geoml.io.tables.durations import StepDuration


@pytest.mark.parametrize(
    ("text", "seconds", "months"),
    [("PT5M", 300, 0), ("P1DT12H", 129_600, 0), ("P1W", 604_800, 0), ("P1M", 0, 1), ("P1Y", 0, 12)],
)
def test_seconds_or_months(text: str, seconds: int, months: int) -> None:
    assert StepDuration.parse(text) == StepDuration(months, seconds)
    assert StepDuration.parse(str(StepDuration(months, seconds))) == StepDuration(months, seconds)


@pytest.mark.parametrize("text", ["", "P", "PT", "5M", "P1M1D", "PT0S", "P-1D", "5 minutes"])
def test_other_texts_are_refused_by_field(text: str) -> None:
    with pytest.raises(InputError, match=r"step: .*expected an ISO 8601 duration"):
        StepDuration.parse(text, "step")


def test_a_lead_is_a_whole_number_of_steps() -> None:
    step = StepDuration.parse("PT5M")
    assert StepDuration.parse("PT1H").steps(step) == 12
    with pytest.raises(InputError, match="multiple of the step, which is PT5M"):
        StepDuration.parse("PT7M").steps(step)
