"""How far an unfinished reconstruction is: a JSON file beside the unfinished rasters."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Callable, List, Mapping, Optional

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.whole_file import journal_path, partial_path, remove_partial, written_whole
from scdm_qgis.engine.fingerprint import as_json, first_change
from scdm_qgis.engine.job_paths import same_file_key

SHARE = 0.02
"""Checkpoints may take this share of the time."""

_AFRESH = "Run without RESUME, which starts afresh."


@dataclass(frozen=True)
class Done:
    """What an interrupted run has done.

    Args:
        rows: first rows of the output that are whole in every unfinished raster.
        clipped: values clipped in them, for each raster.
        batch_size: tiles of a batch.
        threads: threads of the processor a batch is computed by.
        bfloat16: whether the networks compute in bfloat16.
    """

    rows: int
    clipped: List[int]
    batch_size: int
    threads: int
    bfloat16: bool


class Journal:
    """The journal of the run that will write `outputs`; it lies beside the first.

    Args:
        outputs: the final names of all rasters.
        fingerprint: whatever must be the same for a run to be taken up, as JSON values by the name a user
            knows it by.
    """

    def __init__(self, outputs: List[str], fingerprint: Mapping[str, Any]) -> None:
        self.path = journal_path(outputs[0])
        self._outputs = outputs
        self._fingerprint = as_json(fingerprint)
        self._saved, self._cost = time.monotonic(), 0.0

    @property
    def exists(self) -> bool:
        """Whether there is a journal, this run's or an earlier one's."""
        return os.path.exists(self.path)

    def read(self, height: int) -> Optional[Done]:
        """Return what is done of the `height` rows, or None where there is no journal.

        Raises:
            UserError: the journal is another run's, or damaged, or an unfinished raster is gone.
        """
        if not self.exists:
            return None
        try:
            with open(self.path, encoding="utf-8") as file:
                values = json.load(file)
            changed = first_change(values["fingerprint"], self._fingerprint)
            done, sizes = Done(**values["done"]), [int(size) for size in values["sizes"]]
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise UserError(f"The journal '{self.path}' is damaged.", _AFRESH) from error
        if changed is not None:
            raise UserError(
                f"The run cannot be taken up: {changed} is not what it was.",
                "Give everything as before, or run without RESUME, which starts afresh.",
            )
        for path, size in zip(self._outputs, sizes):
            partial = partial_path(path)
            if os.path.exists(partial) and os.path.getsize(partial) < size:
                raise UserError(f"The unfinished raster '{partial}' is damaged.", _AFRESH)
            # A run that died while it gave the finished rasters their final names has left some of either.
            renamed = done.rows == height and os.path.exists(path)
            if not renamed and not os.path.exists(partial):
                raise UserError(f"The unfinished raster '{partial}' is gone.", _AFRESH)
        return done

    def save_when_due(self, checkpoint: Callable[[], Done]) -> None:
        """Take and note a checkpoint unless that is too soon after the last."""
        if (time.monotonic() - self._saved) * SHARE >= self._cost:
            self.save(checkpoint)

    def save(self, checkpoint: Callable[[], Done]) -> None:
        """Take a checkpoint and note it."""
        started = time.monotonic()
        done = checkpoint()
        sizes = [os.path.getsize(partial_path(path)) for path in self._outputs if os.path.exists(partial_path(path))]
        values = {
            "format": 1,
            "fingerprint": self._fingerprint,
            "outputs": self._outputs,
            "done": asdict(done),
            "sizes": sizes,
        }
        try:
            with written_whole(self.path) as partial, open(partial, "w", encoding="utf-8") as file:
                json.dump(values, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"The journal '{self.path}' cannot be written ({error.strerror}).",
                "Check that the disk has free space, then run again with RESUME.",
            ) from error
        self._saved = time.monotonic()
        self._cost = self._saved - started

    def remove(self) -> None:
        """Delete the journal where there is one, and the unfinished rasters: nothing is to be taken up."""
        earlier = self._earlier_outputs()
        if self.exists:
            os.remove(self.path)
        for path in {*self._outputs, *earlier}:
            remove_partial(path)

    def _earlier_outputs(self) -> List[str]:
        """Return the outputs of the run whose journal this is; none of one that was copied here from elsewhere."""
        with suppress(KeyError, IndexError, TypeError, ValueError, OSError), open(self.path, encoding="utf-8") as file:
            outputs = [os.fspath(path) for path in json.load(file)["outputs"]]
            if same_file_key(outputs[0]) == same_file_key(self._outputs[0]):
                return outputs
        return []
