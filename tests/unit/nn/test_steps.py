"""Sequences of what is seen: every look once and in order, batches of one size, and the codes of where and when."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import InputError
from geoml.nn.steps import TOKENS, TokenGroups, filled, month_codes, on_sphere, packed, sequences, steps_of, with_ndvi
from geoml.nn.transformer import TransformerBlock


@given(st.integers(1, 40), st.integers(1, 9), st.integers(200, 4000), st.sampled_from([1, 4]), st.integers(0, 99))
def test_every_look_is_in_one_batch_once(rows: int, cells: int, tokens: int, multiple: int, seed: int) -> None:
    seen = torch.rand(rows, cells, generator=torch.Generator().manual_seed(seed)) < 0.5
    found: Counter[tuple[int, int]] = Counter()
    for part in packed(seen, tokens, multiple):
        length = part.cells.shape[1]
        assert len(part.rows) == max(1, TOKENS // (length * tokens))
        for k in range(part.count):
            row = int(part.rows[k])
            known = [True] * length if part.seen is None else part.seen[k].tolist()
            looks = [int(c) for c, look in zip(part.cells[k], known, strict=True) if look]
            assert looks == sorted(looks)
            assert length - len(looks) < multiple
            found.update((row, c) for c in looks)
    assert found == Counter((int(r), int(c)) for r, c in torch.nonzero(seen))


@torch.no_grad()
def test_packed_looks_say_what_a_mask_says() -> None:
    """Attention under a mask, which computes what is hidden too, as the oracle."""
    torch.manual_seed(0)
    block, x = TransformerBlock(16, 4), torch.randn(50, 6, 16)
    seen = torch.rand(50, 6) < 0.6
    masked = block(x, seen)
    for part in packed(seen, 1):
        rows = part.rows[: part.count, None]
        mine = block(x[part.rows[:, None], part.cells])[: part.count]
        torch.testing.assert_close(mine, masked[rows, part.cells[: part.count]], atol=1e-5, rtol=0)


def test_steps_come_before_bands_in_the_channels() -> None:
    x = torch.arange(2 * 6 * 2 * 3).view(2, 6, 2, 3)  # two steps of three bands
    found = sequences(x, 2)
    assert found.shape == (12, 2, 3)
    assert found[7].tolist() == [x[1, :3, 0, 1].tolist(), x[1, 3:, 0, 1].tolist()]
    assert steps_of(6, 3, 2) == 2
    for channels in (7, 9):
        with pytest.raises(InputError, match=f"channels: {channels}; expected 3 bands of 1 to 2 steps"):
            steps_of(channels, 3, 2)


def test_places_are_unit_vectors() -> None:
    lon, lat = torch.tensor([0.0, 90.0, 180.0]), torch.tensor([0.0, 0.0, 45.0])
    found = on_sphere(torch.stack([lon, lat])[None, :, None])
    half = math.sqrt(0.5)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0], [0, 1, 0], [-half, 0, half]]), atol=1e-6, rtol=0)


def test_december_lies_beside_january() -> None:
    codes = month_codes(8)
    away = torch.cdist(codes, codes)
    assert float(away[0, 11]) == pytest.approx(float(away[0, 1]))
    assert int(away[0].argmax()) == 6


def test_ndvi_stands_behind_the_bands_and_has_a_gradient_everywhere() -> None:
    x = torch.tensor([[0.1, 0.3], [0.0, 0.0], [-0.2, 0.1]], requires_grad=True)
    found = with_ndvi(x, (0, 1))
    torch.testing.assert_close(found[:, 2].detach(), torch.tensor([0.5, 0.0, 0.0]))
    found.sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert with_ndvi(x, None) is x


def test_groups_are_of_bands_that_are_there() -> None:
    assert TokenGroups(3, (), None).channels == ((0, 1, 2),)
    assert TokenGroups(3, ((0,), (1, 2)), (0, 2)).channels == ((0,), (1, 2), (3,))
    with pytest.raises(InputError, match=r"groups: .*3.*; expected positions of 3 bands"):
        TokenGroups(3, ((0, 3),), None)
    with pytest.raises(InputError, match=r"ndvi"):
        TokenGroups(3, (), (0, 3))


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_a_gap_is_the_mean_of_the_other_steps_of_its_pixel(steps: int, bands: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(2, steps * bands, 3, 2, generator=random)
    looks = torch.rand(2, steps, 3, 2, generator=random) < 0.5
    hidden = x.masked_fill(~looks.repeat_interleave(bands, 1), float("nan"))
    found = filled(hidden, looks, steps)
    for b, s, k, row, col in torch.cartesian_prod(*map(torch.arange, (2, steps, bands, 3, 2))).tolist():
        seen = [float(x[b, t * bands + k, row, col]) for t in range(steps) if looks[b, t, row, col]]
        want = float(x[b, s * bands + k, row, col]) if looks[b, s, row, col] else sum(seen) / max(len(seen), 1)
        assert float(found[b, s * bands + k, row, col]) == pytest.approx(want, abs=1e-5)
    assert filled(x, None, steps) is x
