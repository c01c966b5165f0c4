"""A test that lacks what it needs is skipped, but not where CI is set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NEEDS_REAL_SCENES = "tests/engine/test_unlike_input.py::test_the_noise_of_real_scenes_is_compared"


@pytest.mark.parametrize(("ci", "said"), [("", "2 skipped"), ("true", "2 errors")])
def test_skipping_is_failing_where_everything_is_there(checkout: Path, tmp_path: Path, ci: str, said: str) -> None:
    environment = {**os.environ, "SCDM_TEST_DATA": str(tmp_path / "nowhere"), "CI": ci}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rfs", NEEDS_REAL_SCENES]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=120)
    assert said in done.stdout, done.stdout + done.stderr
    assert "set SCDM_TEST_DATA to the folder that holds it" in done.stdout
