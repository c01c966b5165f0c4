import os

import pytest

from scdm_qgis.core import whole_file
from scdm_qgis.core.whole_file import partial_path, written_whole


@pytest.fixture
def held(monkeypatch):
    """Return a function that has another program hold files for so many renamings; it returns those refused."""

    def hold(times, platform):
        replace, refused = os.replace, []

        def refuse(source, target):
            if len(refused) < times:
                refused.append(target)
                raise PermissionError(13, "in use", target)
            replace(source, target)

        monkeypatch.setattr(whole_file.os, "replace", refuse)
        monkeypatch.setattr(whole_file.os, "name", platform)
        monkeypatch.setattr(whole_file, "RENAMING_AGAIN_SECONDS", (0.0, 0.0))
        return refused

    return hold


def write(path):
    with written_whole(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write("new")


def test_a_file_is_renamed_once_windows_lets_it_be(tmp_path, held):
    path = str(tmp_path / "a.json")
    refused = held(2, "nt")
    write(path)
    assert refused == [path, path]
    with open(path, encoding="utf-8") as file:
        assert file.read() == "new"


@pytest.mark.parametrize(("times", "platform"), [(3, "nt"), (1, "posix")])
def test_a_file_that_stays_in_use_is_an_error_and_nothing_is_left(tmp_path, held, times, platform):
    path = str(tmp_path / "a.json")
    refused = held(times, platform)
    with pytest.raises(PermissionError):
        write(path)
    assert len(refused) == times
    assert not os.path.exists(path)
    assert not os.path.exists(partial_path(path))
