"""How are crops loaded by workers, epoch after epoch, and taken up again where they stopped?

An iteration is one epoch, as with torch's DataLoader: one that was left early is followed by the next epoch, unless a
state says that its rest is wanted.
"""

from __future__ import annotations

import inspect
from binascii import crc32
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ndzarr._validation import check_count as whole
from ndzarr.errors import OptionError, did_you_mean
from ndzarr.torch.crops import CropDataset, Tensors, collate
from ndzarr.torch.order import groups, shuffled

# --- How do many workers and ranks share one shuffled pass over targets?


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


STARTS = ("fork", "spawn", "forkserver")
"""Ways to start workers."""
_STREAM = ("shuffle", "seed", "together", "buffer", "drop_last", "rank", "world")
_DECIDED = ("sampler", "batch_sampler", "collate_fn", "dataset", "num_workers", "in_order")


class Loader:
    """
    Iterates over an epoch of a `CropStream`, then the next; made by `loader`.

    `state_dict` may be taken between any two batches, and `load_state_dict` makes the next iteration go on there, with
    any number of workers.
    """

    def __init__(self, stream: CropStream, workers: int, **options: Any) -> None:
        self.stream = stream
        self._loader: DataLoader[Tensors] = DataLoader(stream, batch_size=None, num_workers=workers, **options)
        self._next = (stream.epoch, stream.first)
        """Epoch and number of the next batch."""
        self._chosen: tuple[int, int] | None = self._next
        """Where the next iteration begins, if that was said."""
        self._running: object = None
        """What tells the iteration that is under way from earlier ones."""

    def __len__(self) -> int:
        """Batches of the iteration that is under way, else of the next."""
        first = self.stream.first if self._running is not None else self._start()[1]
        return max(0, self.stream.batches - first)

    def __iter__(self) -> Iterator[Tensors]:
        self._running = running = object()
        self._next = epoch, first = self._start()
        self._chosen = None
        self.stream.begin(epoch, first)
        try:
            for taken, batch in enumerate(self._loader, first + 1):
                self._next = (epoch, taken) if taken < self.stream.batches else (epoch + 1, 0)
                yield batch
                if self._running is not running:
                    raise OptionError("another iteration over this loader has begun; make a loader for each")
            self._next = (epoch + 1, 0)
        finally:
            if self._running is running:
                self._running = None

    def _start(self) -> tuple[int, int]:
        """Where the next iteration begins: what is left of an epoch is left out, unless it was chosen."""
        epoch, batch = self._next
        return self._chosen or (epoch + (batch > 0), 0)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be this epoch, from its beginning; without it, epochs follow one another."""
        self._chosen = (whole("epoch", epoch, 0), 0)

    def state_dict(self) -> dict[str, int]:
        """Where the next batch is, and what the order of crops depends on."""
        epoch, batch = self._next if self._running is not None or self._chosen is None else self._chosen
        return {"epoch": epoch, "batch": batch, **self.stream.depends_on}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """
        Go on where `state_dict` was taken.

        Raises
        ------
        OptionError
            The order would be another one: seed, batch size, ranks, targets or how they are shuffled differ.
        """
        for name, ours in self.state_dict().items():
            if name not in state:
                raise OptionError(f"the state has no {name!r}: it was not taken by the state_dict of such a loader")
            if name not in ("epoch", "batch") and state[name] != ours:
                raise OptionError(
                    f"the state was taken with {name}={state[name]}, but this loader has {name}={ours}; the "
                    f"order of crops would be another one"
                )
        epoch, batch = whole("epoch", state["epoch"], 0), whole("batch", state["batch"], 0)
        if batch > self.stream.batches:
            raise OptionError(f"the state was taken after batch {batch}, but an epoch has {self.stream.batches}")
        self._chosen = (epoch, batch)


def loader(
    crops: CropDataset, batch_size: int, *, workers: int = 0, start_method: str | None = None, **options: Any
) -> Loader:
    """
    Load shuffled batches of crops with worker processes.

    Parameters
    ----------
    crops
        What is loaded.
    batch_size
        Crops of a batch.
    workers
        Processes; 0 loads in this one.
    start_method
        'fork', 'spawn' or 'forkserver'; the system's own if left out.
    **options
        Of `CropStream` (shuffle, seed, together, buffer, drop_last, rank, world), and of torch's DataLoader
        (pin_memory, prefetch_factor, persistent_workers, ...).

    Raises
    ------
    OptionError
        An option is unknown, or loading in order needs it for itself.
    """
    _check(workers, start_method, options)
    stream = CropStream(crops, batch_size, **{k: v for k, v in options.items() if k in _STREAM})
    further = {k: v for k, v in options.items() if k not in _STREAM}
    if workers:
        further.setdefault("multiprocessing_context", start_method)
        further.setdefault("persistent_workers", True)
    return Loader(stream, workers, **further)


_CALLED = {"num_workers": "workers", "multiprocessing_context": "start_method"}
"""Options of DataLoader that `loader` has under another name."""


def _check(workers: int, start_method: str | None, options: Mapping[str, Any]) -> None:
    whole("workers", workers, 0)
    if start_method is not None and start_method not in STARTS:
        raise OptionError(f"start_method={start_method!r} is not known{did_you_mean(start_method, STARTS)}")
    known = dict.fromkeys((*_STREAM, *inspect.signature(DataLoader).parameters))
    allowed = [name for name in known if name not in (*_DECIDED, "batch_size")]
    for name in options:
        if name in _CALLED:
            raise OptionError(f"{name}= is called {_CALLED[name]}= here")
        if name in _DECIDED:
            raise OptionError(
                f"{name}= is decided by ndzarr.torch.loader; use torch's DataLoader with CropDataset instead"
            )
        if name not in allowed:
            raise OptionError(f"{name}= is no option{did_you_mean(name, allowed)}")
