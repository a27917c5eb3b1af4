"""How examples arrive: readers of files, splits, batches, augmentation. Only stream.py, augment.py and pad.py import torch."""
