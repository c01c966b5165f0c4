"""Which names are of one file, and which file is behind a name of GDAL's."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from scdm_qgis.core.errors import UserError
from scdm_qgis.engine.job_paths import check_output, file_behind

NAMES = (
    "{path}",
    "/vsizip/{path}/a.tif",
    "/vsizip/{path}/b/a.tif",
    "/vsizip/{{{path}}}/a.tif",
    "/vsitar//vsigzip/{path}",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_archive_is_behind_what_it_holds(tmp_path, name):
    path = tmp_path / "archive.zip"
    path.touch()
    assert file_behind(name.format(path=path)) == str(path)


def test_nothing_is_behind_a_name_without_a_file():
    assert file_behind("/vsimem/a.tif") is None


@pytest.mark.parametrize(("platform", "same"), [("darwin", True), ("linux", False)])
def test_names_that_differ_in_case_are_one_file_on_macos(tmp_path, monkeypatch, platform, same):
    monkeypatch.setattr("sys.platform", platform)
    source = tmp_path / "Scène.tif"
    source.write_bytes(b"x")
    output = str(tmp_path / "sce\u0300ne.TIF")
    with pytest.raises(UserError, match="is also an input") if same else nullcontext():
        check_output(output, [str(source)])


def test_an_output_in_a_folder_without_permission_is_refused():
    with pytest.raises(UserError, match="The folder '/proc/self' cannot be written to"):
        check_output("/proc/self/out.tif", [])
