"""
Crops for training with PyTorch.

`CropDataset` is map-style, with one plan per batch; `loader` shuffles by locality, shards over workers and ranks, and
resumes; `collate` makes batches of images, boxes and masks.
"""

from ndzarr.torch.crops import CropDataset, LocalityBatches
from ndzarr.torch.fetched import collate
from ndzarr.torch.load import Loader, loader
from ndzarr.torch.stream import CropStream

__all__ = ["CropDataset", "CropStream", "Loader", "LocalityBatches", "collate", "loader"]
