"""A comparison that something else than PyTorch has to pass."""

from __future__ import annotations

import pytest
import torch

from geoml.backends._proof import Distance, cut, distance, doubt, made_inputs, of_features, worst

EXACT = torch.randn(1, 3, 200, 200, generator=torch.Generator().manual_seed(0))
SAME = distance(EXACT.clone(), EXACT)


def test_the_same_has_no_distance() -> None:
    assert Distance(1.0, 1.0, 0.0, 0.0) == SAME
    assert doubt("fp32", SAME, SAME) == ""


def test_sums_in_another_order_pass_and_a_shift_by_a_pixel_does_not() -> None:
    noise = 1e-6 * torch.randn(EXACT.shape, generator=torch.Generator().manual_seed(1))
    assert doubt("fp32", distance(EXACT + noise, EXACT), SAME) == ""
    assert "of the classes" in doubt("fp32", distance(EXACT.roll(1, -1), EXACT), SAME)


def test_one_class_of_ten_thousand_may_differ() -> None:
    other = EXACT.clone()
    other[0, :, 0, :4] = other[0, :, 0, :4].flip(0)
    assert distance(other, EXACT).equal >= 1 - 4 / 40_000
    assert doubt("fp32", distance(other, EXACT), SAME) == ""
    other[0, :, :3] = other[0, :, :3].flip(0)
    assert doubt("fp32", distance(other, EXACT), SAME) != ""


def test_equal_classes_of_other_values_do_not_pass() -> None:
    assert "of the values" in doubt("fp32", distance(EXACT * 1.1, EXACT), SAME)
    one = EXACT[:, :1]
    assert "of the values" in doubt("fp32", distance(one * 1.1, one), SAME)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_does_not_pass(value: float) -> None:
    assert doubt("fp32", distance(torch.full_like(EXACT, value), EXACT), SAME) != ""
    assert doubt("bf16", distance(torch.full_like(EXACT, value), EXACT), SAME) != ""


def test_infinity_where_torch_has_it_is_the_same() -> None:
    exact = EXACT.clone()
    exact[0, 0, 0, 0] = -torch.inf
    assert distance(exact.clone(), exact).largest == 0


def test_another_shape_does_not_pass() -> None:
    assert doubt("fp32", distance(EXACT[..., :-1], EXACT), SAME) != ""


def test_in_bf16_it_may_be_as_coarse_as_torch_and_not_much_more() -> None:
    def rounded(scale: float, seed: int) -> Distance:
        noise = torch.randn(EXACT.shape, generator=torch.Generator().manual_seed(seed))
        return distance(EXACT + scale * noise, EXACT)

    own = rounded(0.01, 1)
    assert doubt("bf16", rounded(0.01, 2), own) == ""
    assert doubt("bf16", SAME, own) == ""
    assert doubt("bf16", rounded(0.1, 2), own) != ""
    assert doubt("bf16", distance(EXACT.roll(1, -1), EXACT), own) != ""


def test_features_are_held_against_the_distance_of_two_images() -> None:
    """Two images whose features hardly differ: what is near each of them may be the other one."""
    random = torch.Generator().manual_seed(0)
    common = torch.randn(1, 64, generator=random)
    exact = [common + 1e-3 * torch.randn(1, 64, generator=random) for _ in range(2)]
    said, why = of_features("fp32", [x + 1e-7 for x in exact], exact, exact)
    assert why == ""
    assert 0 < said["distance"] < 1e-3
    said, why = of_features("fp32", exact[::-1], exact, exact)
    assert said["distance"] == pytest.approx(1)
    assert "100.00% of the distance of two images" in why
    for wrong in ([x[:, 1:] for x in exact], [x + torch.nan for x in exact]):
        assert of_features("fp32", wrong, exact, exact)[1] != ""


def test_features_in_bf16_may_be_as_coarse_as_those_of_torch() -> None:
    random = torch.Generator().manual_seed(0)
    exact = [torch.randn(1, 64, generator=random) for _ in range(2)]
    usual, found = ([x + 0.01 * torch.randn(1, 64, generator=random) for x in exact] for _ in range(2))
    assert of_features("bf16", found, usual, exact)[1] == ""
    assert of_features("fp32", found, usual, exact)[1] != ""
    assert of_features("bf16", [x.roll(1, 1) for x in exact], usual, exact)[1] != ""


def test_the_worst_of_several_counts() -> None:
    assert worst([SAME, Distance(0.5, 0.9, 0.1, 0.2)]) == Distance(0.5, 0.9, 0.1, 0.2)


def test_made_inputs_have_the_shapes_and_are_cut_where_they_have_pixels() -> None:
    shapes = {"x": (1, 4, 40, 72), "looks": (1, 2, 40, 72), "months": (1, 2), "place": (1, 2, 40, 72)}
    made = made_inputs(shapes, 1)
    assert {k: tuple(v.shape) for k, v in made.items()} == shapes
    assert made["looks"].dtype == torch.bool
    assert made["months"].max() < 12
    assert torch.equal(made["x"], made_inputs(shapes, 1)["x"])
    small = cut(made, 33, 70)
    assert small["place"].shape == (1, 2, 33, 70)
    assert small["months"].shape == (1, 2)
