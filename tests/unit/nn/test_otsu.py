"""Otsu's threshold against every split tried one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoml.errors import InputError
from geoml.nn.otsu import otsu


def brute_force(values: list[float]) -> tuple[float, float]:
    """The smallest variance within two classes (Otsu's other criterion), and the deviation of that split."""
    levels = sorted(set(values))
    x = np.array(values, np.float64)
    tried = []
    for low, high in pairwise(levels):
        below, above = x[x <= low], x[x >= high]
        tried.append((len(below) * below.var() + len(above) * above.var(), (low + high) / 2))
    return min(tried)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=40).filter(lambda v: len(set(v)) > 1))
def test_no_split_is_better(values: list[int]) -> None:
    split = otsu(torch.tensor(values, dtype=torch.float32))
    x = np.array(values, np.float64)
    least, _ = brute_force(values)
    below, above = x[x <= split.threshold], x[x > split.threshold]
    assert len(below)
    assert len(above)
    found = len(below) * below.var() + len(above) * above.var()
    assert found == pytest.approx(least, rel=1e-9, abs=1e-6)
    assert split.below == pytest.approx(below.mean())
    assert split.above == pytest.approx(above.mean())
    assert split.deviation == pytest.approx(np.sqrt(found / len(x)), abs=1e-6)


def test_two_heaps_are_parted_in_the_gap() -> None:
    split = otsu(torch.tensor([1.0, 2.0, 1.5, 10.0, 11.0]))
    assert split.threshold == 6.0
    assert (split.below, split.above) == (1.5, 10.5)


def test_an_offset_moves_the_threshold_along() -> None:
    values = torch.tensor([0.0, 1.0, 1.0, 2.0, 8.0, 9.0, 9.0], dtype=torch.float64)
    assert otsu(values + 1e8).threshold - 1e8 == pytest.approx(otsu(values).threshold)


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0, 3.0], [-0.5] * 1000])
def test_a_constant_has_nothing_above(values: list[float]) -> None:
    split = otsu(torch.tensor(values))
    assert split == (values[0], values[0], values[0], 0.0)


def test_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="no numbers"):
        otsu(torch.empty(0))
