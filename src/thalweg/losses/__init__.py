"""Loss functions: pure functions of tensors, with the source in each docstring."""
