"""What the concept landscape computes, as typed values."""

from __future__ import annotations

from dataclasses import dataclass

from .measurements import CurvatureRecord, LineRecord, PathRecord, PlaneRecord


@dataclass(frozen=True)
class LandscapeRecord:
    """All numbers of the concept. `examples` are the training examples used, `weights` the number of weights."""

    examples: int
    weights: int
    line: LineRecord
    path: PathRecord
    plane: PlaneRecord
    filter_plane: PlaneRecord
    curvature: CurvatureRecord
