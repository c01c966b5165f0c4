"""The project's rasters as the dock sees them: which are chosen, what they are, kept with the project file."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional, Tuple

from qgis.core import QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from scdm_qgis.core.errors import UserError
from scdm_qgis.processing.raster_summary import raster_path
from scdm_qgis.profile.curves import Role
from scdm_qgis.profile.reader import Description, ProfileReader
from scdm_qgis.profile.roles import MOST_BANDS_OF_A_PICTURE, RasterFacts, guess_roles, run_of

_ROLE_PROPERTY = "scdm_profile/role"
_CHOSEN_PROPERTY = "scdm_profile/chosen"


class ProfileLayer:
    """One raster of the project.

    Args:
        layer: the raster.
    """

    def __init__(self, layer: QgsRasterLayer) -> None:
        self.layer = layer
        self.id: str = layer.id()
        self.learn("", None)
        self.role = Role.OTHER
        self._source = ""
        self._path = ""
        self._problem = ""

    @property
    def name(self) -> str:
        """Return the layer's name."""
        return str(self.layer.name())

    @property
    def path(self) -> str:
        """Return what GDAL opens; empty where GDAL does not read the layer, see `problem`."""
        source = self.layer.source()
        if source != self._source:
            self._source, self._path, self._problem = source, "", ""
            try:
                self._path = raster_path("", self.layer, None) or ""
            except UserError as error:
                self._problem = str(error)
        return self._path

    @property
    def problem(self) -> str:
        """Return why nothing can be read of the layer, wherever; empty where something can, or could be later."""
        if not self.path:
            return self._problem
        return self.description.problem if self.description is not None else ""

    def learn(self, path: str, description: Optional[Description]) -> None:
        """Take in what the file at a path is; None while that is not known."""
        self.described_path, self.description = path, description
        self._run = () if description is None else run_of(dict(description.tags))

    @property
    def facts(self) -> Optional[RasterFacts]:
        """Return what the role is guessed from; None while that is not known."""
        known = self.description
        if known is None or known.problem:
            return None
        return RasterFacts(self.name, known.band_count, known.wavelengths_nm, known.floating, dict(known.tags))

    @property
    def run(self) -> Tuple[Tuple[str, str], ...]:
        """Return what the rasters of one reconstruction have in common; empty for others."""
        return self._run

    @property
    def chosen(self) -> bool:
        """Return whether its curves are shown: what the user said, else those of more bands than a picture."""
        said = self._said(_CHOSEN_PROPERTY)
        if not said:
            return bool(self.path) and self.layer.bandCount() > MOST_BANDS_OF_A_PICTURE
        return said == "yes"

    @property
    def said_role(self) -> Optional[Role]:
        """Return the role that the user has given."""
        said = self._said(_ROLE_PROPERTY)
        return next((role for role in Role if role.value == said), None)

    def say(self, key: str, value: str) -> None:
        """Keep with the layer what the user has said of it."""
        self.layer.setCustomProperty(key, f"{self.id}:{value}")

    def _said(self, key: str) -> str:
        """Return what the user has said of this layer; "" also for what came with the style of another."""
        layer_id, _, value = str(self.layer.customProperty(key, "")).rpartition(":")
        return value if layer_id == self.id else ""


class ProfileLayers(QObject):
    """The rasters of a project that its layer tree shows, in the order in which they came.

    Args:
        project: whose layers.
        reader: asked what the layers' files are; told which layers go.
    """

    changed = pyqtSignal()
    """Layers have come or gone, or their roles or the choice of them have changed."""

    def __init__(self, project: QgsProject, reader: ProfileReader) -> None:
        super().__init__()
        self._project = project
        self._reader = reader
        self._layers: Dict[str, ProfileLayer] = {}
        self._soon = QTimer()  # what comes one by one, as the files of a large project, is shown together
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.update)
        # When a project is opened, layers come after their place in the tree; at other times before it.
        project.layersAdded.connect(self._add)
        project.layerTreeRoot().addedChildren.connect(self._add)
        project.layersWillBeRemoved.connect(self._remove)
        reader.described.connect(self._learn)
        self._add()

    def stop(self) -> None:
        """Listen to the project no longer, and forget its layers."""
        self._project.layersAdded.disconnect(self._add)
        self._project.layerTreeRoot().addedChildren.disconnect(self._add)
        self._project.layersWillBeRemoved.disconnect(self._remove)
        self._reader.described.disconnect(self._learn)
        self._soon.stop()
        self._listen_no_longer(self._layers.values())
        self._layers.clear()

    def all(self) -> List[ProfileLayer]:
        """Return all rasters."""
        return list(self._layers.values())

    def chosen(self) -> List[ProfileLayer]:
        """Return the rasters whose curves are shown."""
        return [layer for layer in self._layers.values() if layer.chosen]

    def choose(self, layer_id: str, chosen: bool) -> None:
        """Show a layer's curves, or do not."""
        self._say(layer_id, _CHOSEN_PROPERTY, "yes" if chosen else "no")

    def set_role(self, layer_id: str, role: Role) -> None:
        """Say what a layer is."""
        self._say(layer_id, _ROLE_PROPERTY, role.value)

    def _say(self, layer_id: str, key: str, value: str) -> None:
        self._layers[layer_id].say(key, value)
        self._project.setDirty(True)
        self.update()

    def _add(self) -> None:
        shown = [self._project.mapLayer(layer_id) for layer_id in self._project.layerTreeRoot().findLayerIds()]
        new = [one for one in shown if isinstance(one, QgsRasterLayer) and one.id() not in self._layers]
        for layer in new:
            self._layers[layer.id()] = ProfileLayer(layer)
            for signal in _changes_of(layer):
                signal.connect(self._update_soon)
        if new:
            self.update()

    def _remove(self, layer_ids: List[str]) -> None:
        gone = [self._layers.pop(layer_id) for layer_id in layer_ids if layer_id in self._layers]
        self._listen_no_longer(gone)
        if gone:
            self.update()

    def _listen_no_longer(self, layers: Iterable[ProfileLayer]) -> None:
        for layer in layers:
            for signal in _changes_of(layer.layer):
                signal.disconnect(self._update_soon)

    def _learn(self, layer_id: str, path: str, description: Description) -> None:
        layer = self._layers.get(layer_id)
        if layer is not None and layer.path == path:
            layer.learn(path, description)
            self._update_soon()

    def _update_soon(self) -> None:
        self._soon.start()

    def update(self) -> None:
        """Have new files described, guess the roles anew, and keep the chosen layers' files open."""
        for layer in self._layers.values():
            if layer.path != layer.described_path:
                layer.learn(layer.path, None)
                if layer.path:
                    self._reader.describe(layer.id, layer.path)
        facts = {layer.id: layer.facts for layer in self._layers.values() if layer.facts is not None}
        guessed = guess_roles(facts)
        for layer in self._layers.values():
            layer.role = layer.said_role or guessed.get(layer.id, Role.OTHER)
        self._reader.keep_only([layer.id for layer in self.chosen()])
        self.changed.emit()


def _changes_of(layer: QgsRasterLayer) -> Tuple[Any, ...]:
    """Return the signals of what may change a layer's role, the choice of it, or what is read at a place."""
    return layer.nameChanged, layer.crsChanged, layer.dataSourceChanged, layer.styleLoaded
