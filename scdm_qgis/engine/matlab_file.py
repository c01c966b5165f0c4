"""Three-dimensional arrays in MATLAB files, of version 5 (SciPy) and 7.3 (HDF5).

No MATLAB object is ever turned into anything but an array of numbers.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Tuple

import h5py
import numpy as np
from scipy.io import loadmat, whosmat

from scdm_qgis.core.errors import UserError


@dataclass(frozen=True)
class MatlabCube:
    """A cube in a MATLAB file; its bands are the last axis as MATLAB counts them.

    Args:
        name: the variable's name.
        height, width, band_count: its size.
        dtype: numpy type of its values.
        read_rows: (first row, number of rows) to values (band, row, column) of that type.
    """

    name: str
    height: int
    width: int
    band_count: int
    dtype: np.dtype
    read_rows: Callable[[int, int], np.ndarray]


@contextmanager
def open_matlab_cube(path: str, variable: Optional[str]) -> Iterator[MatlabCube]:
    """Open the named array, or the only three-dimensional one.

    Raises:
        UserError: no MATLAB file, no such array, several to choose from, or values that are not real
            numbers.
    """
    if not h5py.is_hdf5(path):
        yield _version_5_cube(path, variable)
        return
    with _open_hdf5(path) as file:
        yield _version_7_3_cube(path, file, variable)


def _version_5_cube(path: str, variable: Optional[str]) -> MatlabCube:
    try:
        variables = whosmat(path)
        name = _choose(path, [(entry[0], tuple(entry[1])) for entry in variables], variable)
        kind = next(entry[2] for entry in variables if entry[0] == name)
        _check_kind(path, name, kind)
        array = loadmat(path, variable_names=[name])[name]
    except UserError:
        raise
    except Exception as error:  # SciPy raises a dozen kinds for files that are damaged or none at all
        raise _unreadable(path) from error
    _check_size(path, name, array.shape)
    _check_type(path, name, array.dtype)

    def read_rows(row: int, count: int) -> np.ndarray:
        values: np.ndarray = np.moveaxis(array[row : row + count], 2, 0)
        return values

    height, width, band_count = array.shape
    return MatlabCube(name, height, width, band_count, array.dtype, read_rows)


@contextmanager
def _open_hdf5(path: str) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _unreadable(path) from error
    with file:
        yield file


def _version_7_3_cube(path: str, file: h5py.File, variable: Optional[str]) -> MatlabCube:
    datasets = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
    # MATLAB counts the first axis fastest, HDF5 the last: its axes come in reverse.
    name = _choose(path, [(name, item.shape[::-1]) for name, item in datasets.items()], variable)
    dataset = datasets[name]
    kind = dataset.attrs.get("MATLAB_class", b"double")
    _check_kind(path, name, kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind))
    _check_size(path, name, dataset.shape)
    _check_type(path, name, dataset.dtype)
    band_count, width, height = dataset.shape

    def read_rows(row: int, count: int) -> np.ndarray:
        try:
            values: np.ndarray = dataset[:, :, row : row + count].transpose(0, 2, 1)
        except OSError as error:
            raise _unreadable(path) from error
        return values

    return MatlabCube(name, height, width, band_count, dataset.dtype, read_rows)


def _choose(path: str, variables: List[Tuple[str, Tuple[int, ...]]], wanted: Optional[str]) -> str:
    listing = ", ".join(f"{name} ({' x '.join(map(str, shape))})" for name, shape in variables) or "nothing"
    cubes = [name for name, shape in variables if len(shape) == 3]
    if wanted is not None and wanted.strip():
        name = wanted.strip()
        if name not in [known for known, _ in variables]:
            raise UserError(f"'{path}' has no variable '{name}'.", f"Set VARIABLE to one of: {listing}.")
        if name not in cubes:
            raise UserError(
                f"The variable '{name}' of '{path}' is not three-dimensional.", f"The file holds: {listing}."
            )
        return name
    if not cubes:
        raise UserError(f"'{path}' has no three-dimensional array.", f"The file holds: {listing}.")
    if len(cubes) > 1:
        raise UserError(
            f"'{path}' has {len(cubes)} three-dimensional arrays.", f"Set VARIABLE to one of: {', '.join(cubes)}."
        )
    return cubes[0]


def _check_size(path: str, name: str, shape: Tuple[int, ...]) -> None:
    if 0 in shape:
        raise UserError(f"The array '{name}' of '{path}' is empty.", "Choose another VARIABLE.")


def _check_kind(path: str, name: str, matlab_class: str) -> None:
    if matlab_class not in ("double", "single") and not matlab_class.lstrip("u").startswith("int"):
        raise _not_numbers(path, name, f"of the class {matlab_class}")


def _check_type(path: str, name: str, dtype: np.dtype) -> None:
    if dtype.names is not None or dtype.kind == "c":  # HDF5 keeps complex numbers as pairs
        raise _not_numbers(path, name, "complex")
    if dtype.kind not in "iuf":
        raise _not_numbers(path, name, f"of the type {dtype}")


def _not_numbers(path: str, name: str, what: str) -> UserError:
    return UserError(
        f"The array '{name}' of '{path}' is {what}, not real numbers.",
        "Save it in MATLAB as double, single or a whole-number type, or choose another VARIABLE.",
    )


def _unreadable(path: str) -> UserError:
    return UserError(
        f"'{path}' cannot be read as a MATLAB file.",
        "Save it again in MATLAB, with -v7.3 for arrays of more than 2 GB.",
    )
