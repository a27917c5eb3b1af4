"""How a loss is minimised: the loop, optimisers, ranks, checkpoints. Nothing here knows a task.

`thalweg.train` is this folder and also the verb: `thalweg.train("classify", "photos/", epochs=10)`.
"""
