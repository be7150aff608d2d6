"""Feature layers of ArcGIS come whole, with names for codes, or not at all; the oracle of the server is GDAL."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from geoml.data import label_file
from geoml.data.labels import VectorLabels, read_polygons
from geoml.data.targets.classes import ClassTarget
from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io.arcgis import service as arcgis_service
from geoml.io.arcgis.service import ArcGIS
from geoml.io.cards.map_card import ClassInfo
from geoml.io.stores import signed
from geoml.io.tables import vectors
from geoml.io.tables.regions import load_region
from tests.arcgis_server import NAMES, ArcGISServer, FeatureLayer, serve
from tests.serving import serving

SHAPES = [shapely.box(14 + k / 10, 46, 14.08 + k / 10, 46.08) for k in range(8)]
HOLE = shapely.box(14.02, 46.02, 14.04, 46.04)


def frame() -> gpd.GeoDataFrame:
    shapes = [SHAPES[0].difference(HOLE), shapely.MultiPolygon(SHAPES[1:3]), *SHAPES[3:]]
    codes = [1 + k % 3 for k in range(len(shapes))]
    return gpd.GeoDataFrame({"cover": codes}, geometry=shapes, crs="EPSG:4326")


@pytest.fixture
def server() -> Iterator[ArcGISServer]:
    with serve(Land=FeatureLayer(frame())) as here:
        yield here


@pytest.fixture
def url(server: ArcGISServer) -> str:
    return f"{server.url}/Land/FeatureServer/0"


def same(found: gpd.GeoDataFrame) -> None:
    """All features once, in their place."""
    assert found.crs == "EPSG:3857"
    assert found["OBJECTID"].tolist() == [1, 11, 21, 31, 41, 51, 61]
    apart = shapely.area(shapely.symmetric_difference(found.geometry.to_crs(4326).to_numpy(), frame().geometry))
    assert apart.max() < 1e-12


def test_all_pages_come_with_names_for_codes(url: str) -> None:
    found = vectors.read(url)
    same(found)
    assert found["cover"].tolist() == [NAMES[c] for c in frame()["cover"]]
    assert str(found["seen"][0]) == "2024-06-01 00:00:00+00:00"


def test_gdal_reads_the_same_from_this_server(url: str, tmp_path: Path) -> None:
    """By its own paging, and with codes; in another process, since it holds this one while it waits."""
    asked = "where=1%3D1&outFields=*&f=json&resultRecordCount=3&orderByFields=OBJECTID"
    code = "import pyogrio, sys; pyogrio.read_dataframe(sys.argv[1]).to_parquet(sys.argv[2])"
    words = [sys.executable, "-c", code, f"ESRIJSON:{url}/query?{asked}", str(tmp_path / "a.parquet")]
    subprocess.run(words, check=True, timeout=60)
    found = gpd.read_parquet(tmp_path / "a.parquet")
    same(found)
    assert found["cover"].tolist() == frame()["cover"].tolist()


def test_subtypes_have_names_of_their_own(server: ArcGISServer, url: str) -> None:
    about = server.services["/Land/FeatureServer/0"].about
    spring = {"type": "codedValue", "name": "s", "codedValues": [{"name": "in spring", "code": 2}]}
    about["fields"] = [f | ({"domain": None} if f["name"] == "cover" else {}) for f in about["fields"]]
    about |= {"typeIdField": "cover", "types": [
        {"id": 1, "name": "Wood", "domains": {}}, {"id": 2, "name": "Field", "domains": {"cover": spring}},
    ]}  # fmt: skip
    assert vectors.read(url)["cover"].tolist()[:3] == ["Wood", "in spring", "3"]


def test_types_add_names_to_those_of_a_domain(server: ArcGISServer, url: str) -> None:
    types = [{"id": 2, "name": "Field", "domains": {}}]
    server.services["/Land/FeatureServer/0"].about |= {"typeIdField": "cover", "types": types}
    assert vectors.read(url)["cover"].tolist()[:3] == ["wood", "Field", "town"]


def test_a_range_that_is_too_large_is_halved(server: ArcGISServer, url: str) -> None:
    server.trick = "heavy"
    same(vectors.read(url))


def test_a_range_of_too_many_bytes_is_halved(server: ArcGISServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = server.services["/Land/FeatureServer/0"]
    layer.about["maxRecordCount"] = 1000
    asked = {"where": "OBJECTID >= 0 AND OBJECTID <= 100"}
    monkeypatch.setattr(arcgis_service, "LARGEST", len(json.dumps(layer.query(asked, ""))) - 1)
    same(vectors.read(url))
    monkeypatch.setattr(arcgis_service, "LARGEST", len(json.dumps(layer.about)))
    layer.rows[0]["attributes"]["note"] = "long " * 1000
    with pytest.raises(DataError, match=r"query: more than \d+ bytes"):
        vectors.read(url)


def test_an_answer_that_is_cut_and_does_not_say_so_is_refused(server: ArcGISServer, url: str) -> None:
    server.trick = "silent"
    with pytest.raises(DataError, match=r"Land/FeatureServer/0: 2 of 3 features came"):
        vectors.read(url)


def test_a_server_that_fails_is_asked_again(server: ArcGISServer, url: str, machine: Callable[..., None]) -> None:
    machine(retries=1)
    server.faults = [500]
    same(vectors.read(url))
    server.faults = [504, 504]
    with pytest.raises(TransientError, match="the server fails"):
        vectors.read(url)


def test_a_token_is_sent_and_never_shown(
    server: ArcGISServer, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(signed, "_remembered", {})
    server.token = "S3CRET"
    with pytest.raises(InputError, match=r"^region: .*/Land/FeatureServer/0: access refused \(499 Token Required\)"):
        load_region(url)
    with pytest.raises(InputError, match=r"access refused \(498 Invalid token TOKEN"):
        load_region(f"{url}?token=OTHER")
    apart = load_region(f"{url}?token=S3CRET").symmetric_difference(shapely.union_all(frame().geometry))
    assert apart.area < 1e-9
    assert "S3CRET" not in caplog.text
    assert VectorLabels(file=f"{url}?token=S3CRET").model_dump(mode="json")["file"] == url


@pytest.mark.parametrize("words", [b'{"error": {"code": 498, "message": "Invalid token %s."}}', b"<p>No token %s</p>"])
def test_a_token_is_hidden_before_the_servers_words_are_cut(words: bytes) -> None:
    token = "S3CRET-" * 43
    service = ArcGIS.at(f"https://gis.example/Land/FeatureServer/0?token={token}", "labels")
    with pytest.raises(GeomlError, match="oken TOKEN") as caught:
        service.parsed(words % token.encode())
    assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("tail", "says"),
    [
        ("/Land/FeatureServer", "labels: .* is no layer; expected its number, such as …/FeatureServer/0"),
        ("/Land/FeatureServer/0/query?where=1=1&f=json", "labels: .* with where, f; expected the URL alone"),
        ("/Other/FeatureServer/0", r"labels: .* the server refuses the request \(404 Service not found\)"),
    ],
)
def test_other_urls_are_refused(server: ArcGISServer, tail: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        vectors.read(f"{server.url}{tail}")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"type": "Table", "geometryType": None}, "is a Table without geometries"),
        ({"capabilities": "Map"}, "cannot be queried"),
    ],
)
def test_layers_without_features_are_refused(
    server: ArcGISServer, url: str, said: dict[str, object], says: str
) -> None:
    server.services["/Land/FeatureServer/0"].about |= said
    with pytest.raises(InputError, match=says):
        vectors.read(url)


@pytest.mark.parametrize("said", [{"fields": None}, {"fields": [{"name": 3}]}, {"maxRecordCount": "many"}])
def test_an_answer_of_another_form_is_a_data_error(server: ArcGISServer, url: str, said: dict[str, object]) -> None:
    server.services["/Land/FeatureServer/0"].about |= said
    with pytest.raises(DataError, match="cannot be read as a feature layer"):
        vectors.read(url)


def test_labels_are_classes_by_their_names(url: str) -> None:
    found = label_file.read(url, "cover")
    assert found.classes == ("field", "town", "wood")
    assert len(found.frame) == len(frame())


def test_a_recipe_names_a_layer_as_it_names_a_file(url: str) -> None:
    values = {name: code for code, name in NAMES.items()}
    kind = ClassTarget(tuple(ClassInfo(value=c, name=n, color="#000000") for c, n in NAMES.items()))
    found = read_polygons(VectorLabels(file=url, field="cover", values=values), kind)
    assert (found["label"] + 1).tolist() == frame()["cover"].tolist()


def test_a_redirect_to_a_private_host_is_not_followed(url: str) -> None:
    """That of the URL itself may be private, for the user named it."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{url}?f=json")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with (
        serving(ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)) as other,
        pytest.raises(DataError, match="leads to a URL that geoml does not follow"),
    ):
        vectors.read(f"http://127.0.0.1:{other.server_address[1]}/Land/FeatureServer/0")
