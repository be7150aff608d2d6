"""What a forward holds at once: counted, and no more than the truth of a network that can be counted by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoml.backends._footprint import bytes_per_pixel


def test_the_most_at_once_is_counted() -> None:
    first, second = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(x: Tensor) -> Tensor:
        y = first(x).relu_()  # in place: no memory of its own
        return second(y)  # 8 and 2 channels of 4 bytes at once

    assert bytes_per_pixel(forward, torch.zeros(1, 1, 64, 64)) == (8 + 2) * 4

    def lets_go(x: Tensor) -> Tensor:
        y = second(first(x))  # the 8 channels are gone when 16 come
        return torch.cat([y] * 8, 1)

    assert bytes_per_pixel(lets_go, torch.zeros(2, 1, 64, 64)) == (2 + 16) * 4


def test_weights_in_another_precision_are_none_of_the_pixels() -> None:
    weight = torch.zeros(8, 1, 1, 1)

    def forward(x: Tensor) -> Tensor:
        other = torch.cat([weight.half()] * 1000)[:8].float()
        return torch.nn.functional.conv2d(x, other)

    assert bytes_per_pixel(forward, torch.zeros(1, 1, 64, 64)) == 8 * 4
