"""Styles of a generator with the attributes of their images: data that is drawn, never read."""
