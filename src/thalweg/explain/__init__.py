"""Explanations: pure functions from a network and a picture, or from parameters alone, to numbers and frames.

One idea per file, the paper in its header; nothing here reads or writes files. `draw` turns the numbers into pictures.
"""
