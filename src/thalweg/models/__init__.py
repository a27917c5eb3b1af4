"""One file per network, the paper in its header, in a folder per task."""
