"""
Crops for training with PyTorch.

`CropDataset` is map-style and reads a batch by one plan. `loader` shuffles by locality, shards over workers and ranks,
and resumes. `collate` makes batches of images, boxes and masks.
"""

from ndzarr.torch.blend import Blend
from ndzarr.torch.crops import CropDataset, LocalityBatches, collate
from ndzarr.torch.formats import per_box
from ndzarr.torch.loader import CropStream, Loader, loader
from ndzarr.torch.pixels import Normalisation, Screening

__all__ = [
    "Blend",
    "CropDataset",
    "CropStream",
    "Loader",
    "LocalityBatches",
    "Normalisation",
    "Screening",
    "collate",
    "loader",
    "per_box",
]
