"""What all our algorithms share: who they are, and their help."""

from __future__ import annotations

from html import escape
from typing import Any, ClassVar, List, Tuple

from qgis.core import QgsProcessingAlgorithm, QgsProcessingParameterDefinition
from qgis.PyQt.QtGui import QIcon

from scdm_qgis.processing.groups import Group
from scdm_qgis.processing.plugin_files import icon, icon_path


class ScdmAlgorithm(QgsProcessingAlgorithm):
    """An algorithm that is named by its class's constants.

    NAME is its id within the provider, TITLE what the Toolbox shows, ABOUT what it does, TAGS what it is
    found by.
    """

    NAME: ClassVar[str]
    TITLE: ClassVar[str]
    GROUP: ClassVar[Group]
    ABOUT: ClassVar[str]
    TAGS: ClassVar[Tuple[str, ...]] = ()

    def name(self) -> str:
        """Return the id, which never changes."""
        return self.NAME

    def displayName(self) -> str:
        """Return what the Toolbox shows."""
        return self.TITLE

    def group(self) -> str:
        """Return the group's name."""
        return self.GROUP.name

    def groupId(self) -> str:
        """Return the group's id."""
        return self.GROUP.id

    def tags(self) -> List[str]:
        """Return the words the algorithm is found by."""
        return ["scdm", "hyperspectral", "spectral", "super-resolution", *self.TAGS]

    def icon(self) -> QIcon:
        """Return the group's icon."""
        return icon(self.GROUP.id)

    def svgIconPath(self) -> str:
        """Return the path of the group's icon."""
        return icon_path(self.GROUP.id)

    def shortDescription(self) -> str:
        """Return the first sentence of the help."""
        return self.ABOUT.split(". ")[0].rstrip(".") + "."

    def shortHelpString(self) -> str:
        """Return what the algorithm does and what each parameter is for, as HTML."""
        lines = [f"<p>{escape(self.ABOUT)}</p>"]
        for definition in self.parameterDefinitions():
            lines.append(f"<h3>{escape(definition.description())}</h3><p>{escape(definition.help())}</p>")
        return "".join(lines)

    def createInstance(self) -> QgsProcessingAlgorithm:
        """Return a fresh algorithm of the same kind."""
        return type(self)()

    def add(self, definition: Any, explanation: str, advanced: bool = False) -> None:
        """Add a parameter with its help; a rare one is marked advanced."""
        definition.setHelp(explanation)
        if advanced:
            definition.setFlags(definition.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
        self.addParameter(definition)
