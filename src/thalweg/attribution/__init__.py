"""Attribution: which parts of an image a model's prediction depends on. One method per file, as pure functions."""
