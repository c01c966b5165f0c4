"""What the algorithms share that run a job on the engine."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from typing import Any, ClassVar, Dict, Optional, Tuple, Type

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterRasterDestination,
)

from scdm_qgis.core.errors import UserError
from scdm_qgis.engine.jobs import Job, job_from_json
from scdm_qgis.processing.algorithm import ScdmAlgorithm
from scdm_qgis.processing.engine_client import is_temporary, run_job
from scdm_qgis.processing.engine_python import find_engine_python
from scdm_qgis.processing.parameter_values import Destination, Parameters, read_value, requested_destination

RASTER_ENDINGS = (".tif", ".tiff")
"""Of the one raster format that is written."""


class JobAlgorithm(ScdmAlgorithm):
    """An algorithm whose parameters are the fields of a job, in capitals."""

    JOB: ClassVar[Type[Job]]

    def __init__(self) -> None:
        super().__init__()
        self._job: Optional[Job] = None

    def check_inputs(self, job: Any) -> None:
        """Raise UserError for what the inputs' headers show to be wrong; the engine checks the rest."""

    def extra_values(self, parameters: Parameters, context: QgsProcessingContext) -> Dict[str, Any]:
        """Return job values that no parameter alone gives; overridden where there are any."""
        return {}

    def checkParameterValues(self, parameters: Parameters, context: QgsProcessingContext) -> Tuple[bool, str]:
        """Tell the user, before the start, what is wrong and what to do."""
        try:
            job = self._read_job(parameters, context, partial(requested_destination, context))
            job.check_paths()
            self.check_inputs(job)
            find_engine_python()
        except UserError as error:
            return False, str(error)
        for definition in self.destinationParameterDefinitions():
            if isinstance(definition, QgsProcessingParameterRasterDestination):
                path = getattr(job, definition.name().lower())
                if path is not None and not is_temporary(path) and not path.lower().endswith(RASTER_ENDINGS):
                    return False, f"'{path}' would be a GeoTIFF. Give {definition.name()} a name that ends in .tif."
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        """Read the parameters while layers may be touched; what is wrong with them is said here for models."""
        try:
            self._job = self._read_job(parameters, context, partial(requested_destination, context))
        except UserError as error:
            raise QgsProcessingException(str(error)) from error
        return True

    def processAlgorithm(
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Dict[str, Any]:
        """Run the job on the engine and return its results."""
        if self._job is None:
            raise QgsProcessingException("The algorithm was not prepared.")
        try:
            job = replace(self._job, **self._destinations(parameters, context)).with_absolute_paths()
            results = run_job(find_engine_python(), job, feedback)
        except UserError as error:
            raise QgsProcessingException(str(error)) from error
        declared = [output.name() for output in self.outputDefinitions()]
        return {name: results[name] for name in declared if results.get(name) is not None}

    def _destinations(self, parameters: Parameters, context: QgsProcessingContext) -> Dict[str, Optional[str]]:
        """Return where outputs go, and tell QGIS which layers to load.

        It forgets what it is told before it has given the algorithm the context of the thread it runs in.
        """
        paths = {}
        for definition in self.destinationParameterDefinitions():
            name = definition.name()
            is_layer = isinstance(definition, QgsProcessingParameterRasterDestination)
            path = (self.parameterAsOutputLayer if is_layer else self.parameterAsFileOutput)(parameters, name, context)
            paths[name.lower()] = path or None
        return paths

    def _read_job(self, parameters: Parameters, context: QgsProcessingContext, destination: Destination) -> Job:
        extra = self.extra_values(parameters, context)
        values = {
            field.name: read_value(self, field.name.upper(), parameters, context, destination)
            for field in fields(self.JOB)
            if field.name not in extra
        }
        return job_from_json({"job": self.JOB.name, **values, **extra}).with_absolute_paths()
