"""
Loading crops with worker processes, epoch after epoch, from any batch on.

An iteration is one epoch, as with torch's DataLoader. After an iteration that was left early comes the next epoch,
unless a loaded state asks for the rest of the epoch.
"""

from __future__ import annotations

import inspect
from binascii import crc32
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ndzarr._concurrency import ordered_map
from ndzarr._executors import WorkerError
from ndzarr._validation import check_choice, check_count
from ndzarr.errors import OptionError, did_you_mean
from ndzarr.torch.blend import Blend
from ndzarr.torch.crops import CropDataset, ReadCrops, Tensors
from ndzarr.torch.order import apportioned, groups, interleaved, passes


class CropStream(IterableDataset[Tensors]):
    """
    Batches of crops in a random order whose neighbours share chunks, sharded over workers and ranks.

    Parameters
    ----------
    crops
        The crops to stream, a `CropDataset` or a `Blend` of several.
    batch_size
        Crops of a batch.
    shuffle
        False keeps the order of the targets.
    seed
        Decides the order, together with the epoch.
    together
        Number of blocks, of about one shard each, whose crops are shuffled together.
    buffer
        Number of positions over which the order is mixed further.
    drop_last
        Leave out a last batch that is not full.
    epoch_size
        Crops of an epoch; by default as many as there are.  Epochs follow one another through passes over all crops,
        each in an order of its own: no crop comes twice before all others have come once.
    prefetch_bytes
        Bytes of batches that each worker reads ahead, several at a time: for images in buckets, so that requests for
        the next batches are under way meanwhile.  Transforms are called in the order of the batches all the same.
    rank, world
        Number of this process and of all; those of torch.distributed by default, if that is initialised, else 0 of 1.
        All ranks get equally many batches: up to world - 1 batches at the end of an epoch are left out, since a rank
        with one more would wait for the others forever.

    Raises
    ------
    OptionError
        A number is out of range, or there are fewer batches than ranks.
    """

    def __init__(
        self,
        crops: CropDataset | Blend,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        together: int = 16,
        buffer: int = 1024,
        drop_last: bool = False,
        epoch_size: int | None = None,
        prefetch_bytes: int = 0,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        self.prefetch_bytes = check_count("prefetch_bytes", prefetch_bytes, 0)
        self.crops, self.batch_size, self.shuffle = crops, check_count("batch_size", batch_size), shuffle
        self.seed, self.drop_last = check_count("seed", seed, 0), drop_last
        self.together, self.buffer = check_count("together", together), check_count("buffer", buffer, 0)
        self.rank, self.world = _place(rank, world)
        self._groups = [groups(part.rows) if shuffle else len(part) for part in crops.parts]
        self.epoch_size = len(crops) if epoch_size is None else check_count("epoch_size", epoch_size)
        # Shared memory: workers that live on see the epoch that is set here.
        self._begin = torch.zeros(2, dtype=torch.int64).share_memory_()
        if len(crops) and self.world > 1 and not self.batches:
            found = f"batch_size={batch_size}: {self.epoch_size} crops are fewer batches than the {self.world} ranks"
            raise OptionError(f"{found}, and all get equally many", key="batch_size", hint="Make batches smaller")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin.share_memory_()  # pickle copies it, unless it is that of multiprocessing

    @property
    def epoch(self) -> int:
        """The epoch of this iteration, or of the next."""
        return int(self._begin[0])

    @property
    def start(self) -> int:
        """Number of crops, of all ranks together, that the next iteration skips."""
        return int(self._begin[1])

    def begin(self, epoch: int, start: int = 0) -> None:
        """Begin the next iteration with this epoch, after so many crops of it."""
        self._begin[0], self._begin[1] = check_count("epoch", epoch, 0), check_count("start", start, 0)

    @property
    def depends_on(self) -> dict[str, int]:
        """Everything that decides the order of crops, besides the epoch."""
        given = {name: getattr(self, name) for name in ("seed", "shuffle", "together", "buffer", "epoch_size")}
        groups = b"".join(np.asarray(group).tobytes() for group in self._groups)
        weights = np.array(self.crops.weights, float).tobytes()
        return {**given, "targets": len(self.crops), "groups": crc32(groups), "weights": crc32(weights)}

    @property
    def batches(self) -> int:
        """Number of batches of a whole epoch of this rank."""
        return self.batches_from(0)

    def batches_from(self, start: int) -> int:
        """Return the number of batches of this rank that are left of an epoch after so many crops of all ranks."""
        n = self.epoch_size - start if len(self.crops) else 0
        every = n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return max(0, every) // self.world

    def __len__(self) -> int:
        return self.batches_from(self.start)

    def order(self, epoch: int) -> np.ndarray[Any, Any]:
        """Return the indices of the targets in the order of an epoch, over all ranks; shape (n,)."""
        counts = apportioned(self.epoch_size, self.crops.weights) if len(self._groups) > 1 else [self.epoch_size]
        parts = [
            passes(group, self.seed, epoch * n, n, self.together, self.buffer)
            for group, n in zip(self._groups, counts, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        whose = interleaved(counts, np.random.default_rng((self.seed, epoch)) if self.shuffle else None)
        out = np.empty(len(whose), np.int64)
        for k, (part, first) in enumerate(zip(parts, self.crops.starts, strict=True)):
            out[whose == k] = part + first
        return out

    def __iter__(self) -> Iterator[Tensors]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        order = self.order(self.epoch)
        places = [
            self.start + (k * self.world + self.rank) * self.batch_size for k in range(number, len(self), workers)
        ]
        for read in self._read([order[place : place + self.batch_size].tolist() for place in places]):
            yield read.collated()

    def _read(self, batches: list[list[int]]) -> Iterator[ReadCrops]:
        """Yield batches without their transforms; the first tells how many of them may be read ahead."""
        now = batches[:1] if self.prefetch_bytes else batches
        ahead = 1
        for indices in now:
            read = self.crops.read(indices)
            ahead = min(max(1, self.prefetch_bytes // max(1, read.nbytes)), _MOST_AHEAD)
            yield read
        # One worker of `ordered_map` would be the calling thread, which reads nothing ahead.
        yield from ordered_map(self.crops.read, batches[len(now) :], max(2, ahead), ahead, name="prefetch")


_MOST_AHEAD = 8
"""Batches that a worker reads at a time."""


def _place(rank: int | None, world: int | None) -> tuple[int, int]:
    if (rank is None) != (world is None):
        raise OptionError(f"rank={rank}, world={world}: give both or neither", key="rank")
    if rank is None or world is None:
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            return 0, 1
        rank, world = distributed.get_rank(), distributed.get_world_size()
    if not 0 <= rank < world:
        raise OptionError(f"rank={rank} of world={world} does not exist", key="rank")
    return rank, world


STARTS = ("fork", "spawn", "forkserver")
"""Ways to start workers."""
_STREAM = ("shuffle", "seed", "together", "buffer", "drop_last", "epoch_size", "prefetch_bytes", "rank", "world")
"""Options of `CropStream`."""
_DECIDED = ("sampler", "batch_sampler", "collate_fn", "dataset", "num_workers", "in_order", "batch_size")
"""Options of DataLoader that `loader` sets itself."""
_CALLED = {"num_workers": "workers", "multiprocessing_context": "start_method"}
"""Options of DataLoader to their names here."""


class Loader:
    """
    Iterates over one epoch of a `CropStream` after the other; made by `loader`.

    `state_dict` may be taken between any two batches. `load_state_dict` makes the next iteration go on there, with any
    number of workers and ranks, and any size of batches.
    """

    def __init__(self, stream: CropStream, workers: int, **options: Any) -> None:
        self.stream = stream
        self._loader: DataLoader[Tensors] = DataLoader(stream, batch_size=None, num_workers=workers, **options)
        self._next = (stream.epoch, stream.start)  # epoch, and crops of it that all ranks have had
        self._chosen: tuple[int, int] | None = self._next  # where the next iteration begins, if that was chosen
        self._running: object = None  # token of the iteration that is under way

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch; Lightning counts those before a checkpoint, too."""
        return self.stream.batches_from(0)

    def __iter__(self) -> Iterator[Tensors]:
        self._running = running = object()
        self._next = epoch, start = self._start()
        self._chosen = None
        self.stream.begin(epoch, start)
        total, each = len(self.stream), self.stream.batch_size * self.stream.world
        try:
            for taken, batch in enumerate(_explained(self._loader), 1):
                self._next = (epoch, start + taken * each) if taken < total else (epoch + 1, 0)
                yield batch
                if self._running is not running:
                    raise OptionError("another iteration over this loader has begun", hint="Make a loader for each")
            self._next = (epoch + 1, 0)
        finally:
            if self._running is running:
                self._running = None

    def _start(self) -> tuple[int, int]:
        """Return where the next iteration begins: at the next epoch after one left early, unless it was chosen."""
        epoch, crop = self._next
        return self._chosen or (epoch + (crop > 0), 0)

    def set_epoch(self, epoch: int) -> None:
        """Begin the next iteration with this epoch; otherwise epochs follow one another."""
        self._chosen = (check_count("epoch", epoch, 0), 0)

    def state_dict(self) -> dict[str, int]:
        """
        Return the epoch, the number of crops of it that all ranks together have had, and what their order depends on.

        It is the same on all ranks that have had equally many batches.
        """
        epoch, crop = self._next if self._running is not None or self._chosen is None else self._chosen
        return {"epoch": epoch, "crop": crop, **self.stream.depends_on}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """
        Begin the next iteration where `state_dict` was taken.

        Raises
        ------
        OptionError
            The order would differ: another seed, length of epochs, way to shuffle, or other targets.
        """
        for name, ours in self.state_dict().items():
            if name not in state:
                raise OptionError(f"the state has no {name!r}: it is not the state of such a loader", key=name)
            if name not in ("epoch", "crop") and state[name] != ours:
                found = f"the state was taken with {name}={state[name]}, but this loader has {name}={ours}"
                raise OptionError(f"{found}; the order of crops would differ", key=name)
        epoch, crop = check_count("epoch", state["epoch"], 0), check_count("crop", state["crop"], 0)
        if crop > self.stream.epoch_size:
            most = self.stream.epoch_size
            raise OptionError(f"the state was taken after crop {crop}, but an epoch has {most}", key="crop")
        self._chosen = (epoch, crop)


def _explained(batches: Iterable[Tensors]) -> Iterator[Tensors]:
    """Yield batches; a worker process that was killed becomes an error that says what to do."""
    try:
        yield from batches
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        message = f"a worker process of the loader was killed (out of memory?): {error}"
        hint = "Make a new loader with fewer workers, smaller batches or a smaller prefetch_factor"
        raise WorkerError(message, hint=hint) from error


def loader(
    crops: CropDataset | Blend, batch_size: int, *, workers: int = 0, start_method: str | None = None, **options: Any
) -> Loader:
    """
    Load shuffled batches of crops with worker processes.

    Parameters
    ----------
    crops
        The crops to load, a `CropDataset` or a `Blend` of several.
    batch_size
        Crops of a batch.
    workers
        Number of worker processes; 0 loads in this process.
    start_method
        'fork', 'spawn' or 'forkserver'; the system's own by default.
    **options
        Options of `CropStream` (shuffle, seed, together, buffer, drop_last, epoch_size, prefetch_bytes, rank, world)
        and of torch's DataLoader (pin_memory, prefetch_factor, persistent_workers, ...).

    Raises
    ------
    OptionError
        An option is unknown, or is one that the loader sets itself.
    """
    _check(workers, start_method, options)
    stream = CropStream(crops, batch_size, **{k: v for k, v in options.items() if k in _STREAM})
    further = {k: v for k, v in options.items() if k not in _STREAM}
    if workers:
        further.setdefault("multiprocessing_context", start_method)
        further.setdefault("persistent_workers", True)
    return Loader(stream, workers, **further)


def _check(workers: int, start_method: str | None, options: Mapping[str, Any]) -> None:
    check_count("workers", workers, 0)
    if start_method is not None:
        check_choice("start_method", start_method, STARTS)
    known = dict.fromkeys((*_STREAM, *inspect.signature(DataLoader).parameters))
    allowed = [name for name in known if name not in _DECIDED]
    for name in options:
        if name in _CALLED:
            raise OptionError(f"{name}= is called {_CALLED[name]}= here", key=name)
        if name in _DECIDED:
            hint = "Use torch's DataLoader with CropDataset"
            raise OptionError(f"{name}= is set by ndzarr.torch.loader", key=name, hint=hint)
        if name not in allowed:
            raise OptionError(f"{name}= is not an option{did_you_mean(name, allowed)}", key=name)
