"""Catalogs of files: whose folder they may be written into, and what tells a file elsewhere from another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoml.errors import InputError
from geoml.io.cog.scene_fields import SceneFields
from geoml.io.cog.scene_files import FileScene, scenes_of
from geoml.io.cog.scene_items import write_scenes
from geoml.io.stores import ranges
from tests.integration import fault_server

TOLD = SceneFields(bands=("red",))


def tif(path: Path, value: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": "EPSG:32621", "transform": Affine(10, 0, 600_000, 0, -10, 7_000_000)}
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=1, height=8, width=8, **place) as file:
        file.write(np.full((1, 8, 8), value, np.uint8))
    return path


def scenes(*places: Path | str) -> list[FileScene]:
    return scenes_of([str(p) for p in places], TOLD, ("2024-06-01",))


@pytest.mark.parametrize("name", ["collection.json", "catalog.json", ".geoml/plan.json"])
def test_a_run_or_another_catalog_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    found = scenes(tif(tmp_path / "a.tif"))
    other = tmp_path / "out" / name
    other.parent.mkdir(parents=True)
    (tmp_path / "out" / "items").mkdir()
    other.write_text('{"type": "Collection", "links": []}')
    before = sorted(p.name for p in (tmp_path / "out").rglob("*"))
    with pytest.raises(InputError, match=r"out: .* contains (a run|another catalog)"):
        write_scenes(found, TOLD, tmp_path / "out", "scenes")
    assert other.read_text() == '{"type": "Collection", "links": []}'
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == before


def test_a_catalog_that_is_written_again_loses_the_scenes_that_are_gone(tmp_path: Path) -> None:
    a, b = tif(tmp_path / "a.tif"), tif(tmp_path / "b.tif")
    write_scenes(scenes(a, b), TOLD, tmp_path / "out", "two")
    (tmp_path / "out" / "items" / "notes.json").write_text("{}")
    write_scenes(scenes(b), TOLD, tmp_path / "out", "one")
    assert {p.name for p in (tmp_path / "out" / "items").iterdir()} == {"b.json", "notes.json"}
    links = json.loads((tmp_path / "out" / "collection.json").read_text())["links"]
    assert [link["href"] for link in links if link["rel"] == "item"] == ["./items/b.json"]


def test_a_file_elsewhere_is_known_by_its_url_and_what_its_server_says(
    tmp_path: Path, machine: Callable[..., None]
) -> None:
    machine(retries=0, timeout=5, private_hosts=True, schemes='["http"]')
    content = tif(tmp_path / "x.tif").read_bytes()
    with fault_server.serve(files={"/a/x.tif": content, "/b/x.tif": content}) as server:

        def version(path: str, tag: str) -> str:
            server.tag = tag
            ranges.forget(f"{server.url}{path}")
            write_scenes(scenes(f"{server.url}{path}"), TOLD, tmp_path / "out", "one")
            item = json.loads((tmp_path / "out" / "items" / "x.json").read_text())
            return str(item["properties"]["processing:version"])

        first = version("/a/x.tif", '"1"')
        assert version("/a/x.tif", '"1"') == first
        assert len({first, version("/a/x.tif", '"2"'), version("/b/x.tif", '"1"')}) == 3
