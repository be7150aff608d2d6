# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin: it registers the provider and nothing else."""

from __future__ import annotations

from qgis.core import QgsApplication

from .provider import GeomlProvider


class Plugin:
    """What QGIS loads."""

    def __init__(self) -> None:
        self.provider: GeomlProvider | None = None

    def initProcessing(self) -> None:
        """Register the provider; `qgis_process` calls this without a window."""
        self.provider = GeomlProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """As `initProcessing`."""
        self.initProcessing()

    def unload(self) -> None:
        """Take the provider away."""
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
