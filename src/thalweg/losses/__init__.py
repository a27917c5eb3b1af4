"""Loss functions: pure functions of tensors, the source in each docstring."""
