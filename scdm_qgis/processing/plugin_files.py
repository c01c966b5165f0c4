"""Where the files lie that are no Python: icons, and the list of what the engine needs."""

from __future__ import annotations

import os

from qgis.PyQt.QtGui import QIcon

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def plugin_file(*names: str) -> str:
    """Return the path of a file that lies in the package where the plugin is built, beside it in a checkout."""
    installed = os.path.join(PACKAGE, *names)
    return installed if os.path.exists(installed) else os.path.join(os.path.dirname(PACKAGE), *names)


def icon_path(name: str) -> str:
    """Return the path of one of the plugin's SVG icons."""
    return plugin_file("icons", f"{name}.svg")


def icon(name: str) -> QIcon:
    """Return one of the plugin's icons."""
    return QIcon(icon_path(name))
