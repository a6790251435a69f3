"""How are crops loaded by workers, epoch after epoch, and taken up again where they stopped?

An iteration is one epoch, as with torch's DataLoader: one that was left early is followed by the next epoch, unless a
state says that its rest is wanted.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader

from ndzarr.counts import whole
from ndzarr.errors import OptionError, did_you_mean
from ndzarr.torch.content import Tensors
from ndzarr.torch.crops import CropDataset
from ndzarr.torch.stream import CropStream

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
