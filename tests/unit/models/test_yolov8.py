"""YOLOv8 is the network of its figure: as many parameters as are published."""

from __future__ import annotations

import pytest

from geoml import models
from geoml.errors import InputError


@pytest.mark.parametrize(("size", "parameters"), [("n", 3_157_200), ("s", 11_166_560)])
def test_has_the_parameters_that_are_published_for_80_classes(size: str, parameters: int) -> None:
    """https://arxiv.org/abs/2304.00501 has 3.2 and 11.2 million; 16 of them are the fixed steps of a distribution."""
    module = models.build("yolov8", {"bands": 3, "classes": 84, "size": size})
    assert sum(p.numel() for p in module.parameters()) == parameters - 16


@pytest.mark.parametrize("strides", [[8, 32], [16, 8], [2, 4], []])
def test_refuses_strides_that_do_not_follow_each_other(strides: list[int]) -> None:
    with pytest.raises(InputError, match="strides"):
        models.build("yolov8", {"bands": 3, "classes": 5, "strides": strides})
