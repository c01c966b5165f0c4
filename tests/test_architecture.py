"""What the sources must never do, read from their syntax trees, and what QGIS's Python must be able to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator, List, Tuple

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = CHECKOUT / "scdm_qgis"
SOURCES = sorted(PACKAGE.rglob("*.py"))
QGIS_SIDE = sorted(
    [
        PACKAGE / "__init__.py",
        PACKAGE / "plugin.py",
        *(PACKAGE / "processing").rglob("*.py"),
        *(PACKAGE / "profile").rglob("*.py"),
    ]
)
PLOT = PACKAGE / "profile" / "plot.py"
"""The one file that needs pyqtgraph; who imports it does without where that is missing."""

SHARED_WITH_QGIS = (
    "scdm_qgis.core.bands",
    "scdm_qgis.core.cascade_header",
    "scdm_qgis.core.errors",
    "scdm_qgis.core.metrics",
    "scdm_qgis.core.presets",
    "scdm_qgis.core.whole_file",
    "scdm_qgis.engine.events",
    "scdm_qgis.engine.job_values",
    "scdm_qgis.engine.jobs",
    "scdm_qgis.raster.spectral",
)
"""What the QGIS side may import from the other rooms: all of it runs without torch and rasterio."""

ALLOWED_ON_THE_QGIS_SIDE = {"qgis", "osgeo", "numpy", "processing"} | set(sys.stdlib_module_names)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(CHECKOUT)}:{getattr(node, 'lineno', 0)}"


def _imported_modules(path: Path) -> Iterator[Tuple[ast.AST, str]]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = ".".join(path.relative_to(CHECKOUT).parts[: -node.level]) + (f".{module}" if module else "")
            yield node, module


def _found(paths: List[Path], wrong: Callable[[ast.AST], bool]) -> List[str]:
    return [_place(path, node) for path in paths for node in ast.walk(_tree(path)) if wrong(node)]


def _called_name(node: ast.AST) -> str:
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def test_the_rooms_are_there() -> None:
    assert len(QGIS_SIDE) > 5
    assert {path.parent.name for path in SOURCES} >= {"core", "raster", "engine", "processing", "profile"}


def test_the_qgis_side_imports_only_what_every_qgis_has() -> None:
    outside = [
        f"{_place(path, node)} {module}"
        for path in QGIS_SIDE
        for node, module in _imported_modules(path)
        if module.split(".")[0] not in ALLOWED_ON_THE_QGIS_SIDE | {"scdm_qgis"}
        and (path, module.split(".")[0]) != (PLOT, "pyqtgraph")
    ]
    assert outside == []


def test_the_qgis_side_takes_only_light_modules_from_the_other_rooms() -> None:
    def allowed(module: str) -> bool:
        own = ("scdm_qgis.processing", "scdm_qgis.profile", "scdm_qgis.plugin")
        return module in SHARED_WITH_QGIS or module.startswith(own)

    wrong = [
        f"{_place(path, node)} {module}"
        for path in QGIS_SIDE
        for node, module in _imported_modules(path)
        if module.split(".")[0] == "scdm_qgis" and not allowed(module)
    ]
    assert wrong == []


def test_what_both_sides_share_imports_without_the_engines_packages() -> None:
    blocked = ("torch", "rasterio", "safetensors", "h5py", "matplotlib", "qgis", "osgeo")
    check = "\n".join(
        [
            "import sys",
            *(f"sys.modules[{name!r}] = None" for name in blocked),
            *(f"import {module}" for module in SHARED_WITH_QGIS),
        ]
    )
    subprocess.run([sys.executable, "-c", check], cwd=CHECKOUT, check=True)


def test_what_qgis_imports_is_python_3_9() -> None:
    shared = [CHECKOUT / (module.replace(".", "/") + ".py") for module in SHARED_WITH_QGIS]
    for path in [*QGIS_SIDE, *shared]:
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 9))


def test_the_qgis_side_leaves_the_import_path_and_the_environment_alone() -> None:
    def changes(node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path":
            return True
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
            return ast.unparse(node.value) == "os.environ"
        changing = ("os.environ.update", "os.environ.pop", "os.environ.setdefault", "os.environ.clear", "os.putenv")
        return _called_name(node) in changing

    assert _found(QGIS_SIDE, changes) == []


def test_qt_is_imported_through_qgis() -> None:
    direct = [
        f"{_place(path, node)} {module}"
        for path in SOURCES
        for node, module in _imported_modules(path)
        if module.split(".")[0] in ("PyQt5", "PyQt6", "PySide2", "PySide6", "sip")
    ]
    assert direct == []


@pytest.mark.parametrize("name", ["print", "exec", "eval", "os.system", "os.popen", "breakpoint"])
def test_nothing_shipped_calls(name: str) -> None:
    assert _found(SOURCES, lambda node: _called_name(node) == name) == []


def test_nothing_shipped_asserts() -> None:
    assert _found(SOURCES, lambda node: isinstance(node, ast.Assert)) == []


def test_nothing_shipped_pickles() -> None:
    picklers = ("pickle", "cPickle", "dill", "joblib", "marshal", "shelve")

    def pickles(node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute):  # the error that torch.load raises is a name of pickle's
            return ast.unparse(node.value) in picklers and node.attr != "UnpicklingError"
        return isinstance(node, ast.ImportFrom) and node.module in picklers

    assert _found(SOURCES, pickles) == []


def test_torch_never_loads_pickled_objects() -> None:
    def loads(node: ast.AST) -> bool:
        if _called_name(node) != "torch.load" or not isinstance(node, ast.Call):
            return False
        safe = [keyword for keyword in node.keywords if keyword.arg == "weights_only"]
        return not safe or ast.unparse(safe[0].value) != "True"

    assert _found(SOURCES, loads) == []


def test_nothing_shipped_starts_a_shell() -> None:
    def shell(node: ast.AST) -> bool:
        return isinstance(node, ast.keyword) and node.arg == "shell"

    assert _found(SOURCES, shell) == []


def test_no_error_is_swallowed_unnamed() -> None:
    def swallows(node: ast.AST) -> bool:
        if not isinstance(node, ast.ExceptHandler):
            return False
        unnamed = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
        return unnamed and all(isinstance(statement, ast.Pass) for statement in node.body)

    assert _found(SOURCES, swallows) == []


def _public(body: List[ast.stmt], owner: str = "") -> Iterator[Tuple[str, ast.AST]]:
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        name = f"{owner}{node.name}"
        yield name, node
        # A class with a base may answer what the base, often QGIS's or torch's, asks for and documents.
        if isinstance(node, ast.ClassDef) and not node.bases:
            yield from _public(node.body, f"{name}.")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_public_names_are_documented(path: Path) -> None:
    undocumented = [
        f"{_place(path, node)} {name}"
        for name, node in _public(_tree(path).body)
        if not ast.get_docstring(node)  # type: ignore[arg-type]
    ]
    assert undocumented == []


def test_every_file_with_code_says_what_it_is() -> None:
    silent = [str(path) for path in SOURCES if _tree(path).body and not ast.get_docstring(_tree(path))]
    assert silent == []
