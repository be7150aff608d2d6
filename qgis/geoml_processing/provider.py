# SPDX-License-Identifier: GPL-2.0-or-later
"""The provider, and its one setting: where the command is."""

from __future__ import annotations

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider

from .predict import COMMAND, Predict


class GeomlProvider(QgsProcessingProvider):
    """``geoml`` in the toolbox."""

    def id(self) -> str:
        """Of the provider, before the colon in the names of algorithms."""
        return "geoml"

    def name(self) -> str:
        """As it is shown."""
        return "geoml"

    def load(self) -> bool:
        """Add the setting."""
        ProcessingConfig.addSetting(Setting("geoml", COMMAND, "Command", "geoml"))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Take the setting away."""
        ProcessingConfig.removeSetting(COMMAND)

    def loadAlgorithms(self) -> None:
        """The algorithms."""
        self.addAlgorithm(Predict())
