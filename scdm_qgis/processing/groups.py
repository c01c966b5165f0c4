"""The groups of the Toolbox, in the order of the work.

QGIS sorts groups by name, so the names carry numbers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """One group: its id, which is also its icon's name, and the name users see."""

    id: str
    name: str


DATA = Group("data", "1 · Data")
TRAINING = Group("training", "2 · Training")
RECONSTRUCTION = Group("reconstruction", "3 · Reconstruction")
EVALUATION = Group("evaluation", "4 · Evaluation")
ENGINE = Group("engine", "5 · Engine")
