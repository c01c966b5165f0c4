"""The engine client against engines that are slow, chatty, silent, killed, or deaf."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from qgis.core import QgsApplication, QgsProcessingException, QgsProcessingFeedback

from tests.in_qgis.conftest import AT_ONCE_SECONDS

Run = Callable[..., Dict[str, Any]]
FakeEngine = Callable[[str], str]

DONE = "say(event='result', OUTPUT=json.load(open(sys.argv[3]))['output'])"


@pytest.fixture
def demo(plugin: Any, tmp_path: Path) -> Callable[[QgsProcessingFeedback], Dict[str, Any]]:
    """Return a function that runs a job on whatever the engine is, to write `out.tif` in the test's folder."""
    import processing

    def run_demo(feedback: QgsProcessingFeedback) -> Dict[str, Any]:
        parameters = {"OUTPUT": str(tmp_path / "out.tif")}
        return processing.run("scdm:create_demo_scene", parameters, feedback=feedback)

    return run_demo


def failure(demo: Callable[[QgsProcessingFeedback], Any], feedback: QgsProcessingFeedback) -> str:
    with pytest.raises(QgsProcessingException) as caught:
        demo(feedback)
    assert "Traceback" not in feedback.textLog() + str(caught.value)
    return str(caught.value)


def test_events_become_progress_log_and_results(demo: Any, fake_engine: FakeEngine, tmp_path: Path) -> None:
    fake_engine(
        "say(event='hello', python='3.11', torch=None, device=None)\n"
        "say(event='progress', percent=40, message='Half way', seconds_left=150)\n"
        "say(event='log', level='info', message='All is well')\n"
        "say(event='log', level='warning', message='But beware')\n"
        "print('a library prints this')\n" + DONE
    )

    class Feedback(QgsProcessingFeedback):
        texts: List[str] = []

        def setProgressText(self, text: str) -> None:
            self.texts.append(text)

    feedback = Feedback()
    seen: List[float] = []
    feedback.progressChanged.connect(seen.append)
    results = demo(feedback)
    assert results == {"OUTPUT": str(tmp_path / "out.tif")}
    assert 40.0 in seen
    assert feedback.texts == ["Half way (2 min left)"]
    log = feedback.textLog()
    for text in ("Python 3.11", "All is well", "But beware"):
        assert text in log
    assert "a library prints this" not in log


def test_the_job_and_the_environment_are_what_the_engine_needs(
    demo: Any, fake_engine: FakeEngine, tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = {"PYTHONHOME": "/x", "GDAL_DATA": "/x", "PROJ_LIB": "/x", "QGIS_PREFIX_PATH": "/x", "LD_PRELOAD": ""}
    for key, value in {**spoiled, "VIRTUAL_ENV": "/x", "KEPT": "yes"}.items():
        monkeypatch.setenv(key, value)
    seen = tmp_path / "seen.json"
    fake_engine(
        f"json.dump([sys.argv[1:3], sys.argv[4:], json.load(open(sys.argv[3])), dict(os.environ), os.listdir('.')], "
        f"open({str(seen)!r}, 'w'))\n" + DONE
    )
    demo(QgsProcessingFeedback())
    module, options, job, environment, folder = json.loads(seen.read_text())
    assert module == ["-m", "scdm_qgis.engine"] and options == ["--watch-stdin"]
    assert job == {"job": "create_demo_scene", "output": str(tmp_path / "out.tif"), "size": 256, "bands": 48, "seed": 0}
    assert environment["PYTHONPATH"] == str(checkout)
    assert environment["PYTHONIOENCODING"] == "utf-8" and environment["PYTHONSAFEPATH"] == "1"
    assert environment["KEPT"] == "yes"
    assert not {*spoiled, "VIRTUAL_ENV", "PYTHONNOUSERSITE"} & set(environment)
    assert folder == ["job.json"]


def test_the_job_file_is_removed(demo: Any, fake_engine: FakeEngine, tmp_path: Path) -> None:
    seen = tmp_path / "where"
    fake_engine(f"open({str(seen)!r}, 'w').write(os.getcwd())\n" + DONE)
    demo(QgsProcessingFeedback())
    assert not Path(seen.read_text()).exists()


def test_an_error_is_shown_as_message_and_remedy(demo: Any, fake_engine: FakeEngine) -> None:
    fake_engine("say(event='error', message='The cow is blue.', remedy='Paint it.')\nsys.exit(1)")
    assert "The cow is blue. Paint it." in failure(demo, QgsProcessingFeedback())


def test_a_killed_engine_is_explained_and_leaves_nothing(demo: Any, fake_engine: FakeEngine, tmp_path: Path) -> None:
    partial = tmp_path / "out.part.tif"
    fake_engine(f"open({str(partial)!r}, 'w').write('x')\nos.kill(os.getpid(), signal.SIGKILL)")
    said = failure(demo, QgsProcessingFeedback())
    assert "killed by the operating system, most likely because the memory ran out" in said
    assert "smaller TILE_SIZE" in said
    assert not partial.exists() and not (tmp_path / "out.tif").exists()


def test_what_a_killed_engine_can_go_on_with_is_kept_and_named(
    demo: Any, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    partial, journal, half = (tmp_path / f"out.{name}" for name in ("part.tif", "journal.json", "journal.part.json"))
    paths = [str(path) for path in (partial, journal, half)]
    fake_engine(f"for path in {paths}:\n    open(path, 'w').write('x')\nos.kill(os.getpid(), signal.SIGKILL)")
    feedback = QgsProcessingFeedback()
    failure(demo, feedback)
    assert partial.exists() and journal.exists() and not half.exists()
    log = feedback.textLog()
    assert str(partial) in log and str(journal) in log and "run again with RESUME" in log


def test_of_a_temporary_output_nothing_is_kept(plugin: Any, fake_engine: FakeEngine) -> None:
    import processing

    fake_engine(
        "root = os.path.splitext(json.load(open(sys.argv[3]))['output'])[0]\n"
        "for ending in ('.part.tif', '.journal.json'):\n    open(root + ending, 'w').write('x')\n"
        "say(event='error', message=root, remedy='')\nsys.exit(1)"
    )
    with pytest.raises(QgsProcessingException) as caught:
        processing.run("scdm:create_demo_scene", {"OUTPUT": "TEMPORARY_OUTPUT"})
    root = Path(str(caught.value).split()[-1])
    assert root.parent.is_dir() and not list(root.parent.glob(f"{root.name}.*"))


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "The engine crashed (SIGSEGV). Run Check Engine"),
        ("sys.exit(3)", "The engine ended without a result (exit status 3). Run Check Engine"),
        ("raise RuntimeError('boo')", "The engine ended without a result (exit status 1). Run Check Engine"),
        ("sys.exit(0)", "The engine ended without a result (exit status 0). Run Check Engine"),
        ("print('no JSON at all ' * 10, '{', '[1]')", "The engine's answer cannot be understood."),
        (
            "print(json.dumps({'event': 'gossip'}), json.dumps({'event': 7}))",
            "The engine's answer cannot be understood.",
        ),
        ("os.write(1, b'\\xff\\xfe\\x00' * 1000)", "The engine's answer cannot be understood."),
        ("say(event='result', OUTPUT='x')\nsys.exit(1)", "The engine ended without a result (exit status 1)."),
        (
            "say(event='progress', percent='many', message=7, seconds_left='x')\nsay(event='log')\nsay(event='error')",
            "The engine failed.",
        ),
    ],
)
def test_an_engine_that_fails_without_a_word_is_explained(
    demo: Any, fake_engine: FakeEngine, code: str, sentence: str
) -> None:
    fake_engine(code)
    assert sentence in failure(demo, QgsProcessingFeedback())


