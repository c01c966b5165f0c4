"""The engine as a process: events on standard output, exit status, cancel."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture
def start(tmp_path, checkout):
    """Return a function that starts the engine on a job; whatever is left is killed at the end."""
    processes = []

    def start_engine(job, *arguments, python=sys.executable):
        file = tmp_path / "job.json"
        file.write_text(job if isinstance(job, str) else json.dumps(job))
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        command = [python, "-m", "scdm_qgis.engine", str(file), *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, env=environment, text=True, **pipes)
        processes.append(process)
        return process

    yield start_engine
    for process in processes:
        process.kill()
        process.communicate()


def finish(process):
    """Return exit status, events and standard error."""
    output, errors = process.communicate(timeout=120)
    return process.returncode, [json.loads(line) for line in output.splitlines()], errors


def long_training(tmp_path, make_cube):
    return {
        "job": "train_cascade_stage",
        "inputs": [make_cube()],
        "stage": 1,
        "iterations": 1_000_000,
        "device": "cpu",
        "output": str(tmp_path / "stage.safetensors"),
    }


def wait_until_it_trains(process):
    for line in process.stdout:
        if "Iteration" in json.loads(line).get("message", ""):
            return
    raise AssertionError(process.stderr.read())


def test_a_job_from_hello_to_result(start, tmp_path):
    status, events, _ = finish(start({"job": "create_demo_scene", "output": str(tmp_path / "s.tif"), "size": 32}))
    assert status == 0
    assert events[0] == {"event": "hello", "python": events[0]["python"], "torch": None, "device": None}
    assert events[-1]["event"] == "result"
    assert events[-1]["OUTPUT"] == str(tmp_path / "s.tif")
    assert (tmp_path / "s.tif").is_file()


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_job_alone_reports_whatever_its_launcher_calls_it(start, tmp_path, monkeypatch, mark):
    """Some launchers number all they start; PowerShell begins files with a mark."""
    monkeypatch.setenv("RANK", "1")
    job = {"job": "create_demo_scene", "output": str(tmp_path / "s.tif"), "size": 32}
    status, events, _ = finish(start(mark + json.dumps(job)))
    assert (status, events[-1]["event"]) == (0, "result")


def test_torch_jobs_name_torch_and_device(start, tmp_path):
    Path(tmp_path / "s.safetensors").write_bytes(b"nothing")
    job = {
        "job": "assemble_cascade",
        "stage_files": [str(tmp_path / "s.safetensors")],
        "output": str(tmp_path / "c.st"),
    }
    status, events, errors = finish(start(job))
    assert status == 1
    assert events[0]["torch"].startswith("2.")
    assert events[0]["device"] == "cpu"
    assert "not a model file" in events[-1]["message"]
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        ("{", "not valid JSON"),
        ({"job": "dance"}, "no known job"),
        ({"job": "create_demo_scene"}, "OUTPUT is missing"),
        ({"job": "create_demo_scene", "output": "x.tif", "colour": 1}, "unknown parameter 'colour'"),
        ({"job": "create_demo_scene", "output": "/no/such/folder/x.tif"}, "does not exist"),
        ({"job": "simulate_rgb", "input": "/no/such.tif", "output": "x.tif"}, "does not exist"),
        ({"job": "create_demo_scene", "output": "x.tif", "size": -3}, "SIZE is -3"),
    ],
)
def test_bad_jobs_say_what_to_do(start, job, sentence):
    status, events, errors = finish(start(job))
    assert status == 1
    assert [event["event"] for event in events] == ["error"]
    assert sentence in events[0]["message"]
    assert events[0]["remedy"]
    assert "Traceback" not in errors


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_signals_cancel_and_leave_nothing(start, tmp_path, make_cube, kind):
    process = start(long_training(tmp_path, make_cube))
    wait_until_it_trains(process)
    process.send_signal(kind)
    assert finish(process)[0] == 130
    assert sorted(os.listdir(tmp_path)) == ["cube.tif", "job.json"]


def test_the_end_of_standard_input_cancels(start, tmp_path, make_cube):
    """How the engine notices that QGIS has died."""
    process = start(long_training(tmp_path, make_cube), "--watch-stdin")
    wait_until_it_trains(process)
    process.stdin.close()
    process.stdin = None
    assert finish(process)[0] == 130
    assert sorted(os.listdir(tmp_path)) == ["cube.tif", "job.json"]


def test_the_end_of_standard_input_cancels_while_threads_compute(start, tmp_path, make_cube, regressions_only):
    """The main thread waits for them then, and a wait for another thread may go on regardless of signals."""
    job = {
        "job": "rgb_to_hyperspectral",
        "input": make_cube(),
        "model": regressions_only,
        "output": str(tmp_path / "out.tif"),
        "rgb_bands": "5,3,2",
        "samples": 1000,
        "steps": 100,
        "device": "cpu",
    }
    process = start(job, "--watch-stdin")
    for line in process.stdout:
        if json.loads(line)["event"] == "progress":
            break
    process.stdin.close()
    process.stdin = None
    assert finish(process)[0] == 130
    assert not [name for name in os.listdir(tmp_path) if name.startswith("out")]


def test_a_finished_job_does_not_wait_for_standard_input(start, tmp_path):
    process = start({"job": "create_demo_scene", "output": str(tmp_path / "s.tif"), "size": 32}, "--watch-stdin")
    for _ in range(600):
        if process.poll() is not None:
            break
        time.sleep(0.1)
    assert process.poll() == 0


def test_a_python_without_torch_says_what_to_install(start, tmp_path, make_cube):
    """The system's Python here has neither torch nor rasterio."""
    status, events, _ = finish(start(long_training(tmp_path, make_cube), python="/usr/bin/python3"))
    assert status == 1
    assert "lacks rasterio and torch and safetensors" in events[-1]["message"]
    assert "/usr/bin/python3" in events[-1]["remedy"]
    assert "-m pip install" in events[-1]["remedy"]


def test_prints_of_libraries_stay_off_standard_output(checkout):
    code = "from scdm_qgis.engine import __main__ as m; s = m._take_over_stdout(); print('chatter'); s.write('event')"
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "event"
    assert "chatter" in done.stderr
