"""Take the README's picture of the real QGIS, on a virtual screen and with a profile made for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from qgis.PyQt.QtCore import QSettings

from scdm_qgis.engine.jobs import CreateDemoScene
from tools.install_plugin import install

CHECKOUT = Path(__file__).resolve().parent.parent
PICTURE = CHECKOUT / "docs" / "images" / "toolbox_and_dialog.png"
SCREEN = "1600x900x24"
SECONDS = 120


def prepare_profile(profile: Path) -> None:
    """Install the plugin into a new profile in which nothing but QGIS's window opens at the start."""
    install(profile, sys.executable)
    settings = QSettings(str(profile / "QGIS" / "QGIS3.ini"), QSettings.Format.IniFormat)
    settings.setValue("PythonPlugins/processing", True)
    settings.setValue("qgis/showTips322", False)
    settings.setValue("qgis/checkVersion", False)
    settings.sync()


def make_demo_scene(folder: Path) -> None:
    """Write folder/rgb.tif, the layer to be shown."""
    job = CreateDemoScene(output=str(folder / "scene.tif"), rgb_output=str(folder / "rgb.tif"), seed=2)
    job_file = folder / "job.json"
    job_file.write_text(json.dumps(job.to_json()), encoding="utf-8")
    command = [sys.executable, "-m", "scdm_qgis.engine", str(job_file)]
    subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, check=True)


def main() -> None:
    """Start QGIS with tools/picture_in_qgis.py, which takes the picture and ends it."""
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_profile(folder / "profiles" / "default")
        make_demo_scene(folder)
        command = ["xvfb-run", "--auto-servernum", "--server-args", f"-screen 0 {SCREEN}"]
        command += ["sh", "-c", 'openbox & exec "$@"', "sh"]  # a window manager, for title bars
        command += ["/usr/bin/qgis.bin", "--profiles-path", str(folder), "--nologo", "--noversioncheck"]
        command += ["--code", str(CHECKOUT / "tools" / "picture_in_qgis.py")]
        environment = {**os.environ, "QT_QPA_PLATFORM": "xcb", "XDG_RUNTIME_DIR": name}
        environment |= {"SCDM_PICTURE": str(PICTURE), "SCDM_PICTURE_LAYER": str(folder / "rgb.tif")}
        subprocess.run(command, env=environment, timeout=SECONDS, check=False)
    if not PICTURE.exists():
        raise SystemExit("QGIS ended without a picture; its output above says why.")
    print(f"{PICTURE} ({PICTURE.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
