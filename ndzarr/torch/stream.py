"""How do many workers and ranks share one shuffled pass over targets?

1. The order of an epoch (`order`) is cut into batches; all consumers know it, since it depends on seed and epoch alone.
2. Batch k goes to rank k modulo their number, and of those a worker takes every n-th.  DataLoader takes batches from
   its workers in turn, so that a rank sees the same batches in the same order with any number of workers.
3. What is left of an epoch after some batches is that order without its beginning: this is all that resuming takes.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ndzarr.counts import whole
from ndzarr.errors import OptionError
from ndzarr.torch.content import Tensors
from ndzarr.torch.crops import CropDataset
from ndzarr.torch.fetched import collate
from ndzarr.torch.order import groups, shuffled


class CropStream(IterableDataset[Tensors]):
    """
    Batches of targets in a random order in which neighbours share chunks, sharded over workers and ranks.

    Parameters
    ----------
    crops
        What is streamed.
    batch_size
        Crops of a batch.
    shuffle
        False keeps the order of the targets.
    seed
        Of the order, together with the epoch.
    together
        Blocks of about one shard that are open at a time.
    buffer
        Crops over which order is mixed further.
    drop_last
        Leave out a last batch that is not full.
    rank, world
        Which of how many processes this is; those of torch.distributed, if that is initialised, else 0 of 1.  All ranks
        get equally many batches: up to world - 1 batches at the end of an epoch are left out, since a rank with one
        more would wait for the others forever.

    Raises
    ------
    OptionError
        A number is out of range, or there are fewer batches than ranks.
    """

    def __init__(
        self,
        crops: CropDataset,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        together: int = 16,
        buffer: int = 1024,
        drop_last: bool = False,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        self.crops, self.batch_size, self.shuffle = crops, whole("batch_size", batch_size), shuffle
        self.seed, self.drop_last = whole("seed", seed, 0), drop_last
        self.together, self.buffer = whole("together", together), whole("buffer", buffer, 0)
        self.rank, self.world = _place(rank, world)
        self._group = groups(crops.rows) if shuffle else None
        # Shared memory: workers that live on see the epoch that is set here.
        self._begin = torch.zeros(2, dtype=torch.int64).share_memory_()
        if len(crops) and self.world > 1 and not self.batches:
            raise OptionError(
                f"{len(crops)} crops in batches of {batch_size} are fewer batches than the {self.world} ranks, and all "
                f"get equally many; make batches smaller"
            )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin.share_memory_()  # pickle copies it, unless it is that of multiprocessing

    @property
    def epoch(self) -> int:
        """The epoch that is, or will be, iterated over."""
        return int(self._begin[0])

    @property
    def first(self) -> int:
        """Batches of this rank that the next iteration leaves out."""
        return int(self._begin[1])

    def begin(self, epoch: int, batch: int = 0) -> None:
        """Let the next iteration begin with this batch of this epoch."""
        self._begin[0], self._begin[1] = whole("epoch", epoch, 0), whole("batch", batch, 0)

    @property
    def depends_on(self) -> dict[str, int]:
        """What the order of crops is made from, besides the epoch."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "world": self.world,
            "shuffle": self.shuffle,
            "together": self.together,
            "buffer": self.buffer,
            "targets": len(self.crops),
            "groups": 0 if self._group is None else crc32(self._group.tobytes()),
        }

    @property
    def batches(self) -> int:
        """Batches of a whole epoch, of this rank."""
        n = len(self.crops)
        whole = n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return whole // self.world

    def __len__(self) -> int:
        return max(0, self.batches - self.first)

    def order(self, epoch: int) -> np.ndarray[Any, Any]:
        """Numbers of the targets in the order of an epoch, over all ranks; shape (n,)."""
        if self._group is None:
            return np.arange(len(self.crops))
        return shuffled(self._group, self.seed, epoch, self.together, self.buffer)

    def __iter__(self) -> Iterator[Tensors]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        order = self.order(self.epoch)
        for k in range(self.first + number, self.batches, workers):
            place = (k * self.world + self.rank) * self.batch_size
            yield collate(self.crops.__getitems__(order[place : place + self.batch_size].tolist()))


def _place(rank: int | None, world: int | None) -> tuple[int, int]:
    if (rank is None) != (world is None):
        raise OptionError(f"rank={rank}, world={world}: give both or neither")
    if rank is None or world is None:
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            return 0, 1
        rank, world = distributed.get_rank(), distributed.get_world_size()
    if not 0 <= rank < world:
        raise OptionError(f"rank={rank} of world={world} does not exist")
    return rank, world
