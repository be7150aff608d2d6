"""Well-known binary, byte for byte that of GEOS."""

from __future__ import annotations

import numpy as np
import shapely

from geoml.io.tables import wkb
from geoml.vector.rings import Rings


def test_bytes_are_those_of_shapely() -> None:
    rng = np.random.default_rng(3)
    discs = [shapely.Point(*rng.normal(size=2)).buffer(r, quad_segs=r) for r in rng.integers(1, 9, 50).tolist()]
    hole = shapely.Point(0, 0).buffer(0.5)
    shapes = np.array([shapely.difference(d, hole) if k % 2 else d for k, d in enumerate(discs)])
    shapes = shapes[shapely.get_type_id(shapes) == shapely.GeometryType.POLYGON]
    assert {len(s.interiors) for s in shapes} == {0, 1}
    assert wkb.of_rings(Rings.of(shapes)).to_pylist() == shapely.to_wkb(shapes).tolist()
    assert wkb.of_rings(Rings.joined([])).to_pylist() == []
