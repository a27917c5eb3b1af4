"""Plots: pure functions from numbers to Pillow images and matplotlib figures. They read and write no files."""
