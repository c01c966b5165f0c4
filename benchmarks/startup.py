"""How long a user waits for the first tile, and how much longer QGIS takes to start with the plugin.

The first tile counts as done when a progress event says that as much is done as the first batch of every thread.
Measured are the engine alone, started as the plugin starts it, in parts, and Run inside a QGIS without a window:
checking the parameters, finding the engine's Python, starting it and all the rest. Every start is a process of its
own.

QGIS starts with and without the plugin in turns. What loading the plugin adds is timed inside the process, import
included, once with the bytecode that Python keeps from the first start on, and once without, as after an update. The
times of whole processes of qgis_process, which vary by more than the plugin takes, are a check on that.

    python -m benchmarks.startup [--starts 7] [--qgis-starts 9] [--side 1024]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, List, Sequence

import torch

from benchmarks.io import prepare
from scdm_qgis.core.cascade import Cascade
from scdm_qgis.engine.batch_size import enough_tiles
from scdm_qgis.engine.events import EventWriter, parse_event
from scdm_qgis.engine.jobs import RgbToHyperspectral
from scdm_qgis.engine.tile_batches import plan_batches
from scdm_qgis.engine.tiling import choose_tiling
from scdm_qgis.processing.child_process import child_environment
from scdm_qgis.raster.cube import open_cube
from tools.build_plugin import build

TARGET_SECONDS = 6.0
"""The first tile should be done by then, on two cores."""

TARGET_MILLISECONDS = 50.0
"""What the plugin should add to QGIS's start at most."""

QGIS_PROCESS = "/usr/bin/qgis_process.bin"

OPEN_QGIS = """
import sys, time
sys.path[:0] = ["/usr/share/qgis/python/plugins", "/usr/share/qgis/python", sys.argv[1]]
from qgis.core import QgsApplication
application = QgsApplication([], False)
application.initQgis()
from processing.core.Processing import Processing
Processing.initialize()
"""

LOAD_PLUGIN = """
started = time.perf_counter()
import scdm_qgis
plugin = scdm_qgis.classFactory(None)
plugin.initProcessing()
plugin.initGui()
loaded = time.perf_counter() - started
"""

SAY_LOADED = """
import os
print(loaded, flush=True)
os._exit(0)
"""

RUN = """
import json, os, processing
from qgis.core import QgsProcessingException, QgsProcessingFeedback
feedback, wanted, parameters = QgsProcessingFeedback(), float(sys.argv[2]), json.loads(sys.argv[3])

def progressed(percent):
    if percent >= wanted and not feedback.isCanceled():
        print(time.perf_counter() - started, flush=True)
        feedback.cancel()

feedback.progressChanged.connect(progressed)
started = time.perf_counter()
try:
    processing.run("scdm:rgb_to_hyperspectral", parameters, feedback=feedback)
except QgsProcessingException:
    pass
os._exit(0)
"""


def first_batch_percent(job: RgbToHyperspectral) -> float:
    """Return how far a job is when the first batch of every thread is done, in percent."""
    header = Cascade.load(job.model).header
    with open_cube(job.input) as cube:
        tiling = choose_tiling(job, cube, header)
    size = enough_tiles("cpu", tiling.lattice.tile_size, threads=1)
    batches = plan_batches(tiling.lattice, tiling.window, 0, lambda: size)
    return 100 * sum(len(next(batches)) for _ in range(torch.get_num_threads())) / tiling.tile_count


def environment() -> Dict[str, str]:
    """Return what a child of QGIS sees of the environment: nothing that is Python's, so bytecode is kept."""
    return {**child_environment(), "SCDM_ENGINE_PYTHON": sys.executable, "QT_QPA_PLATFORM": "offscreen"}


