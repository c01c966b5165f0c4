"""Try what the engine runs on: ``python -m scdm_qgis.engine.check MODULE...``.

Loads every named library, computes on every device, and prints events like a job.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from typing import Any, Dict, List, Sequence, Tuple

from scdm_qgis.engine.events import EventWriter


def check(modules: Sequence[str], events: EventWriter) -> int:
    """Report what works; return the exit status, 0 or 1.

    Args:
        modules: names of the libraries to load.
        events: where to report; the result's keys are PYTHON, TORCH and DEVICES.
    """
    loaded: Dict[str, Any] = {}
    for name in modules:
        try:
            loaded[name] = importlib.import_module(name)
        except Exception as error:  # a broken library may raise anything
            events.error(
                f"{name} cannot be loaded by {sys.executable}: {_first_line(error)}.",
                f'Install it again: "{sys.executable}" -m pip install --force-reinstall {name}',
            )
            return 1
    versions = ", ".join(f"{name} {getattr(module, '__version__', '?')}" for name, module in loaded.items())
    events.info(f"Python {platform.python_version()} at {sys.executable}")
    events.info(f"Libraries: {versions}")
    torch = importlib.import_module("torch")
    if torch.version.cuda is None and torch.version.hip is None and sys.platform != "darwin":
        events.info(
            "This torch is built for processors alone. To use an NVIDIA GPU, install a build for CUDA: "
            "torch's web site gives the command."
        )
    working = []
    for device, description in _devices(torch):
        try:
            _convolve(torch, device)
        except Exception as error:  # whatever a driver raises
            events.warning(f"{description} does not work: {_first_line(error)}.")
            continue
        events.info(f"Works: {description}")
        working.append(description)
    events.result({"PYTHON": sys.executable, "TORCH": str(torch.__version__), "DEVICES": ", ".join(working)})
    return 0


def _devices(torch: Any) -> List[Tuple[str, str]]:
    """Return every device as torch names it, with a description for the user."""
    devices = [("cpu", f"cpu ({os.cpu_count()} cores)")]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        devices.append(
            (f"cuda:{number}", f"cuda:{number} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)")
        )
    if torch.backends.mps.is_available():
        devices.append(("mps", "mps (Apple GPU)"))
    return devices


def _convolve(torch: Any, device: str) -> None:
    """Run one small convolution, as the network does; raises where the device cannot."""
    image = torch.ones(1, 8, 16, 16, device=device)
    kernel = torch.ones(8, 8, 3, 3, device=device)
    value = float(torch.nn.functional.conv2d(image, kernel)[0, 0, 0, 0])
    if value != 72.0:
        raise RuntimeError(f"a convolution gave {value:g} instead of 72")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


if __name__ == "__main__":
    sys.exit(check(sys.argv[1:], EventWriter(sys.stdout)))
