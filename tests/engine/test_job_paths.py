"""Which file is behind a name of GDAL's."""

from __future__ import annotations

import pytest

from scdm_qgis.engine.job_paths import file_behind

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
