"""What a PointNet++ refuses, and how far it says that it looks."""

from __future__ import annotations

import pytest

from geoml import models
from geoml.errors import InputError
from geoml.models.pointnet2 import Config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("classes", 1),
        ("voxel", 0.0),
        ("voxel", 0.0005),
        ("cell", 1000.0),
        ("widths", (32,)),
        ("widths", (32, 129)),
        ("openings", (2, 1)),
        ("openings", (0,)),
        ("dropout", 1.0),
    ],
)
def test_a_value_that_makes_no_network_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        models.configure("pointnet2", {"classes": 3, field: value})


def test_the_halo_grows_with_voxels_levels_and_openings() -> None:
    plain = Config(3, widths=(8, 8), openings=(1,))
    assert plain.halo == pytest.approx(plain.seen + 3, abs=0.01)
    assert Config(3, widths=(8, 8, 8), openings=(1,)).seen > plain.seen
    assert Config(3, widths=(8, 8), openings=(1,), voxel=1.0).seen == 2 * plain.seen
    assert Config(3, widths=(8, 8), openings=(1, 5)).halo > plain.halo
