"""The folder that a training leaves."""
