"""What a model looked at: one method per file, pure functions from a model and an image to maps."""
