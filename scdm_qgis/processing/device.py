"""The two parameters that say what the engine computes on."""

from __future__ import annotations

from qgis.core import QgsProcessingParameterEnum, QgsProcessingParameterString

from scdm_qgis.engine.jobs import DEVICE_HINTS, PRECISIONS

DEVICE_HELP = (
    "auto takes a CUDA GPU or Apple's where there is one, else the processor. cuda:1 is the second CUDA GPU. "
    "Check Engine lists what there is."
)
PRECISION_HELP = "auto takes bfloat16 where the device is faster with it, else float32."


def device_parameter() -> QgsProcessingParameterString:
    """Return DEVICE: any text; the widget offers the hints only, and takes what it does not offer for auto."""
    parameter = QgsProcessingParameterString("DEVICE", "Device", "auto")
    parameter.setMetadata({"widget_wrapper": {"value_hints": list(DEVICE_HINTS)}})
    return parameter


def precision_parameter() -> QgsProcessingParameterEnum:
    """Return PRECISION."""
    return QgsProcessingParameterEnum("PRECISION", "Precision", list(PRECISIONS), False, "auto", False, True)
