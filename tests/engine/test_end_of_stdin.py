import ctypes
import os
import subprocess
import sys
import types

from scdm_qgis.engine import end_of_stdin


def test_it_waits_until_the_pipe_is_closed():
    code = "from scdm_qgis.engine.end_of_stdin import *; wait_for_end_of_stdin(); print('ended')"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.stdin.write("what nobody asked for")
    child.stdin.flush()
    try:
        child.wait(0.5)
    except subprocess.TimeoutExpired:
        assert child.communicate(timeout=60)[0] == "ended\n"
    else:
        raise AssertionError("it did not wait")


def test_on_windows_the_pipe_is_never_read(monkeypatch):
    """Whatever looks at standard input while somebody reads from it would wait there."""
    asked, answers = [], iter([1, 1, 0])

    def peek(pipe, *others):
        asked.append(pipe.value)
        return next(answers)

    kernel = types.SimpleNamespace(PeekNamedPipe=peek)
    monkeypatch.setattr(ctypes, "windll", types.SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(get_osfhandle=lambda descriptor: 70 + descriptor))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "read", None)
    monkeypatch.setattr(end_of_stdin, "POLL_SECONDS", 0.0)
    end_of_stdin.wait_for_end_of_stdin()
    assert asked == [70, 70, 70]
