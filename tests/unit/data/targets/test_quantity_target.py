from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from geoml.data.labels import VectorLabels, features, read_polygons
from geoml.data.target import d4
from geoml.data.targets.quantity import QuantityTarget
from geoml.errors import InputError
from geoml.grid.plane import Window

HEIGHT = QuantityTarget(0.5)


def test_features_without_a_number_are_not_known(tmp_path):
    shapes = [box(2 * k, 0, 2 * k + 2, 4) for k in range(3)]
    frame = gpd.GeoDataFrame({"h": [4.25, None, 7.0]}, geometry=shapes, crs="EPSG:32621")
    frame.to_file(tmp_path / "h.gpkg")
    read = read_polygons(VectorLabels(file=str(tmp_path / "h.gpkg"), field="h"), HEIGHT)
    geobox = GeoBox((4, 8), Affine(1, 0, 0, 0, -1, 4), "EPSG:32621")
    found = HEIGHT.of_features(features(read), geobox)
    np.testing.assert_array_equal(found[0], np.float32([4.25, 4.25, np.nan, np.nan, 7, 7, np.nan, np.nan]))
    assert HEIGHT.of_features(features(read), geobox, 0.0)[0, 7] == 0
    frame["h"] = ["tall", "low", "3"]
    frame.to_file(tmp_path / "h.gpkg")
    with pytest.raises(InputError, match=r"'low', 'tall' in 'h' .* expected numbers"):
        read_polygons(VectorLabels(file=str(tmp_path / "h.gpkg"), field="h"), HEIGHT)


def test_a_raster_is_taken_as_it_is_but_for_what_is_ignored():
    values = np.array([[1.5, -9.0], [2.0, 3.0]])
    known = np.array([[True, True], [True, False]])
    found = HEIGHT.of_raster(values, known, "f", {2: 20}, (-9,))
    np.testing.assert_array_equal(found, np.float32([[1.5, np.nan], [20, np.nan]]))


def test_it_goes_with_its_image_and_is_unknown_outside():
    target = np.arange(16, dtype=np.float32).reshape(4, 4)
    cut = HEIGHT.cut(target, Window(-1, 2, 3, 6), Window(0, 0, 4, 3))
    np.testing.assert_array_equal(cut[1:, 0], [2, 6, 10])
    assert np.isnan(cut[0]).all()
    assert np.isnan(cut[:, 1:]).all()
    np.testing.assert_array_equal(HEIGHT.turned(target, 5, 4), d4(target, 5))
    known = HEIGHT.only(target, target > 3)
    assert HEIGHT.known(known).sum() == 12
    assert HEIGHT.filled(known, -1)[0].tolist() == [-1] * 4
    assert target[0, 1] == 1, "the scene is left as it is"


def test_statistics_are_those_of_all_pieces():
    parts = [np.float32([[1, 2, np.nan]]), np.float32([[2, 7, 7]])]
    found = HEIGHT.summary(np.sum([HEIGHT.counted(p) for p in parts], axis=0))
    values = np.array([1, 2, 2, 7, 7])
    assert found == pytest.approx(
        {"pixels": 5, "mean": values.mean(), "std": values.std(), "median": 2, "minimum": 1, "maximum": 7}
    )
    with pytest.raises(InputError, match="not a single pixel"):
        HEIGHT.summary(HEIGHT.counted(np.float32([[np.nan]])))
    with pytest.raises(InputError, match=r"step: 0\.5; expected a larger one"):
        HEIGHT.summary(HEIGHT.counted(np.float32([[1e6]])))


def test_places_are_known_pixels_by_size_of_the_value():
    target = np.float32([[np.nan, 0.2, 60], [61, -60, np.nan]])
    found = HEIGHT.places(target)
    assert len(found) == 3
    assert sorted(len(v) for v in found.values()) == [1, 1, 2]
    assert HEIGHT.places(np.float32([[np.nan]])) == {}
