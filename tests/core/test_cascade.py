import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from scdm_qgis.core.cascade import Cascade, Stage, assemble
from scdm_qgis.core.cascade_header import (
    CascadeHeader,
    NodataPolicy,
    Normalisation,
    Truncation,
    read_header,
)
from scdm_qgis.core.errors import UserError


@pytest.fixture
def file(tmp_path, make_stage, make_cascade):
    path = str(tmp_path / "cascade.safetensors")
    make_cascade(make_stage(1), make_stage(2)).save(path)
    return path


def test_file_keeps_everything(file, make_stage, make_cascade):
    loaded = Cascade.load(file)
    original = make_cascade(make_stage(1), make_stage(2))
    assert loaded.header == original.header == read_header(file)
    for ours, theirs in zip(original.stages, loaded.stages):
        assert ours.header == theirs.header
        assert ours.tensors().keys() == theirs.tensors().keys()
        assert all(torch.equal(value, theirs.tensors()[key]) for key, value in ours.tensors().items())


def test_a_loaded_cascade_holds_no_file(file):
    """Windows would let nobody remove or replace it."""
    cascade = Cascade.load(file)
    assert len(cascade.stages) == 2
    assert file not in Path("/proc/self/maps").read_text()


def test_stages_assemble_in_any_order(make_stage, make_cascade):
    together = assemble([make_cascade(make_stage(2)), make_cascade(make_stage(1))])
    assert [stage.header.index for stage in together.stages] == [1, 2]
    assert [entry["seed"] for entry in together.header.training] == [1, 2]
    together.header.check_complete()


def refused(cascades):
    with pytest.raises(UserError) as error:
        assemble(cascades)
    return error.value.message


def test_stages_that_do_not_fit_are_refused(make_stage, make_cascade):
    first, second = make_cascade(make_stage(1)), make_cascade(make_stage(2))
    assert "holds stage 1 of 2" in refused([first])
    assert "holds stage 2 of 2" in refused([second])
    assert "given twice" in refused([first, first, second])
    other = make_cascade(make_stage(2), offset=11.0)
    assert "different range" in refused([first, other])
    assert "expects other bands" in refused([first, with_condition(second, previous_bands=[1, 2])])
    assert "different RGB_BANDS" in refused([first, with_condition(second, rgb_bands=[1, 2, 4])])


def test_rounding_keeps_no_stages_apart(make_stage, make_cascade):
    """Sums over the same scenes in another order differ in their last digits."""
    other = make_cascade(make_stage(2), offset=10.0 * (1 + 1e-14), scale=2.0 * (1 - 1e-14))
    assert len(assemble([make_cascade(make_stage(1)), other]).stages) == 2


def with_condition(cascade, **changes):
    values = cascade.header.to_json()
    values["stages"][0]["condition"].update(changes)
    header = CascadeHeader.from_json(values)
    stage = cascade.stages[0]
    return Cascade(header, (Stage(header.stages[0], stage.network, stage.anchor),))


@pytest.mark.parametrize("damage", ["cut", "longer", "header", "empty", "pickle", "no metadata", "format"])
def test_damaged_files_are_refused(file, damage):
    data = Path(file).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    damaged = {
        "cut": data[:-100],
        "longer": data + b"x",
        "header": data[:8] + b"[" + data[9:],
        "empty": b"",
        "pickle": b"PK\x03\x04" + data,
        "no metadata": with_header(
            {key: value for key, value in header.items() if key != "__metadata__"}, data, length
        ),
        "format": with_header(
            {**header, "__metadata__": {"scdm": header["__metadata__"]["scdm"].replace('"format": 1', '"format": 2')}},
            data,
            length,
        ),
    }[damage]
    Path(file).write_bytes(damaged)
    for read in (read_header, Cascade.load):
        with pytest.raises(UserError):
            read(file)


def test_an_older_file_has_noise_without_correlation(file):
    tensors, kept = load_file(file), "stage1.regression.mixing"
    with safe_open(file, "pt") as opened:
        save_file({key: value for key, value in tensors.items() if key != kept}, file, opened.metadata())
    first, _ = Cascade.load(file).stages
    assert torch.equal(first.anchor.mixing, torch.eye(len(first.header.bands)))


def with_header(header, data, length):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def test_tensors_of_another_shape_are_refused(file, tmp_path, make_stage, make_cascade):
    cascade = make_cascade(make_stage(1), make_stage(2))
    values = cascade.header.to_json()
    values["stages"][0]["network"]["base_channels"] = 16
    cascade.header = CascadeHeader.from_json(values)
    cascade.save(file)
    with pytest.raises(UserError, match="damaged"):
        Cascade.load(file)


@pytest.mark.parametrize("nodata", [None, -9999.0, float("nan")])
def test_header_survives_json_with_any_nodata(make_stage, make_cascade, nodata):
    header = make_cascade(make_stage(1)).header
    header = CascadeHeader(header.stages, header.normalisation, NodataPolicy("float32", nodata), header.training, "x")
    again = CascadeHeader.from_json(json.loads(json.dumps(header.to_json(), allow_nan=False)))
    assert repr(again.nodata_policy) == repr(header.nodata_policy)
    assert again.stages == header.stages


def test_impossible_settings_are_refused():
    for make in (
        lambda: Normalisation(0, 0),
        lambda: Truncation(0),
        lambda: Truncation(1.5),
        lambda: Truncation(1, "x"),
    ):
        with pytest.raises(UserError):
            make()


HOSTILE = {
    "of": "1099511627776",
    "index": "1e400",
    "patch_size": "0",
    "steps": "-1",
    "guidance_weight": "NaN",
    "second_moment": "-1",
    "bands": "[" * 100_000 + "]" * 100_000,
    "schedule": '{"timesteps": Infinity, "beta_first": 0.1, "beta_last": 0.2}',
    "network": '{"base_channels": "many"}',
}


@pytest.mark.parametrize("key", HOSTILE)
def test_nonsense_in_a_header_is_refused_at_once(file, key):
    data = Path(file).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    stage = json.loads(header["__metadata__"]["scdm"])["stages"][0]
    sane, nonsense = (f'"{key}": {value}' for value in (json.dumps(stage[key]), HOSTILE[key]))
    text = header["__metadata__"]["scdm"]
    assert sane in text
    header["__metadata__"]["scdm"] = text.replace(sane, nonsense, 1)
    Path(file).write_bytes(with_header(header, data, length))
    for read in (read_header, Cascade.load):
        with pytest.raises(UserError):
            read(file)
