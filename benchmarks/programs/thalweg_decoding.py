"""Ours: photographs of a folder as networks for ImageNet want them."""

from __future__ import annotations

from photographs import RESIZE, SIZE, race

from thalweg.data.images.image_loading import decode_images

if __name__ == "__main__":
    race(lambda files: decode_images(files, 3, SIZE, RESIZE))
