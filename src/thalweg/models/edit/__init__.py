"""Editors of generated images: directions in the space of styles."""