def test_a_traceback_goes_to_the_developers_log_only(demo: Any, fake_engine: FakeEngine) -> None:
    fake_engine("raise RuntimeError('boo')")
    messages = []
    QgsApplication.messageLog().messageReceived.connect(lambda text, tag, level: messages.append((tag, text)))
    failure(demo, QgsProcessingFeedback())
    assert any(tag == "SCDM" and "RuntimeError: boo" in text for tag, text in messages)


def test_much_output_on_both_streams_blocks_nothing(demo: Any, fake_engine: FakeEngine) -> None:
    fake_engine("for i in range(20000):\n    print('x' * 100)\n    print('y' * 100, file=sys.stderr)\n" + DONE)
    assert demo(QgsProcessingFeedback())["OUTPUT"]


def test_a_grandchild_that_keeps_the_pipe_open_blocks_nothing(demo: Any, fake_engine: FakeEngine) -> None:
    fake_engine("import subprocess\nsubprocess.Popen(['sleep', '20'])\n" + DONE)
    started = time.monotonic()
    assert demo(QgsProcessingFeedback())["OUTPUT"]
    assert time.monotonic() - started < AT_ONCE_SECONDS


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(60)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True:\n    sum(range(1000000))",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.close(1)\nos.close(2)\ntime.sleep(60)",
        "while True:\n    say(event='progress', percent=1, message='on and on')",
        "while True:\n    print('garbage')",
    ],
    ids=["sleeping", "deaf", "deaf with closed output", "chatty", "chatty nonsense"],
)
def test_cancel_ends_the_run_at_once(demo: Any, fake_engine: FakeEngine, tmp_path: Path, code: str) -> None:
    pid_file, partial = tmp_path / "pid", tmp_path / "out.part.tif"
    fake_engine(f"open({str(partial)!r}, 'w').write('x')\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\n{code}")
    feedback = QgsProcessingFeedback()
    cancelled_at = []

    def cancel_once_it_runs() -> None:
        while not (pid_file.exists() and pid_file.read_text()):
            time.sleep(0.02)
        time.sleep(0.3)
        cancelled_at.append(time.monotonic())
        feedback.cancel()

    thread = threading.Thread(target=cancel_once_it_runs)
    thread.start()
    said = failure(demo, feedback)
    waited = time.monotonic() - cancelled_at[0]
    thread.join()
    assert "cancelled" in said
    assert waited < AT_ONCE_SECONDS
    assert not partial.exists() and not (tmp_path / "out.tif").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
