"""How examples arrive: readers, splits, batches, augmentation. Only stream.py, augment.py and pad.py import torch."""
