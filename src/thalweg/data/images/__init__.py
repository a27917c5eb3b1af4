"""Readers of images and image data sets."""
