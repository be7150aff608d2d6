# SPDX-License-Identifier: GPL-2.0-or-later
"""Map with a model: ``geoml predict`` with what the dialog asks, and its project in the layer tree."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsLayerTreeGroup,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputFile,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
    QgsProject,
    QgsVectorFileWriter,
)

from .command import CommandError, planned, run

COMMAND = "GEOML_COMMAND"
DEGREES = "EPSG:4326"


class Predict(QgsProcessingAlgorithm):
    """A region, a time range and a model in; a map out."""

    def name(self) -> str:
        """Behind the colon."""
        return "predict"

    def displayName(self) -> str:
        """As it is shown."""
        return "Map with a model"

    def shortHelpString(self) -> str:
        """Beside the dialog."""
        return (
            "Searches a STAC catalog, or reads an image, runs a model over the region and loads the map that it wrote. "
            "Give a catalog or an image, and an extent or a layer of polygons. geoml is a program of its own: see the "
            "README of this plugin for how to install it."
        )

    def createInstance(self) -> Predict:
        """Another one."""
        return Predict()

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """What is asked."""
        text, optional = QgsProcessingParameterString, {"optional": True}
        self.addParameter(text("MODEL", "Model (a name, or the folder or URL of a package)", "demo-itaipu"))
        self.addParameter(text("CATALOG", "Catalog (a name, a STAC API or a file)", "demo", **optional))
        self.addParameter(text("COLLECTION", "Collection", **optional))
        self.addParameter(QgsProcessingParameterFile("IMAGE", "Image, instead of a catalog", **optional))
        self.addParameter(QgsProcessingParameterExtent("EXTENT", "Extent", **optional))
        polygons = [QgsProcessing.TypeVectorPolygon]
        self.addParameter(
            QgsProcessingParameterVectorLayer("REGION", "Polygons, instead of an extent", polygons, **optional)
        )
        self.addParameter(text("DATES", "Dates (such as 2024-06; of two dates the earlier first)", **optional))
        more = text("OPTIONS", "More options, as on the command line", **optional)
        more.setFlags(more.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(more)
        self.addParameter(QgsProcessingParameterBoolean("LOAD", "Load the map", True))
        self.addParameter(QgsProcessingParameterFolderDestination("OUT", "Folder of the run"))
        self.addOutput(QgsProcessingOutputFile("PROJECT", "QGIS project"))

    def prepareAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        """Write the polygons to a file: a layer of the project may be read in the thread of the window only."""
        self._scratch = tempfile.TemporaryDirectory(prefix="geoml-qgis-")
        self._region = None
        if (layer := self.parameterAsVectorLayer(parameters, "REGION", context)) is not None:
            self._region = _written(layer, Path(self._scratch.name) / "region.gpkg", context)
        return True

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run the command, in a thread of its own."""
        out = Path(self.parameterAsString(parameters, "OUT", context))
        self._load, self._project = False, out / "map.qgz"
        with self._scratch:
            words = self._words(parameters, context, out)
            feedback.pushCommandInfo(shlex.join(words))
            try:
                blocks = planned(words, feedback.isCanceled)
                if feedback.isCanceled():
                    return {}
                feedback.pushInfo(f"{blocks} blocks")

                def progress(share: float) -> bool:
                    feedback.setProgress(100 * share)
                    return not feedback.isCanceled()

                for line in run(words, out, blocks, progress):
                    feedback.pushConsoleInfo(line)
            except CommandError as err:
                raise QgsProcessingException(str(err)) from err
        self._load = self.parameterAsBool(parameters, "LOAD", context) and not feedback.isCanceled()
        return {"OUT": str(out), "PROJECT": str(self._project)}

    def postProcessAlgorithm(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> dict[str, Any]:
        """Add the layers of the project, in a group of their own on top."""
        project = context.project()
        if self._load and project is not None:
            written = QgsProject()
            if not written.read(str(self._project)):
                raise QgsProcessingException(f"{self._project}: {written.error()}")
            group = project.layerTreeRoot().insertGroup(0, written.title() or self._project.parent.name)
            _copy(written.layerTreeRoot(), group, project)
        return {}

    def _words(self, parameters: dict[str, Any], context: QgsProcessingContext, out: Path) -> list[str]:
        """The command line. Raises QgsProcessingException for what does not go together."""
        given = {name: self.parameterAsString(parameters, name, context).strip() for name in _NAMED}
        if given["IMAGE"]:
            given["CATALOG"] = given["COLLECTION"] = ""
        words = [ProcessingConfig.getSetting(COMMAND) or "geoml", "predict", "--out", str(out)]
        words += [word for name, option in _NAMED.items() if given[name] for word in (option, given[name])]
        for when in self.parameterAsString(parameters, "DATES", context).split():
            words += ["--datetime", when]
        extent = self.parameterAsExtent(parameters, "EXTENT", context, QgsCoordinateReferenceSystem(DEGREES))
        if self._region is not None and not extent.isNull():
            raise QgsProcessingException("EXTENT, REGION: both are given; expected an extent or a layer of polygons")
        if self._region is not None:
            words += ["--region", str(self._region)]
        elif not extent.isNull():
            ends = extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()
            words += ["--bbox", *(f"{end:.9f}" for end in ends)]
        elif not given["IMAGE"]:
            raise QgsProcessingException("EXTENT, REGION: give an extent or a layer of polygons")
        more = shlex.split(self.parameterAsString(parameters, "OPTIONS", context))
        return [*words, "--features-format", "gpkg", *more]


_NAMED = {"MODEL": "--model", "CATALOG": "--catalog", "COLLECTION": "--collection", "IMAGE": "--image"}


def _written(layer: Any, path: Path, context: QgsProcessingContext) -> Path:
    """A layer, wherever it comes from, as a file that geoml reads."""
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName, options.layerName = "GPKG", "region"
    error, why, *_ = QgsVectorFileWriter.writeAsVectorFormatV3(layer, str(path), context.transformContext(), options)
    if error != QgsVectorFileWriter.NoError:
        raise QgsProcessingException(f"REGION: {why}")
    return path


def _copy(source: QgsLayerTreeGroup, target: QgsLayerTreeGroup, project: QgsProject) -> None:
    """The layers of a tree with their styles, in the same groups, shown as they were."""
    for node in source.children():
        if isinstance(node, QgsLayerTreeGroup):
            _copy(node, target.addGroup(node.name()), project)
        elif node.layer() is not None and node.layer().isValid():
            layer = node.layer().clone()
            layer.setName(node.name())
            project.addMapLayer(layer, False)
            target.addLayer(layer).setItemVisibilityChecked(node.itemVisibilityChecked())
