"""What QGIS loads: it adds the Processing provider and takes it away again."""

from __future__ import annotations

from typing import Optional

from qgis.core import QgsApplication

from scdm_qgis.processing.provider import ScdmProvider


class ScdmPlugin:
    """The plugin: one Processing provider."""

    def __init__(self) -> None:
        self._provider: Optional[ScdmProvider] = None

    def initProcessing(self) -> None:
        """Add the provider; qgis_process calls this alone, without a window."""
        if self._provider is None:
            provider = ScdmProvider()
            if not QgsApplication.processingRegistry().addProvider(provider):
                return  # another copy of the plugin is loaded; the registry has said so and deleted this provider
            self._provider = provider
            provider.refreshAlgorithms()  # the example model needs the others to be known

    def initGui(self) -> None:
        """Add what the QGIS window shows."""
        self.initProcessing()

    def unload(self) -> None:
        """Take everything away again; the registry deletes the provider."""
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
