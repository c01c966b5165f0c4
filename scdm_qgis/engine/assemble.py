"""Put stage files together into one cascade file."""

from __future__ import annotations

from typing import Any, Dict

from scdm_qgis.core.cascade import Cascade, assemble
from scdm_qgis.core.whole_file import written_whole
from scdm_qgis.engine.events import EventWriter
from scdm_qgis.engine.jobs import AssembleCascade


def run(job: AssembleCascade, events: EventWriter) -> Dict[str, Any]:
    """Write the cascade; raises UserError where the stages do not fit together."""
    cascade = assemble([Cascade.load(path) for path in job.stage_files])
    with written_whole(job.output) as partial:
        cascade.save(partial)
    for stage in cascade.header.stages:
        events.info(
            f"Stage {stage.index} of {stage.of}: {stage.condition.image_count} bands in, {len(stage.bands)} bands out."
        )
    return {"OUTPUT": job.output}
