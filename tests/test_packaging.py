"""What is shipped: the built plugin, its zip, its metadata, its icons, and the pins it is made with."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata as distributions
from pathlib import Path
from typing import Dict, Iterator, Set

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from qgis.PyQt.QtSvg import QSvgRenderer

from scdm_qgis.engine.version import VERSION
from tools import package
from tools.build_plugin import build

ICONS = {"plugin", "data", "training", "reconstruction", "evaluation", "engine", "profile"}


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a freshly built plugin folder."""
    target = tmp_path_factory.mktemp("build") / "scdm_qgis"
    build(target)
    return target


@pytest.fixture
def archive(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a freshly written zip of the plugin."""
    monkeypatch.setattr(package, "PLUGIN", plugin)
    path = tmp_path / "dist" / "scdm_qgis.zip"
    package.write_zip(path)
    return path


@pytest.fixture(scope="module")
def fields(checkout: Path) -> Dict[str, str]:
    """Return the fields of metadata.txt."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(checkout / "metadata.txt", encoding="utf-8")
    return dict(parser["general"])


def test_build_holds_the_package_and_what_qgis_needs_beside_it(plugin: Path, checkout: Path) -> None:
    package_files = {
        file.relative_to(checkout / "scdm_qgis").as_posix()
        for file in (checkout / "scdm_qgis").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    icons = {f"icons/{name}.svg" for name in ICONS}
    built = {file.relative_to(plugin).as_posix() for file in plugin.rglob("*") if not file.is_dir()}
    assert built == package_files | icons | {"metadata.txt", "LICENSE", "requirements.txt"}


def test_build_holds_copies_and_no_links_or_hidden_files(plugin: Path) -> None:
    for file in plugin.rglob("*"):
        assert not file.is_symlink()
        assert not file.name.startswith(".")
        assert file.name != "__pycache__"


def test_building_again_removes_files_that_are_no_longer_there(plugin: Path) -> None:
    (plugin / "left_over.py").write_text("")
    build(plugin)
    assert not (plugin / "left_over.py").exists()
    assert (plugin / "metadata.txt").exists()


def test_zip_is_what_the_plugin_site_takes(archive: Path, plugin: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        names = zipped.namelist()
        assert zipped.testzip() is None
        executable = [entry.filename for entry in zipped.infolist() if entry.external_attr >> 16 & 0o111]
        licence = zipped.read("scdm_qgis/LICENSE").decode()
    assert {name.split("/")[0] for name in names} == {"scdm_qgis"}
    assert {"scdm_qgis/__init__.py", "scdm_qgis/metadata.txt", "scdm_qgis/icons/plugin.svg"} <= set(names)
    assert "GNU GENERAL PUBLIC LICENSE" in licence and "Version 2, June 1991" in licence
    assert executable == []
    assert {Path(name).suffix for name in names} <= {".py", ".svg", ".txt", ".model3", ".html", ".j2", ""}
    assert archive.stat().st_size < 1_000_000


def test_zip_of_the_same_sources_is_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    os.utime(package.PLUGIN / "metadata.txt")
    package.write_zip(again)
    assert again.read_bytes() == archive.read_bytes()


def test_metadata_has_every_field_the_plugin_site_asks_for(fields: Dict[str, str], checkout: Path) -> None:
    for field in ("name", "description", "about", "author", "license", "tags"):
        assert fields[field].strip(), field
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert fields["version"] == VERSION  # what model files say they were made with
    assert fields["qgisminimumversion"] == "3.22"
    assert fields["qgismaximumversion"] == "4.99"
    assert fields["hasprocessingprovider"] == "yes"
    assert (checkout / fields["icon"]).is_file()
    assert "External dependencies" in fields["about"] and "torch" in fields["about"]


def test_what_only_the_publisher_knows_is_left_empty(fields: Dict[str, str]) -> None:
    assert [fields[field] for field in ("email", "tracker", "repository")] == ["", "", ""]


def test_resources_list_exactly_the_icons(checkout: Path) -> None:
    listed = re.findall(r"<file>icons/(\w+)\.svg</file>", (checkout / "resources.qrc").read_text())
    assert len(listed) == len(ICONS)
    assert set(listed) == ICONS == {icon.stem for icon in (checkout / "icons").iterdir()}


def test_resources_compile_and_load_through_qgis(checkout: Path, tmp_path: Path) -> None:
    compiled = tmp_path / "resources_rc.py"
    subprocess.run(["/usr/bin/pyrcc5", "-o", str(compiled), str(checkout / "resources.qrc")], check=True)
    compiled.write_text(compiled.read_text().replace("from PyQt5 import", "from qgis.PyQt import"))
    check = (
        "import resources_rc\n"
        "from qgis.PyQt.QtCore import QFile\n"
        "print(QFile.exists(':/plugins/scdm_qgis/icons/plugin.svg'))"
    )
    ran = subprocess.run([sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "True"


@pytest.mark.parametrize("name", sorted(ICONS))
def test_icon_is_a_small_drawing(name: str, checkout: Path) -> None:
    path = checkout / "icons" / f"{name}.svg"
    renderer = QSvgRenderer(str(path))
    assert renderer.isValid()
    assert renderer.defaultSize().width() == renderer.defaultSize().height() == 24
    assert path.stat().st_size < 4000


def _requirements(path: Path) -> Iterator[Requirement]:
    for line in path.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line and not line.startswith("-"):
            yield Requirement(line)


def _installed_closure(requirements: Iterator[Requirement]) -> Set[str]:
    """Return what is installed because of these requirements, they and theirs."""
    found: Set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if name not in found and applies:
            found.add(name)
            waiting += [Requirement(text) for text in distributions.distribution(name).requires or ()]
    return found


def test_every_installed_dependency_is_pinned_to_the_version_in_use(checkout: Path) -> None:
    pins = {canonicalize_name(pin.name): pin for pin in _requirements(checkout / "constraints.txt")}
    direct = [*_requirements(checkout / "requirements.txt"), *_requirements(checkout / "requirements-dev.txt")]
    for requirement in [*direct, *pins.values()]:
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
    installed = _installed_closure(iter(direct))
    # GPU builds of torch bring CUDA packages, whose exact versions torch itself states.
    missing = {name for name in installed - set(pins) if not name.startswith(("nvidia-", "cuda-", "triton"))}
    assert missing == set()
    for name in installed & set(pins):
        assert pins[name].specifier.contains(distributions.version(name)), name


def test_installed_plugin_shows_its_algorithms_in_qgis_process(tmp_path: Path, checkout: Path) -> None:
    build(checkout / "build" / "scdm_qgis")
    environment = {**os.environ, "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path)}
    environment.pop("QGIS_OPTIONS_PATH", None)  # pytest-qgis points it at its own profile
    subprocess.run([sys.executable, "-m", "tools.install_plugin"], cwd=checkout, env=environment, check=True)
    listed = subprocess.run(
        ["/usr/bin/qgis_process.bin", "list"], env=environment, capture_output=True, text=True, check=True
    )
    assert "scdm:rgb_to_hyperspectral" in listed.stdout
    assert "scdm:check_engine" in listed.stdout
