"""Take the pictures of the real QGIS in README and docs, on a virtual screen and with a profile made for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict

from qgis.PyQt.QtCore import QSettings

from scdm_qgis.engine.jobs import (
    AssembleCascade,
    CreateDemoScene,
    Job,
    RgbToHyperspectral,
    SimulateRgb,
    TrainCascadeStage,
)
from tools.install_plugin import install

CHECKOUT = Path(__file__).resolve().parent.parent
IMAGES = CHECKOUT / "docs" / "images"
TOOLBOX = "toolbox_and_dialog.png"
PROFILE = ("spectral_profile_hover.png", "spectral_profile_pins.png")
SCREEN = "1600x900x24"
SECONDS = 180
SCENES = Path(os.environ.get("SCDM_TEST_DATA") or CHECKOUT.parent / "shared") / "scenes"
ITERATIONS = 150  # a stage: enough for spectra that look like spectra
DRAWS = 4


def prepare_profile(profile: Path) -> None:
    """Install the plugin into a new profile in which nothing but QGIS's window opens at the start."""
    install(profile, sys.executable)
    settings = QSettings(str(profile / "QGIS" / "QGIS3.ini"), QSettings.Format.IniFormat)
    settings.setValue("PythonPlugins/processing", True)
    settings.setValue("qgis/showTips322", False)
    settings.setValue("qgis/checkVersion", False)
    settings.sync()


def run_job(job: Job, folder: Path) -> None:
    """Run one engine job in a process of its own."""
    job_file = folder / "job.json"
    job_file.write_text(json.dumps(job.to_json()), encoding="utf-8")
    command = [sys.executable, "-m", "scdm_qgis.engine", str(job_file)]
    subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, check=True)


def reconstruct_scene(folder: Path) -> None:
    """Write folder/truth.tif, prediction.tif, coarse.tif and uncertainty.tif, by a cascade trained for a minute."""
    truth, rgb, cascade = folder / "truth.tif", str(folder / "rgb.tif"), str(folder / "cascade.safetensors")
    shutil.copyfile(SCENES / "pavia_university_test.tif", truth)
    stages = [str(folder / f"stage{stage}.safetensors") for stage in (1, 2)]
    scene = str(SCENES / "pavia_university_train.tif")
    for stage, path in enumerate(stages, start=1):
        run_job(TrainCascadeStage([scene], stage, path, iterations=ITERATIONS), folder)
    run_job(AssembleCascade(stages, cascade), folder)
    run_job(SimulateRgb(str(truth), rgb), folder)
    others = {name: str(folder / f"{name}.tif") for name in ("coarse", "uncertainty")}
    run_job(
        RgbToHyperspectral(
            rgb,
            cascade,
            str(folder / "prediction.tif"),
            samples=DRAWS,
            coarse_output=others["coarse"],
            uncertainty=others["uncertainty"],
        ),
        folder,
    )


def start_qgis(folder: Path, script: str, settings: Dict[str, str]) -> None:
    """Start QGIS with a script that takes pictures and ends it."""
    command = ["xvfb-run", "--auto-servernum", "--server-args", f"-screen 0 {SCREEN}"]
    command += ["sh", "-c", 'openbox & exec "$@"', "sh"]  # a window manager, for title bars
    command += ["/usr/bin/qgis.bin", "--profiles-path", str(folder), "--nologo", "--noversioncheck"]
    command += ["--code", str(CHECKOUT / "tools" / script)]
    environment = {**os.environ, "QT_QPA_PLATFORM": "xcb", "XDG_RUNTIME_DIR": str(folder), **settings}
    subprocess.run(command, env=environment, timeout=SECONDS, check=False)


def keep(taken: Path) -> None:
    """Put a picture into the docs."""
    if not taken.exists():
        raise SystemExit("QGIS ended without a picture; its output above says why.")
    shutil.copyfile(taken, IMAGES / taken.name)
    print(f"{IMAGES / taken.name} ({taken.stat().st_size / 1000:.0f} kB)")


def main() -> None:
    """Take the picture of Toolbox and dialog, then, where the real scenes are, those of the profile dock.

    SCDM_ALL_PICTURES names a folder that gets the pictures of all steps of the dock, and what it exports.
    """
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_profile(folder / "profiles" / "default")
        rgb = str(folder / "rgb.tif")
        run_job(CreateDemoScene(output=str(folder / "scene.tif"), rgb_output=rgb, seed=2), folder)
        picture = folder / TOOLBOX
        start_qgis(folder, "picture_in_qgis.py", {"SCDM_PICTURE": str(picture), "SCDM_PICTURE_LAYER": rgb})
        keep(picture)
        if not SCENES.is_dir():
            print(f"No real scenes in '{SCENES}': the pictures of the profile dock stay as they are.")
            return
        reconstruct_scene(folder)
        pictures = Path(os.environ.get("SCDM_ALL_PICTURES") or folder / "pictures")
        pictures.mkdir(exist_ok=True)
        start_qgis(folder, "profile_in_qgis.py", {"SCDM_PICTURES": str(pictures), "SCDM_RASTERS": str(folder)})
        for taken in PROFILE:
            keep(pictures / taken)


if __name__ == "__main__":
    main()
