"""Write what the dock shows: the plot as a picture, the curves as files, the pins as a layer."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, List, Optional, Sequence

from qgis.core import QgsCoordinateReferenceSystem, QgsCsException, QgsPointXY, QgsProject, QgsSettings
from qgis.PyQt.QtWidgets import QFileDialog, QMessageBox, QWidget

from scdm_qgis.core.errors import UserError
from scdm_qgis.profile.curve_table import write_csv
from scdm_qgis.profile.curves import PinnedCurve
from scdm_qgis.profile.missing_package import missing_package
from scdm_qgis.profile.places import transform_between
from scdm_qgis.profile.point_layer import point_layer
from scdm_qgis.profile.spectral_library import library_files, write_spectral_libraries

_FOLDER = "scdm/profile_folder"
"""QGIS's setting that remembers where the last file was written."""
_FILTERS = {
    "png": "PNG pictures (*.png)",
    "svg": "SVG drawings (*.svg)",
    "csv": "CSV tables (*.csv)",
    "sli": "ENVI spectral libraries (*.sli)",
}


def ask_path(parent: QWidget, kind: str, curves: Sequence[PinnedCurve]) -> Optional[str]:
    """Ask for a file's name and return it with its ending; None where the user changes their mind.

    Args:
        parent: the widget that asks.
        kind: png, svg, csv or sli.
        curves: what will be written; spectral libraries may take several files.
    """
    settings = QgsSettings()
    # The dialog would ask about the name as it was typed, without the ending, and about one file only.
    path, _ = QFileDialog.getSaveFileName(
        parent,
        "Export",
        settings.value(_FOLDER, ""),
        _FILTERS[kind],
        options=QFileDialog.Option.DontConfirmOverwrite,
    )
    if not path:
        return None
    settings.setValue(_FOLDER, os.path.dirname(path))
    if not path.lower().endswith(f".{kind}"):
        path = f"{path}.{kind}"
    files = library_files(path, curves) if kind == "sli" else [path]
    replaced = [os.path.normpath(file) for file in files if os.path.exists(file)]
    return path if not replaced or _may_be_replaced(parent, replaced) else None


def _may_be_replaced(parent: QWidget, files: Sequence[str]) -> bool:
    button = QMessageBox.StandardButton
    text = "Replace what is there already?\n\n" + "\n".join(files)
    return bool(QMessageBox.question(parent, "Export", text, button.Yes | button.No, button.No) == button.Yes)


def export(kind: str, path: str, plot: Any, curves: Sequence[PinnedCurve], project: QgsProject) -> str:
    """Write one thing and return the sentence that says what was written.

    Args:
        kind: png, svg, csv, sli or points.
        path: the file; not used for points.
        plot: the plot, None without pyqtgraph.
        curves: those of the pins.
        project: gets the point layer.

    Raises:
        UserError: nothing to write, a file that cannot be written, or pins that no one layer can hold.
    """
    if kind not in ("png", "svg") and not curves:
        raise UserError("There is no pin with a curve.", "Click on the map to pin a place.")
    try:
        if kind in ("png", "svg"):
            if plot is None:
                raise UserError(missing_package("pyqtgraph", "The plot"), "")
            plot.write_picture(path)
            written = [path]
        elif kind == "csv":
            write_csv(path, curves)
            written = [path]
        elif kind == "sli":
            written = write_spectral_libraries(path, curves)
        else:
            crs = _system(curves[0].crs)
            layer = point_layer(_in_system(crs, curves, project), crs)
            project.addMapLayer(layer)
            return f"The layer '{layer.name()}' is temporary: save it with Export ▸ Save Features As…"
    except OSError as error:
        raise UserError(
            f"'{path}' could not be written ({error.strerror or error}).", "Choose another file."
        ) from error
    return f"Written: {', '.join(os.path.normpath(name) for name in written)}"


def _system(text: str) -> QgsCoordinateReferenceSystem:
    crs = QgsCoordinateReferenceSystem()
    crs.createFromUserInput(text)  # an authority's code or WKT; stays invalid for nothing
    return crs


def _in_system(
    crs: QgsCoordinateReferenceSystem, curves: Sequence[PinnedCurve], project: QgsProject
) -> List[PinnedCurve]:
    """Return the curves with all places in one coordinate system; raises UserError where one has none there."""
    moved = []
    for pinned in curves:
        point = QgsPointXY(pinned.x, pinned.y)
        try:
            point = transform_between(_system(pinned.crs), crs, project).transform(point)
        except QgsCsException as error:
            raise UserError(
                f"Pin {pinned.pin} has no place in {crs.authid() or crs.description()}, the first pin's system.",
                "Remove that pin, or write a CSV table.",
            ) from error
        moved.append(replace(pinned, x=point.x(), y=point.y()))
    return moved
