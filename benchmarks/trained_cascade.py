"""A cascade trained on a split's scenes with the plugin's defaults."""

from __future__ import annotations

import io
import os
from typing import Optional

from benchmarks.scenes import Split
from scdm_qgis.engine import assemble, train
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import AssembleCascade, TrainCascadeStage


def train_cascade(
    split: Split,
    folder: str,
    stages: int = 2,
    seed: int = 0,
    prediction: Optional[str] = None,
    iterations: Optional[int] = None,
) -> str:
    """Train a cascade on the CPU and return its path in `folder`; what is None is left to the preset."""
    events, files = EventWriter(io.StringIO()), []
    for stage in range(1, stages + 1):
        files.append(os.path.join(folder, f"stage{stage}.safetensors"))
        job = TrainCascadeStage(
            split.train,
            stage,
            files[-1],
            stages=stages,
            rgb_bands=split.rgb_bands,
            prediction=prediction,
            iterations=iterations,
            device="cpu",
            seed=seed,
        )
        train.run(job, events)
    model = os.path.join(folder, "cascade.safetensors")
    assemble.run(AssembleCascade(files, model), events)
    return model
