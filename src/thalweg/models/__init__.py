"""Models: one file per architecture with its paper in the header, in one folder per task."""
