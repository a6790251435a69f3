"""
Crops for training with PyTorch.

`CropDataset` is map-style and reads a batch by one plan. `loader` shuffles by locality, shards over workers and ranks,
and resumes. `collate` makes batches of images, boxes and masks.
"""

from ndzarr.torch.blend import Blend
from ndzarr.torch.crops import CropDataset, LocalityBatches, collate
from ndzarr.torch.loader import CropStream, Loader, loader

__all__ = ["Blend", "CropDataset", "CropStream", "Loader", "LocalityBatches", "collate", "loader"]
