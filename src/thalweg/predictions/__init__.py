"""What comes back from a model: a few kinds of predictions, each of which can be shown as text, CSV, JSON and image."""