def time_engine(job_file: str, percent: float, folder: str) -> Dict[str, float]:
    """Start the engine on a job; return the seconds until each of the marks it passes."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "scdm_qgis.engine", job_file, "--watch-stdin"]
    pipe = subprocess.PIPE
    marks: Dict[str, float] = {}
    with subprocess.Popen(command, cwd=folder, env=environment(), stdin=pipe, stdout=pipe, text=True) as engine:
        for line in engine.stdout or ():
            event = parse_event(line) or {}
            now = time.perf_counter() - started
            if event.get("event") == "hello":
                marks["libraries loaded"] = now
            elif event.get("event") == "log":
                marks.setdefault("model loaded, input checked", now)
            elif event.get("event") == "progress" and event["percent"] >= percent:
                marks["first tile done"] = now
                break
        engine.kill()
    return marks


def time_child(code: str, *arguments: str) -> float:
    """Run code in a fresh Python and return the seconds it prints, or those it takes where it prints none."""
    started = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment(), check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    return float(done.stdout.split()[-1]) if done.stdout.strip() else seconds


def print_median(what: str, seconds: Sequence[float], unit: float = 1.0, digits: int = 2) -> float:
    """Print a line of a table, the median and the range, and return the median in the unit."""
    values = sorted(value * unit for value in seconds)
    median = statistics.median(values)
    print(f"| {what} | {median:.{digits}f} | {values[0]:.{digits}f} to {values[-1]:.{digits}f} |", flush=True)
    return median


def measure_first_tile(folder: str, plugins: str, side: int, starts: int) -> None:
    """Print what the way to the first tile takes."""
    job = replace(prepare(folder, side, EventWriter(io.StringIO())), precision="auto", device="auto")
    job_file, percent = os.path.join(folder, "job.json"), first_batch_percent(job)
    with open(job_file, "w", encoding="utf-8") as file:
        json.dump(job.to_json(), file)
    parameters = json.dumps({"INPUT": job.input, "MODEL": job.model, "OUTPUT": job.output})
    rows: Dict[str, List[float]] = {}
    for _ in range(starts + 1):  # the first fills the disk's cache and is left out
        rows.setdefault("Python alone", []).append(time_child("pass"))
        rows.setdefault("Python and torch", []).append(time_child("import os, torch; os._exit(0)"))
        for mark, seconds in time_engine(job_file, percent, folder).items():
            rows.setdefault(mark, []).append(seconds)
        pressed = time_child(OPEN_QGIS + LOAD_PLUGIN + RUN, plugins, str(percent), parameters)
        rows.setdefault("first tile done, from pressing Run in QGIS", []).append(pressed)
    print("| since the start | median, s | range, s |\n|---|---|---|")
    medians = {what: print_median(what, seconds[1:]) for what, seconds in rows.items()}
    worst = max(seconds for what, seconds in medians.items() if what.startswith("first tile"))
    print(f"\n{worst:.2f} s until the first tile; no more than {TARGET_SECONDS:g} are wanted.\n")


def measure_qgis(folder: str, plugins: str, starts: int) -> None:
    """Print what the plugin adds to the start of QGIS."""
    profiles = {enabled: _profile(os.path.join(folder, enabled), plugins, enabled) for enabled in ("true", "false")}

    def loading(path: str) -> float:
        return time_child(OPEN_QGIS + LOAD_PLUGIN + SAY_LOADED, path)

    def whole(enabled: str) -> float:
        started = time.perf_counter()
        variables = {**environment(), "QGIS_CUSTOM_CONFIG_PATH": profiles[enabled]}
        subprocess.run([QGIS_PROCESS, "list"], env=variables, check=True, capture_output=True)
        return time.perf_counter() - started

    def without_bytecode() -> float:
        with tempfile.TemporaryDirectory() as fresh:
            shutil.copytree(plugins, fresh, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            return loading(fresh)

    cases: Dict[str, Callable[[], float]] = {
        "the plugin": lambda: loading(plugins),
        "the plugin, without bytecode": without_bytecode,
        "qgis_process list with it": lambda: whole("true"),
        "qgis_process list without it": lambda: whole("false"),
    }
    rows: Dict[str, List[float]] = {what: [] for what in cases}
    for _ in range(starts + 1):
        for what, measure in cases.items():
            rows[what].append(measure())
    print("| loading | median, ms | range, ms |\n|---|---|---|")
    medians = {what: print_median(what, seconds[1:], 1000, 0) for what, seconds in rows.items()}
    added = medians["qgis_process list with it"] - medians["qgis_process list without it"]
    print(f"\nThe plugin adds {medians['the plugin']:.0f} ms; no more than {TARGET_MILLISECONDS:.0f} are wanted.")
    print(f"Whole processes differ by {added:.0f} ms.")


def _profile(folder: str, plugins: str, enabled: str) -> str:
    """Make a QGIS configuration whose default profile has the plugin, enabled or not; return its folder."""
    profile = os.path.join(folder, "profiles", "default")
    os.makedirs(os.path.join(profile, "python"))
    os.makedirs(os.path.join(profile, "QGIS"))
    os.symlink(plugins, os.path.join(profile, "python", "plugins"))
    with open(os.path.join(profile, "QGIS", "QGIS3.ini"), "w", encoding="utf-8") as file:
        file.write(f"[PythonPlugins]\nprocessing=true\nscdm_qgis={enabled}\n")
    return folder


def main() -> None:
    """Build the plugin, then measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=7, help="of a job")
    parser.add_argument("--qgis-starts", type=int, default=9)
    parser.add_argument("--side", type=int, default=1024, help="rows and columns of the job's raster")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plugins = os.path.join(folder, "plugins")
        os.mkdir(plugins)
        build(Path(plugins) / "scdm_qgis")
        measure_first_tile(folder, plugins, options.side, options.starts)
        measure_qgis(folder, plugins, options.qgis_starts)


if __name__ == "__main__":
    main()
