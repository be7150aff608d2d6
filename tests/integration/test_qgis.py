"""Debian's QGIS 3.22 opens the project of a run as it is: layers, groups, names, colours, a picture."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from PIL import Image

import geoml
from geoml import testing

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PYTHON = Path("/usr/bin/python3")
"""Of the system, for which Debian's python3-qgis is."""
SCENE = testing.Scene(id="scene", data=testing.smooth((2, 300, 400), seed=5), bands=("red", "nir"))
SCENE.data[:, 100:140, 30:200] = 0
CLASSES = ("field & wood", "lake", 'place "<1>"')
LOOK = """
import json, sys
from qgis.core import *
from qgis.PyQt.QtCore import QSize
app = QgsApplication([], False)
app.initQgis()
project = QgsProject.instance()
assert project.read(sys.argv[1]), project.error()
root = project.layerTreeRoot()
said = {"crs": project.crs().authid(), "groups": {}, "shown": [l.name() for l in root.checkedLayers()], "layers": {}}
for group in root.children():
    said["groups"][group.name()] = [e.name() for e in group.children()]
for layer in project.mapLayers().values():
    one = {"valid": layer.isValid(), "crs": layer.crs().authid()}
    renderer = layer.renderer()
    one["renderer"] = renderer.type()
    if renderer.type() == "paletted":
        one["classes"] = [[c.value, c.label, c.color.name()] for c in renderer.classes()]
    if renderer.type() == "categorizedSymbol":
        one["classes"] = [[c.value(), c.label(), c.symbol().color().name()] for c in renderer.categories()]
        one["rows"] = layer.featureCount()
    if renderer.type() == "singlebandpseudocolor":
        one["ends"] = [renderer.classificationMin(), renderer.classificationMax()]
        box = layer.dataProvider().bandStatistics(1)
        one["values"] = [box.minimumValue, box.maximumValue]
    said["layers"][layer.name()] = one
settings = QgsMapSettings()
settings.setTransformContext(project.transformContext())
settings.setLayers(root.checkedLayers())
settings.setDestinationCrs(project.crs())
(image,) = [l for l in root.checkedLayers() if "of each pixel" in l.name()][:1]
settings.setExtent(image.extent())
settings.setOutputSize(QSize(image.width(), image.height()))
job = QgsMapRendererSequentialJob(settings)
job.start()
job.waitForFinished()
job.renderedImage().save(sys.argv[2])
print(json.dumps(said), flush=True)
import os
os._exit(0)  # the end of QGIS without its window is not what is tested
"""
PROCESS = """
import json, os, sys
root, command, out, layer = sys.argv[1:]
sys.path[:0] = ["/usr/share/qgis/python/plugins", root + "/qgis"]
from qgis.core import *
app = QgsApplication([], False)
app.initQgis()
import processing
from processing.core.Processing import Processing
from processing.core.ProcessingConfig import ProcessingConfig
import geoml_processing
Processing.initialize()
plugin = geoml_processing.classFactory(None)
plugin.initProcessing()
registry = QgsApplication.processingRegistry()
assert [a.id() for a in registry.providerById("geoml").algorithms()] == ["geoml:predict"]
asked = {"MODEL": "demo-itaipu", "CATALOG": "demo", "DATES": "2020-05-18", "OUT": out, "OPTIONS": "--block-size 512"}
context = QgsProcessingContext()
context.setProject(QgsProject.instance())

class Feedback(QgsProcessingFeedback):
    def __init__(self):
        super().__init__(False)
        self.shares, self.lines = [], []
        self.progressChanged.connect(self.shares.append)

    def pushConsoleInfo(self, line):
        self.lines.append(line)

feedback = Feedback()
said = {}

def refused(**changes):
    try:
        processing.run("geoml:predict", {**asked, **changes}, context=context, feedback=Feedback())
    except QgsProcessingException as err:
        return str(err)

ProcessingConfig.setSettingValue("GEOML_COMMAND", "/no/geoml")
said["absent"] = refused(EXTENT="-54.6,-54.5,-25.4,-25.3 [EPSG:4326]")
ProcessingConfig.setSettingValue("GEOML_COMMAND", command)
said["nowhere"] = refused()
said["model"] = refused(EXTENT="-54.6,-54.5,-25.4,-25.3 [EPSG:4326]", MODEL="no-such-model")
region = QgsVectorLayer(layer, "region", "ogr")
assert region.isValid()
said["both"] = refused(EXTENT="-54.6,-54.5,-25.4,-25.3 [EPSG:4326]", REGION=region)

import threading, time
from geoml_processing import predict
write, threads = predict._written, []
predict._written = lambda *words: threads.append(threading.current_thread() is threading.main_thread()) or write(*words)
algorithm, quiet = registry.algorithmById("geoml:predict").create(), Feedback()
words = {**asked, "REGION": region, "MODEL": "no-such-model"}
assert algorithm.prepare(words, context, quiet)
def work():
    try:
        algorithm.runPrepared(words, context, quiet)
    except QgsProcessingException as err:
        said["thread"] = str(err)
thread = threading.Thread(target=work)
thread.start()
thread.join()
said["threads"] = threads
predict._written = write

with open(out + "-slow", "w") as file:
    print("#!/bin/sh", "exec sleep 60", sep="\\n", file=file)
os.chmod(out + "-slow", 0o755)
ProcessingConfig.setSettingValue("GEOML_COMMAND", out + "-slow")
quiet, start = Feedback(), time.monotonic()
threading.Timer(1, quiet.cancel).start()
algorithm = registry.algorithmById("geoml:predict").create()
said["stopped"] = [*algorithm.run({**asked, "REGION": region}, context, quiet), time.monotonic() - start]
ProcessingConfig.setSettingValue("GEOML_COMMAND", command)

algorithm = registry.algorithmById("geoml:predict").create()
done, ok = algorithm.run({**asked, "REGION": region}, context, feedback)
said |= {"ok": ok, "out": done, "shares": feedback.shares, "lines": feedback.lines}
tree = QgsProject.instance().layerTreeRoot()
said["groups"] = {g.name(): [c.name() for c in g.children()] for g in tree.children()}
said["valid"] = {l.name(): l.isValid() for l in QgsProject.instance().mapLayers().values()}
plugin.unload()
assert registry.providerById("geoml") is None
print(json.dumps(said), flush=True)
os._exit(0)
"""


