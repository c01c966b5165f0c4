import io
import json
import math

from scdm_qgis.engine.events import EventWriter, parse_event
from scdm_qgis.engine.progress import Progress


def test_events_are_lines_that_parse_back():
    stream = io.StringIO()
    events = EventWriter(stream)
    events.hello("3.11", None, None)
    events.progress(12.5, "Grüße\nzwei Zeilen", 3.0)
    events.warning("careful")
    events.result({"OUTPUT": "a.tif", "RMSE": math.nan, "LIST": [1.0, math.inf]})
    events.error("wrong", "do this")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    parsed = [parse_event(line) for line in lines]
    assert [event["event"] for event in parsed] == ["hello", "progress", "log", "result", "error"]
    assert parsed[1]["message"] == "Grüße\nzwei Zeilen"
    assert parsed[3] == {"event": "result", "OUTPUT": "a.tif", "RMSE": None, "LIST": [1.0, None]}


def test_other_lines_are_no_events():
    for line in ("", "hello", "[1]", '{"event": "dance"}', "{", "null"):
        assert parse_event(line) is None


def test_progress_reaches_its_end_once_all_is_done(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(EventWriter(stream), 10, first_percent=20, last_percent=60)
    for _ in range(10):
        clock[0] += 1
        progress.advance(1, "working")
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["percent"] for event in events] == [20 + 4 * n for n in range(1, 11)]
    assert events[0]["seconds_left"] is None
    assert events[4]["seconds_left"] == 5
    assert events[-1]["seconds_left"] == 0


def test_frequent_progress_is_thinned_out(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(EventWriter(stream), 1000)
    for _ in range(1000):
        clock[0] += 0.001
        progress.advance(1, "working")
    assert len(stream.getvalue().splitlines()) < 10
