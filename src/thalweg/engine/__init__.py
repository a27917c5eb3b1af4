"""How a loss is minimized: the loop, optimizers, ranks, checkpoints. Nothing here knows a task."""
