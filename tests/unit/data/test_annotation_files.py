"""Files of boxes that speak of other images, or are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from geoml.data import annotation
from geoml.data.prepare import scenes
from geoml.errors import InputError
from tests.unit.data.box_files import ALL, TRUTH, coco_value, deepforest, fault, found, image, recipe, vector, voc

# --- one file for all


def test_rows_and_records_of_images_that_are_not_there(tmp_path: Path) -> None:
    image(tmp_path)
    deepforest(tmp_path / "a", ALL)
    with (tmp_path / "all.csv").open("a") as file:
        file.write("\nz.tif,1,1,9,9,roof\n../b.tif,1,1,9,9,roof\n")
    text = fault(recipe(tmp_path, "deepforest"))
    assert "all.csv: 1 images that are not there: z.tif" in text
    assert "row 6: image_path: '../b.tif' leads out of the folder" in text
    value = coco_value(ALL)
    value["images"] += [{"id": 2, "file_name": "z.tif"}, {"id": 3, "file_name": "/etc/b.tif"}]
    value["annotations"][0]["image_id"] = 9
    value["annotations"][1]["category_id"] = 8
    (tmp_path / "all.json").write_text(json.dumps(value))
    text = fault(recipe(tmp_path, "coco"))
    assert "annotation 0 (id 0): image_id 9 is the id of no image" in text
    assert "annotation 1 (id 1): category_id 8 is the id of no category" in text
    assert "1 images that are not there: z.tif" in text
    assert "file_name '/etc/b.tif' leads out" in text


def test_double_ids_and_sizes_of_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path)
    value = coco_value(ALL)
    value["annotations"][1]["id"] = 0
    value["images"][0]["width"] = 640
    (tmp_path / "all.json").write_text(json.dumps(value))
    text = fault(recipe(tmp_path, "coco"))
    assert "annotation ids that are there twice: 0" in text
    assert "labels of an image of 640 x 80 pixels" in text
    monkeypatch.setattr(annotation, "MOST_OBJECTS", 2)
    assert "3 objects; at most 2 are read" in fault(recipe(tmp_path, "coco"))
    monkeypatch.setattr(annotation, "MOST_BYTES", 10)
    assert "bytes; at most 10 are read" in fault(recipe(tmp_path, "coco"))


@pytest.mark.parametrize("text", ["[]", '{"images": []}', "{", '{"images": [1], "annotations": [], "categories": []}'])
def test_what_is_no_coco(text: str, tmp_path: Path) -> None:
    image(tmp_path)
    (tmp_path / "all.json").write_text(text)
    assert "all.json: " in fault(recipe(tmp_path, "coco"))


def test_one_file_of_features_is_for_other_sources(tmp_path: Path) -> None:
    image(tmp_path)
    vector(tmp_path / "all", ALL)
    with pytest.raises(InputError, match="source tiles or stac"):
        scenes(recipe(tmp_path, "vector", boxes="all.geojson"))


# --- Pascal VOC


@pytest.mark.parametrize("name", ["../a.tif", "/data/a.tif", "C:\\data\\a.tif", "x/../../a.tif"])
def test_a_filename_of_voc_is_no_path(name: str, tmp_path: Path) -> None:
    image(tmp_path)
    voc(tmp_path / "a", ALL, filename=name)
    assert "a.xml: filename: " in fault(recipe(tmp_path, "voc"))


def test_labels_of_another_image(tmp_path: Path) -> None:
    image(tmp_path)
    voc(tmp_path / "a", ALL, filename="b.tif")
    assert "a.xml: labels of another image, b.tif; expected a.tif" in fault(recipe(tmp_path, "voc"))
    voc(tmp_path / "a", ALL, filename="a.png")
    assert found(recipe(tmp_path, "voc")) == TRUTH, "tiles are converted often"


@pytest.mark.parametrize(
    "head",
    ['<!DOCTYPE annotation [<!ENTITY a "b">]>', "<!DOCTYPE annotation>", '<!DOCTYPE annotation SYSTEM "other.dtd">'],
)
def test_xml_with_a_document_type_is_refused(head: str, tmp_path: Path) -> None:
    image(tmp_path)
    voc(tmp_path / "a", ALL)
    (tmp_path / "a.xml").write_text(head + (tmp_path / "a.xml").read_text())
    assert "a.xml: line 1: a document type or entities" in fault(recipe(tmp_path, "voc"))


@pytest.mark.parametrize("text", ["", "no xml", "<annotation><object></annotation>", "<a>" * 100])
def test_what_is_no_voc(text: str, tmp_path: Path) -> None:
    image(tmp_path)
    (tmp_path / "a.xml").write_text(text)
    assert "a.xml: " in fault(recipe(tmp_path, "voc"))
