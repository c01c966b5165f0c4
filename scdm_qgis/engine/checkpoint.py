"""What an interrupted training is taken up from: everything of it, in one safetensors file beside the output."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Mapping, Optional

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from scdm_qgis.core.errors import UserError
from scdm_qgis.core.training import Training
from scdm_qgis.core.whole_file import checkpoint_path, written_whole
from scdm_qgis.engine.fingerprint import as_json, first_change

SECONDS_BETWEEN = 30.0
"""How much work an interruption may cost at most, apart from a long iteration's."""

_KEY = "scdm_training"


class Checkpoint:
    """The checkpoint of the training that will write `output`.

    Args:
        output: the stage file to be made.
        fingerprint: whatever must be the same for a training to be taken up, as JSON values by the name
            a user knows it by.
    """

    def __init__(self, output: str, fingerprint: Mapping[str, Any]) -> None:
        self.path = checkpoint_path(output)
        self._fingerprint = as_json(fingerprint)
        self._saved = time.monotonic()

    def was_bfloat16(self) -> Optional[bool]:
        """Return whether the interrupted training computed in bfloat16; None where none can be taken up."""
        try:
            with safe_open(self.path, "pt") as file:
                return bool(json.loads(file.metadata()[_KEY])["bfloat16"])
        except (SafetensorError, KeyError, TypeError, ValueError, OSError):
            return None  # `restore` says what is wrong

    def restore(self, training: Training) -> bool:
        """Take a training up where the checkpoint left it; return whether there was a checkpoint.

        Raises:
            UserError: the checkpoint is another training's, or damaged.
        """
        if not os.path.exists(self.path):
            return False
        remedy = "Give everything as before, or train without RESUME, which starts afresh."
        try:
            with safe_open(self.path, "pt") as file:
                values = json.loads(file.metadata()[_KEY])
            changed = first_change(values["fingerprint"], self._fingerprint)
            if changed is not None:
                raise UserError(f"The training cannot be taken up: {changed} is not what it was.", remedy)
            # Copied: what is loaded is the file itself, mapped, which Windows lets nobody replace meanwhile.
            tensors = {name: tensor.clone() for name, tensor in load_file(self.path).items()}
            training.restore(tensors, values["training"])
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise UserError(f"The checkpoint '{self.path}' is damaged.", remedy) from error
        return True

    def save_when_due(self, training: Training) -> None:
        """Write the checkpoint where the last is old enough."""
        if time.monotonic() - self._saved < SECONDS_BETWEEN:
            return
        self.save(training)

    def save(self, training: Training) -> None:
        """Write the checkpoint."""
        bfloat16 = training.settings.bfloat16
        values = {"fingerprint": self._fingerprint, "bfloat16": bfloat16, "training": training.values()}
        with written_whole(self.path) as partial, open(partial, "wb") as file:
            file.write(save(training.tensors(), {_KEY: json.dumps(values)}))
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Delete the checkpoint where there is one."""
        if os.path.exists(self.path):
            os.remove(self.path)
