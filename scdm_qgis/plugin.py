"""What QGIS loads: it adds the Processing provider and the profile dock, and takes them away again."""

from __future__ import annotations

from typing import Any, Optional

from qgis.core import QgsApplication

from scdm_qgis.processing.provider import ScdmProvider


class ScdmPlugin:
    """The plugin: one Processing provider and one dock.

    Args:
        iface: QGIS's window; None where there is none.
    """

    def __init__(self, iface: Any) -> None:
        self._iface = iface
        self._provider: Optional[ScdmProvider] = None
        self._dock: Any = None

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
        if self._iface is not None and self._dock is None:
            from scdm_qgis.profile.dock import ProfileDock  # qgis_process has no use for it

            self._dock = ProfileDock(self._iface)

    def unload(self) -> None:
        """Take everything away again; the registry deletes the provider."""
        if self._dock is not None:
            self._dock.close_down()
            self._dock = None
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
