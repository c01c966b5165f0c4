"""What users get wrong: each a clear sentence, no traceback in their log, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Tuple, Type

import numpy as np
import pytest
from qgis.core import QgsProcessingException, QgsProcessingFeedback

Files = Dict[str, str]
Parameters = Dict[str, Any]


class Row(NamedTuple):
    """One mistake: its name, the algorithm, what is wrong, and part of what the user must read."""

    id: str
    algorithm: str
    parameters: Callable[[Files], Parameters]
    sentences: Tuple[str, ...]


def rows(algorithm: str, *entries: Tuple[Any, ...]) -> Tuple[Row, ...]:
    return tuple(Row(entry[0], algorithm, entry[1], entry[2:]) for entry in entries)


DEMO = rows(
    "create_demo_scene",
    ("negative size", lambda f: {"SIZE": -5}, "SIZE is -5.", "at least 16"),
    ("negative seed", lambda f: {"SEED": -1}, "SEED is -1.", "at least 0"),
    ("half a band", lambda f: {"BANDS": 7.5}, "BANDS must be a whole number, not '7.5'."),
    ("size that is a word", lambda f: {"SIZE": "large"}, "SIZE must be a whole number, not 'large'."),
    ("size not finite", lambda f: {"SIZE": float("nan")}, "SIZE must be a whole number"),
    ("unknown CRS", lambda f: {"CRS": "EPSG:1"}, "EPSG:1"),
    ("both outputs one file", lambda f: {"RGB_OUTPUT": f["out.tif"]}, "Two outputs have the same name."),
    ("folder missing", lambda f: {"OUTPUT": f["out.tif"] + "/no/such.tif"}, "does not exist.", "Create it"),
    ("folder is read-only", lambda f: {"OUTPUT": "/proc/self/out.tif"}, "/proc/self"),
    ("output is a folder", lambda f: {"OUTPUT": f["folder"]}, "is a folder.", "name of a file in it"),
    ("format that is not written", lambda f: {"OUTPUT": f["out.tif"] + ".png"}, "png"),
)
SIMULATE = rows(
    "simulate_rgb",
    ("no input", lambda f: {"INPUT": None}, "INPUT is missing.", "Fill in INPUT."),
    ("input not there", lambda f: {"INPUT": "/no/such.tif"}, "'/no/such.tif' does not exist."),
    ("0-byte raster", lambda f: {"INPUT": f["zero"]}, "is empty (0 bytes)."),
    ("text named .tif", lambda f: {"INPUT": f["text"]}, "cannot be read as a raster."),
    ("truncated raster", lambda f: {"INPUT": f["truncated_raster"]}, "truncated.tif"),
    ("no wavelengths", lambda f: {"INPUT": f["no_wavelengths"]}, "not known from wavelengths", "Fill in RGB_BANDS"),
    ("huge wavelengths", lambda f: {"INPUT": f["huge_wavelengths"]}, "not known from wavelengths"),
    ("two RGB bands", lambda f: {"RGB_BANDS": "6,3"}, "RGB_BANDS names 2 bands.", "Name three"),
    ("band not there", lambda f: {"RGB_BANDS": "1,2,99"}, "Band 99 does not exist", "from 1 to 16"),
    ("bands in words", lambda f: {"RGB_BANDS": "red"}, "'red' is not a list of bands."),
    ("output is the input", lambda f: {"OUTPUT": f["scene"]}, "is also an input.", "another file"),
)
TRAIN = rows(
    "train_cascade_stage",
    ("no rasters", lambda f: {"INPUTS": []}, "INPUTS"),
    ("stage beyond the last", lambda f: {"STAGE": 3}, "STAGE 3 does not exist in a cascade of 2."),
    ("stage 0", lambda f: {"STAGE": 0}, "STAGE is 0."),
    ("negative iterations", lambda f: {"ITERATIONS": -10}, "ITERATIONS is -10.", "at least 1"),
    ("negative learning rate", lambda f: {"LEARNING_RATE": -1e-3}, "LEARNING_RATE is -0.001.", "above 0"),
    ("all pixels held out", lambda f: {"VALIDATION_FRACTION": 2}, "VALIDATION_FRACTION is 2", "at most 0.9"),
    ("unknown preset", lambda f: {"PRESET": "huge"}, "PRESET 'huge' does not exist.", "paper, compact, tiny"),
    ("unknown device", lambda f: {"DEVICE": "gpu"}, "DEVICE 'gpu' does not exist.", "cuda:0"),
    ("device not there", lambda f: {"DEVICE": "cuda:99"}, "cuda:99"),
    ("other band count", lambda f: {"INPUTS": [f["scene"], f["rgb"]]}, "scene.tif' has 16", "rgb.tif' has 3"),
    ("bands not there", lambda f: {"BANDS": "1-40"}, "Band 17 does not exist"),
    ("all nodata", lambda f: {"INPUTS": [f["all_nodata"]]}, "no valid pixel"),
)
ASSEMBLE = rows(
    "assemble_cascade",
    (
        "stage missing",
        lambda f: {"STAGE_FILES": [f["stage2"]]},
        "holds stage 2 of 2.",
        "Give the files of stages 1 to 2",
    ),
    ("stage twice", lambda f: {"STAGE_FILES": [f["stage1"], f["stage1b"]]}, "Stage 1 was given twice."),
    ("other data", lambda f: {"STAGE_FILES": [f["stage1"], f["other2"]]}, "data of different range or type"),
    ("no stages", lambda f: {"STAGE_FILES": []}, "STAGE_FILES"),
    ("no model", lambda f: {"STAGE_FILES": [f["stage1"], f["text"]]}, "is not a model file of this plugin"),
    ("output is an input", lambda f: {"OUTPUT": f["stage1"]}, "is also an input."),
)
RECONSTRUCT = rows(
    "rgb_to_hyperspectral",
    ("one stage as model", lambda f: {"MODEL": f["stage1"]}, "holds stage 1 of 2.", "Assemble Cascade"),
    ("truncated model", lambda f: {"MODEL": f["truncated"]}, "is not a model file of this plugin, or it is damaged."),
    ("model's header damaged", lambda f: {"MODEL": f["corrupt"]}, "or it is damaged."),
    ("pth renamed", lambda f: {"MODEL": f["pth"]}, "is not a model file", "made by Train Cascade Stage"),
    ("0-byte model", lambda f: {"MODEL": f["zero"]}, "is empty (0 bytes)."),
    ("no model", lambda f: {"MODEL": None}, "MODEL is missing."),
    ("two bands", lambda f: {"INPUT": f["two_bands"]}, "2 bands"),
    ("all nodata", lambda f: {"INPUT": f["all_nodata_rgb"]}, "no valid pixel"),
    ("overlap as large as the tile", lambda f: {"TILE_SIZE": 32, "OVERLAP": 32}, "OVERLAP 32 is not smaller than"),
    ("overlap larger than the default tile", lambda f: {"OVERLAP": 5000}, "OVERLAP 5000"),
    ("negative tile", lambda f: {"TILE_SIZE": -1}, "TILE_SIZE is -1."),
    ("uncertainty of one draw", lambda f: {"UNCERTAINTY": f["u.tif"], "SAMPLES": 1}, "at least two draws", "SAMPLES"),
    ("guidance in words", lambda f: {"GUIDANCE": "much"}, "GUIDANCE 'much' is not a list of numbers."),
    ("guidance for three stages", lambda f: {"GUIDANCE": "0,0,0"}, "GUIDANCE has 3 numbers", "has 2 stages"),
    ("truncation above 1", lambda f: {"TRUNCATION": "1,2"}, "TRUNCATION is 2", "at most 1"),
    ("no steps", lambda f: {"STEPS": 0}, "STEPS is 0."),
    ("more steps than the model has", lambda f: {"STEPS": 5000, "SAMPLES": 1}, "STEPS"),
    ("best estimate by a sampler of draws", lambda f: {"SAMPLER": "dpmpp"}, "SAMPLES 0, is made by ddim; dpmpp makes"),
    ("extent elsewhere", lambda f: {"EXTENT": "0,1,0,1"}, "EXTENT does not touch the raster"),
    (
        "temporary output resumed",
        lambda f: {"UNCERTAINTY": "TEMPORARY_OUTPUT", "SAMPLES": 2, "RESUME": True},
        "cannot be taken up again",
    ),
    ("no scheduler", lambda f: {"CLUSTER": "tcp://127.0.0.1:9"}, "No Dask scheduler answers at tcp://127.0.0.1:9."),
    ("output is the model", lambda f: {"OUTPUT": f["cascade.tif"], "MODEL": f["cascade.tif"]}, "is also an input."),
)
EVALUATE = rows(
    "evaluate_reconstruction",
    ("other bands", lambda f: {"PREDICTION": f["no_wavelengths3"]}, "(3 bands)", "(16 bands)"),
    ("other wavelengths", lambda f: {"PREDICTION": f["infrared"]}, "No wavelengths of the two rasters agree"),
    ("other size", lambda f: {"PREDICTION": f["small"]}, "20 x 20 pixels", "40 x 36"),
    (
        "uncertainty with other bands",
        lambda f: {"UNCERTAINTY": f["no_wavelengths3"]},
        "no_wavelengths3.tif' has 3 bands, but PREDICTION '",
        "' has 16.",
        "Give the UNCERTAINTY",
    ),
    (
        "uncertainty of other size",
        lambda f: {"UNCERTAINTY": f["small"]},
        "small.tif' has 20 x 20 pixels, but '",
        "has 40 x 36.",
    ),
    ("negative peak", lambda f: {"PEAK": -1}, "PEAK is -1", "above 0"),
)
IMPORT = rows(
    "import_matlab_cube",
    ("no .mat at all", lambda f: {"INPUT": f["text"]}, "text.tif"),
    ("wavelengths in words", lambda f: {"WAVELENGTHS": "visible"}, "WAVELENGTHS 'visible' cannot be read."),
) + rows(
    "import_released_checkpoint",
    ("config no JSON", lambda f: {"CONFIG": f["text"]}, "text.tif"),
    ("config empty", lambda f: {"CONFIG": f["empty_json"]}, "base_channels"),
    ("weights no checkpoint", lambda f: {"INPUT": f["text"]}, "text.tif"),
)
ROWS = DEMO + SIMULATE + TRAIN + ASSEMBLE + RECONSTRUCT + EVALUATE + IMPORT

GOOD: Dict[str, Callable[[Files], Parameters]] = {
    "create_demo_scene": lambda f: {"SIZE": 32, "BANDS": 8, "OUTPUT": f["out.tif"]},
    "simulate_rgb": lambda f: {"INPUT": f["scene"], "OUTPUT": f["out.tif"]},
    "train_cascade_stage": lambda f: {
        "INPUTS": [f["scene"]],
        "STAGE": 1,
        "ITERATIONS": 2,
        "PATCH_SIZE": 16,
        "BATCH_SIZE": 1,
        "PRECISION": "float32",
        "OUTPUT": f["out.safetensors"],
    },
    "assemble_cascade": lambda f: {"STAGE_FILES": [f["stage1"], f["stage2"]], "OUTPUT": f["out.safetensors"]},
    "rgb_to_hyperspectral": lambda f: {
        "INPUT": f["rgb"],
        "MODEL": f["cascade"],
        "PRECISION": "float32",
        "OUTPUT": f["out.tif"],
    },
    "evaluate_reconstruction": lambda f: {"PREDICTION": f["scene"], "REFERENCE": f["scene"]},
    "import_matlab_cube": lambda f: {"INPUT": f["mat"], "OUTPUT": f["out.tif"]},
    "import_released_checkpoint": lambda f: {
        "INPUT": f["pth"],
        "CONFIG": f["config"],
        "OUTPUT": f["out.safetensors"],
    },
}


@pytest.fixture(scope="session")
def inputs(small_models: Files, rasters: Type[Any], tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Make the good and the bad files that the rows name."""
    folder = tmp_path_factory.mktemp("inputs")
    values = rasters.smooth()
    files = dict(small_models)

    def write(name: str, content: bytes) -> str:
        (folder / name).write_bytes(content)
        return str(folder / name)

    files["zero"] = write("zero.tif", b"")
    files["text"] = write("text.tif", b"This is no raster, no model and no JSON." * 10)
    files["truncated_raster"] = write("truncated.tif", Path(files["scene"]).read_bytes()[:300])
    model = Path(files["cascade"]).read_bytes()
    files["truncated"] = write("truncated.safetensors", model[: len(model) // 2])
    files["corrupt"] = write("corrupt.safetensors", model[:100] + b"\xff" * 100 + model[200:])
    files["cascade.tif"] = write("cascade.tif", model)
    files["stage1b"] = write("stage1b.safetensors", Path(files["stage1"]).read_bytes())
    files["pth"] = write("renamed.safetensors", b"PK\x03\x04" + bytes(range(256)) * 40)
    files["mat"] = write("cube.mat", b"MATLAB 5.0 MAT-file" + b" " * 200)
    files["empty_json"] = write("empty.json", b"{}")
    config = {"base_channels": 32, "channel_mults": [1], "attention_levels": [], "bands": 1, "condition_bands": 3}
    files["config"] = write("config.json", json.dumps(config).encode())
    files["no_wavelengths"] = rasters.write(folder / "no_wavelengths.tif", values, None)
    files["no_wavelengths3"] = rasters.write(folder / "no_wavelengths3.tif", values[:3], None)
    files["huge_wavelengths"] = rasters.write(folder / "huge.tif", values, [1e9 + band for band in range(16)])
    files["infrared"] = rasters.write(folder / "infrared.tif", values, [1500.0 + 30 * band for band in range(16)])
    files["two_bands"] = rasters.write(folder / "two_bands.tif", values[:2], None)
    files["small"] = rasters.write(folder / "small.tif", values[:, :20, :20])
    files["all_nodata"] = rasters.write(folder / "all_nodata.tif", np.full_like(values, 7), nodata=7)
    files["all_nodata_rgb"] = rasters.write(folder / "nodata_rgb.tif", np.zeros((3, 20, 20), np.uint16), None, 0)
    return files


def listing(folder: Path) -> Dict[str, int]:
    """Return the files of a folder and when each was changed, but for the statistics QGIS writes beside any raster."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".aux.xml")]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.algorithm}: {row.id}" for row in ROWS])
def test_a_mistake_is_a_clear_sentence(row: Row, run: Callable[..., Any], inputs: Files, tmp_path: Path) -> None:
    outputs = tmp_path / "out"
    outputs.mkdir()
    names = {name: str(outputs / name) for name in ("out.tif", "u.tif", "out.safetensors")}
    files = {**inputs, **names, "folder": str(tmp_path)}
    before = listing(Path(inputs["zero"]).parent), listing(Path(inputs["scene"]).parent)
    feedback = QgsProcessingFeedback()
    with pytest.raises(QgsProcessingException) as caught:
        run(row.algorithm, {**GOOD[row.algorithm](files), **row.parameters(files)}, feedback)
    said = str(caught.value)
    for sentence in row.sentences:
        assert sentence in said
    assert said.endswith(".")
    for word in ("Traceback", "Error:", "None", "Incorrect parameter value", "unexpectedly"):
        assert word not in said + feedback.textLog()
    assert listing(outputs) == {}
    assert (listing(Path(inputs["zero"]).parent), listing(Path(inputs["scene"]).parent)) == before


def test_there_are_thirty_mistakes_and_no_two_alike() -> None:
    assert len({(row.algorithm, row.id) for row in ROWS}) == len(ROWS) >= 30


@pytest.mark.parametrize("name", [name for name in GOOD if not name.startswith("import")])
def test_without_the_mistake_it_works(name: str, run: Callable[..., Any], inputs: Files, tmp_path: Path) -> None:
    names = {name: str(tmp_path / name) for name in ("out.tif", "out.safetensors")}
    run(name, GOOD[name]({**inputs, **names}))