def qgis(script: str, *words: object, **environment: str) -> str:
    """What a script prints under the system's Python with QGIS, without a screen."""
    probe = [PYTHON, "-c", "import qgis.core"]
    if not PYTHON.exists() or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("integration: QGIS is not installed (Debian: python3-qgis)")
    plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PROJ_DATA", "GDAL_DATA")}
    done = subprocess.run(
        [PYTHON, "-c", script, *map(str, words)],
        env={**plain, "QT_QPA_PLATFORM": "offscreen", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("qgis")
    catalog = testing.write_catalog(root / "made", [SCENE])
    testing.threshold_model(root / "model", SCENE.bands, (0.20005, 0.40005), names=CLASSES)
    query = {"catalog": str(catalog), "bbox": SCENE.bbox(), "datetime": ["2024"]}
    recipe = {"model": str(root / "model"), "query": query, "block_size": 128, "features_format": ["gpkg"]}
    geoml.predict(recipe, root / "out")
    shutil.move(root / "out", root / "moved")  # all names in it are relative
    return root / "moved"


@pytest.fixture(scope="module")
def seen(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(qgis(LOOK, out / "map.qgz", out.parent / "map.png"))
    return found


def test_all_layers_are_valid_in_their_groups(seen: dict[str, Any]) -> None:
    assert all(layer["valid"] for layer in seen["layers"].values()), seen
    assert list(seen["groups"]) == ["polygons", "map", "doubt", "image"]
    assert seen["groups"]["map"] == ["class of each pixel"]
    assert seen["crs"] == SCENE.crs
    assert seen["shown"] == ["class of each pixel", "what the model saw"]


def test_classes_have_the_names_and_colours_of_the_card(seen: dict[str, Any]) -> None:
    card = list(zip(CLASSES, testing.COLORS, strict=False))
    pixels = seen["layers"]["class of each pixel"]["classes"]
    assert pixels == [[n, name, color] for n, (name, color) in enumerate(card)]
    polygons = seen["layers"]["features"]
    assert polygons["classes"] == [[name, name, color] for name, color in card]
    assert polygons["rows"] > 0


def test_quantities_are_physical(seen: dict[str, Any]) -> None:
    sure = seen["layers"]["probability of that class"]
    assert sure["ends"] == [0, 1]
    assert 0 <= sure["values"][0] <= sure["values"][1] <= 1


def test_the_picture_is_the_map(seen: dict[str, Any], out: Path) -> None:
    picture = np.asarray(Image.open(out.parent / "map.png").convert("RGB"))
    truth = testing.read_map(out)[SCENE.crs]
    assert picture.shape[:2] == truth.data.shape[1:]
    for value, color in enumerate(testing.COLORS[: len(CLASSES)]):
        expected = tuple(bytes.fromhex(color.removeprefix("#")))
        assert (picture[truth.data[0] == value] == expected).all()


def test_the_provider_runs_the_demo_and_loads_its_map(tmp_path: Path) -> None:
    """The command is found by its setting; QGIS and geoml have different Pythons."""
    command = tmp_path / "geoml"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m geoml.cli "$@"\n')
    command.chmod(0o755)
    region = geopandas.GeoDataFrame(geometry=[shapely.box(-54.6, -25.4, -54.5, -25.3)], crs="EPSG:4326")
    region.to_crs("EPSG:3857").to_file(tmp_path / "region.gpkg")  # its CRS travels along
    home = {"HOME": str(tmp_path), "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "profile"), "OMP_NUM_THREADS": "1"}
    said = json.loads(qgis(PROCESS, ROOT, command, tmp_path / "out", tmp_path / "region.gpkg", **home).splitlines()[-1])
    assert "/no/geoml: cannot be started" in said["absent"]
    assert "give an extent or a layer" in said["nowhere"]
    assert "no-such-model" in said["model"]
    assert "both are given" in said["both"]
    assert "no-such-model" in said["thread"]
    assert said["threads"] == [True], "layers of the project are read where the window lives"
    assert said["stopped"][:2] == [{}, True]
    assert said["stopped"][2] < 30
    assert said["ok"]
    assert any("features.gpkg" in line for line in said["lines"])
    assert said["shares"] == sorted(said["shares"])
    assert said["shares"][-1] == 100
    ((title, groups),) = said["groups"].items()
    assert "demo-itaipu" in title
    assert groups == ["polygons", "map", "doubt", "image"]
    assert set(said["valid"]) >= {"features", "class of each pixel", "what the model saw"}
    assert all(said["valid"].values())
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    area = geopandas.read_file(tmp_path / "region.gpkg").to_crs("EPSG:32621").area.sum()
    assert run["region_pixels"] * 900 == pytest.approx(area, rel=0.01)
