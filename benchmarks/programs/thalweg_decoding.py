"""Ours: photographs of a folder as networks for ImageNet want them."""

from __future__ import annotations

from photographs import RESIZE, SIZE, race

from thalweg.data.images.image_loading import decoded

if __name__ == "__main__":
    race(lambda files: decoded(files, 3, SIZE, RESIZE))
