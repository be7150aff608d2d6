from __future__ import annotations

import json

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box

from geoml.data.labels import VectorLabels, discs, read_points, read_polygons
from geoml.data.targets.classes import ClassTarget
from geoml.errors import DataError, InputError
from geoml.io.cards.map_card import ClassInfo
from geoml.nn.metrics import IGNORE

CLASSES = ClassTarget(
    (ClassInfo(value=3, name="water", color="#0000ff"), ClassInfo(value=7, name="crop", color="#00ff00"))
)
burn = CLASSES.of_features


def geobox(h=20, w=30, res=2.0):
    return GeoBox((h, w), Affine(res, 0, 1000, 0, -res, 5000), "EPSG:32621")


def world(box_, cols, rows):
    a = box_.affine
    return a.c + a.a * np.asarray(cols), a.f + a.e * np.asarray(rows)


def centres(box_):
    h, w = box_.shape
    return world(box_, *np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5))


# vertices at thirds of a pixel can not lie on a centre (halves), where the rule would be a matter of taste
vertex = st.tuples(st.integers(-10, 100), st.integers(-10, 70)).map(
    lambda p: (1000 + p[0] * 2 / 3, 5000 - p[1] * 2 / 3)
)


@given(st.lists(vertex, min_size=3, max_size=7))
@settings(max_examples=60, deadline=None)
def test_a_pixel_belongs_to_a_polygon_when_its_centre_does(points):
    polygon = shapely.make_valid(Polygon(points))
    parts = [g for g in shapely.get_parts(polygon) if g.geom_type == "Polygon" and g.area > 0]
    polygon = MultiPolygon(parts)
    x, y = centres(geobox())
    inside = shapely.contains_xy(polygon, x, y)
    near = shapely.distance(shapely.points(x, y), polygon.boundary) < 1e-9  # exactly on a slanted edge
    found = burn([(polygon, 1)], geobox())
    assert ((found == 1) == inside)[~near].all()


def test_later_polygons_win_and_the_rest_is_unknown():
    a, b = box(1000, 4990, 1010, 5000), box(1004, 4990, 1020, 5000)
    found = burn([(a, 0), (b, 1)], geobox())
    assert found[0, 0] == 0
    assert found[0, 3] == 1
    assert found[-1, -1] == IGNORE


def test_no_polygon_at_all():
    assert (burn([], geobox(), 2) == 2).all()


@given(
    st.lists(st.tuples(st.floats(-5, 35), st.floats(-5, 25)), max_size=6),
    st.floats(0.3, 9.0),
)
@settings(max_examples=60, deadline=None)
def test_discs_hold_the_centres_within_the_radius(points, radius):
    xy = np.array(points, float).reshape(-1, 2)
    cols, rows = np.meshgrid(np.arange(30) + 0.5, np.arange(20) + 0.5)
    distance = np.full((20, 30), np.inf)
    for x, y in xy:
        distance = np.minimum(distance, np.hypot(cols - x, rows - y))
    found = discs(xy, (20, 30), radius)
    clear = abs(distance - radius) > 1e-9
    assert (found == (distance <= radius))[clear].all()


def test_points_of_csv_and_geojson_agree(tmp_path):
    place = geobox()
    pixels = np.array([[0.5, 0.5], [12.5, 3.5], [29.5, 19.5]])
    csv = tmp_path / "p.csv"
    csv.write_text("x,y\n" + "\n".join(f"{int(x)},{int(y)}" for x, y in pixels) + "\n")
    x, y = world(place, *pixels.T)
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": xy}}
        for xy in zip(x, y, strict=True)
    ]
    (tmp_path / "p.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    np.testing.assert_allclose(read_points(csv, None), pixels)
    np.testing.assert_allclose(read_points(tmp_path / "p.json", place), pixels, atol=1e-6)


def test_points_in_the_crs_that_the_file_names(tmp_path):
    place = geobox()
    x, y = world(place, 12.5, 3.5)
    point = gpd.GeoSeries([Point(x, y)], crs=32621).to_crs(4326).iloc[0]
    value = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}},
        "features": [{"type": "Feature", "geometry": {"type": "Point", "coordinates": [point.x, point.y]}}],
    }
    (tmp_path / "p.json").write_text(json.dumps(value))
    np.testing.assert_allclose(read_points(tmp_path / "p.json", place), [[12.5, 3.5]], atol=1e-4)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "x,y\n1\n", "x,y\none,two\n"])
def test_broken_points_name_the_file(tmp_path, text):
    (tmp_path / "broken.csv").write_text(text)
    with pytest.raises(DataError, match=r"broken\.csv"):
        read_points(tmp_path / "broken.csv", None)


def vectors(tmp_path, values, geometry=None, column="kind"):
    shapes = geometry or [box(i, 0, i + 1, 1) for i in range(len(values))]
    path = tmp_path / "v.geojson"
    gpd.GeoDataFrame({column: values}, geometry=shapes, crs=4326).to_file(path, driver="GeoJSON")
    return str(path)


@pytest.mark.parametrize("values", [["water", "crop"], ["3", "7"], [3, 7], [3.0, 7.0]])
def test_a_field_holds_names_or_values(tmp_path, values):
    spec = VectorLabels(file=vectors(tmp_path, values), field="kind")
    assert read_polygons(spec, CLASSES)["label"].tolist() == [0, 1]


def test_values_map_text(tmp_path):
    spec = VectorLabels(file=vectors(tmp_path, ["agua", "soja"]), field="kind", values={"agua": 3, "soja": 7})
    assert read_polygons(spec, CLASSES)["label"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"field": "class"}, "it has"),
        ({"field": "kind"}, "no class .*map them"),
        ({"field": None, "value": 9}, r"value 9 is not a class"),
    ],
)
def test_labels_that_the_recipe_does_not_explain(tmp_path, spec, says):
    with pytest.raises(InputError, match=says):
        read_polygons(VectorLabels(file=vectors(tmp_path, ["x", "y"]), **spec), CLASSES)


def test_points_and_lines_need_a_buffer(tmp_path):
    file = vectors(tmp_path, ["water", "crop"], [Point(10, 1), LineString([(10, 2), (10, 3)])])
    with pytest.raises(InputError, match="buffer"):
        read_polygons(VectorLabels(file=file, field="kind"), CLASSES)
    found = read_polygons(VectorLabels(file=file, field="kind", buffer=20), CLASSES)
    area = found.to_crs(found.estimate_utm_crs()).area
    assert area.iloc[0] == pytest.approx(np.pi * 400, rel=0.02)


def test_a_buffer_is_in_metres_wherever_a_label_lies(tmp_path):
    """Labels of all continents may stand in one file, which no single plane shows at scale."""
    places = [Point(-70, 0), Point(0, 45), Point(80, -50), LineString([(140, 10), (140, 11)])]
    file = vectors(tmp_path, ["water"] * 4, places)
    found = read_polygons(VectorLabels(file=file, field="kind", buffer=1000), CLASSES)
    area = [found.crs.get_geod().geometry_area_perimeter(shapely.orient_polygons(g))[0] for g in found.geometry]
    assert area[:3] == pytest.approx([np.pi * 1e6] * 3, rel=0.01)
    length = found.crs.get_geod().geometry_length(places[3])
    assert area[3] == pytest.approx(length * 2000 + np.pi * 1e6, rel=0.01)


def test_an_unreadable_file_is_a_data_error(tmp_path):
    (tmp_path / "x.geojson").write_text("{")
    with pytest.raises(DataError, match=r"x\.geojson"):
        read_polygons(VectorLabels(file=str(tmp_path / "x.geojson")), CLASSES)
