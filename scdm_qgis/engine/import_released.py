"""Turn a checkpoint of the authors' released code into a stage file."""

from __future__ import annotations

import json
from operator import index as as_whole
from typing import Any, Dict, Mapping, Optional, Tuple

from scdm_qgis.core.cascade import Cascade, Stage
from scdm_qgis.core.cascade_header import (
    CascadeHeader,
    Condition,
    NodataPolicy,
    Normalisation,
    ScheduleConfig,
    StageHeader,
    Truncation,
)
from scdm_qgis.core.errors import UserError
from scdm_qgis.core.presets import NetworkConfig
from scdm_qgis.core.released_checkpoint import load_released_weights, read_released_weights
from scdm_qgis.core.unet import UNet
from scdm_qgis.core.whole_file import written_whole
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.job_values import read_wavelengths
from scdm_qgis.engine.jobs import ImportReleasedCheckpoint
from scdm_qgis.engine.version import CREATED_WITH

REQUIRED = ("base_channels", "channel_mults", "attention_levels", "bands", "condition_bands")
OPTIONAL = {
    "offset": 0.0,
    "scale": 1.0,
    "stage": 1,
    "stages": 1,
    "timesteps": 1000,
    "wavelengths": None,
    "guidance_weight": 0.0,
    "pdt_lower": 1.0,
    "second_moment": None,
}
RELEASED_DROPOUT = 0.1
RELEASED_PATCH_SIZE = 256


def run(job: ImportReleasedCheckpoint, events: EventWriter) -> Dict[str, Any]:
    """Write the stage file; raises UserError where checkpoint and configuration do not fit."""
    config = _read_config(job.config, events)
    try:
        header = _stage_header(config)
        normalisation = Normalisation(float(config["offset"]), float(config["scale"]))
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            "CONFIG has values of the wrong kind.",
            "Give numbers, lists of numbers for channel_mults, attention_levels and wavelengths.",
        ) from error
    network = UNet(header.network, len(header.bands), header.condition.image_count).eval()
    load_released_weights(network, read_released_weights(job.input, job.weights))
    cascade_header = CascadeHeader(
        stages=(header,),
        normalisation=normalisation,
        nodata_policy=NodataPolicy("float32", None),
        training=({"imported_from": "released code", "weights": job.weights},),
        created_with=CREATED_WITH,
    )
    with written_whole(job.output) as partial:
        Cascade(cascade_header, (Stage(header, network, None),)).save(partial)
    return {"OUTPUT": job.output}


def _read_config(path: str, events: EventWriter) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            given = json.load(file)
    except ValueError as error:
        raise UserError(f"'{path}' is not valid JSON.", "Correct CONFIG.") from error
    if not isinstance(given, Mapping):
        raise UserError(f"'{path}' holds no JSON object.", f"Give an object with {', '.join(REQUIRED)}.")
    missing = [key for key in REQUIRED if key not in given]
    if missing:
        raise UserError(f"CONFIG lacks {', '.join(missing)}.", "Add what the checkpoint was trained with.")
    if "offset" not in given or "scale" not in given:
        events.warning(
            "CONFIG gives no offset and scale, with which the network was trained: rasters must already be scaled so."
        )
    known = {**OPTIONAL, **{key: given[key] for key in given if key in REQUIRED or key in OPTIONAL}}
    ignored = [key for key in given if key not in known]
    if ignored:
        events.info(f"CONFIG: ignored {', '.join(ignored)}.")
    return known


def _stage_header(config: Mapping[str, Any]) -> StageHeader:
    index, of = as_whole(config["stage"]), as_whole(config["stages"])
    bands, condition_bands = as_whole(config["bands"]), as_whole(config["condition_bands"])
    moment = config["second_moment"]
    return StageHeader(
        index=index,
        of=of,
        bands=tuple(range(1, bands + 1)),
        wavelengths_nm=_wavelengths(config["wavelengths"], bands),
        fwhm_nm=None,
        condition=_condition(index, condition_bands),
        network=NetworkConfig(
            as_whole(config["base_channels"]),
            tuple(as_whole(item) for item in config["channel_mults"]),
            tuple(as_whole(item) for item in config["attention_levels"]),
            dropout=RELEASED_DROPOUT,
        ),
        patch_size=RELEASED_PATCH_SIZE,
        prediction="noise",
        schedule=ScheduleConfig.of_timesteps(as_whole(config["timesteps"])),
        sampler="ddpm",
        steps=None,
        guidance_weight=float(config["guidance_weight"]),
        truncation=Truncation(float(config["pdt_lower"]), "state", "sample" if moment is None else "schedule"),
        second_moment=None if moment is None else float(moment),
    )


def _condition(index: int, condition_bands: int) -> Condition:
    """Return what the released network is conditioned on; it sees RGB in stage 1 only."""
    if index == 1:
        return Condition((), (0,) * condition_bands)
    return Condition(tuple(range(1, condition_bands + 1)), ())


def _wavelengths(values: Any, bands: int) -> Optional[Tuple[float, ...]]:
    wavelengths_nm = read_wavelengths(values)
    if wavelengths_nm is not None and len(wavelengths_nm) != bands:
        raise UserError(f"CONFIG has {len(wavelengths_nm)} wavelengths for {bands} bands.", "Give one a band.")
    return wavelengths_nm
