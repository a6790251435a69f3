"""How are crops loaded by workers, epoch after epoch, and taken up again where they stopped?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from ndzarr.errors import OptionError
from ndzarr.torch.content import Tensors
from ndzarr.torch.crops import CropDataset
from ndzarr.torch.stream import CropStream


class Loader:
    """
    Iterates over an epoch of a `CropStream`, then the next; made by `loader`.

    `state_dict` may be taken between any two batches, and `load_state_dict` makes the next iteration go on there, with
    any number of workers.
    """

    def __init__(self, stream: CropStream, workers: int, **options: Any) -> None:
        self.stream = stream
        self._loader: DataLoader[Tensors] = DataLoader(stream, batch_size=None, num_workers=workers, **options)
        self._taken = 0
        self._next = (stream.epoch, stream.first)

    def __len__(self) -> int:
        """Batches of the next iteration."""
        return max(0, self.stream.batches - self._next[1])

    def __iter__(self) -> Iterator[Tensors]:
        epoch, first = self._next
        self.stream.begin(epoch, first)
        self._taken = first
        for batch in self._loader:
            self._taken += 1
            self._next = (epoch, self._taken) if self._taken < self.stream.batches else (epoch + 1, 0)
            yield batch
        self._next = (epoch + 1, 0)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be this epoch, from its beginning; without it, epochs follow one another."""
        self._next = (epoch, 0)

    def state_dict(self) -> dict[str, int]:
        """Where the next batch is."""
        epoch, batch = self._next
        stream = self.stream
        return {
            "epoch": epoch,
            "batch": batch,
            "seed": stream.seed,
            "batch_size": stream.batch_size,
            "world": stream.world,
            "targets": len(stream.crops),
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """
        Go on where `state_dict` was taken.

        Raises
        ------
        OptionError
            The order would be another one: seed, batch size, ranks or number of targets differ.
        """
        here = self.state_dict()
        for name in ("seed", "batch_size", "world", "targets"):
            if state[name] != here[name]:
                raise OptionError(
                    f"the state was taken with {name}={state[name]}, but this loader has {name}={here[name]}; the "
                    f"order of crops would be another one"
                )
        self._next = (state["epoch"], state["batch"])


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
        An option that loading in order needs for itself.
    """
    ours = ("shuffle", "seed", "together", "buffer", "drop_last", "rank", "world")
    for name in ("sampler", "batch_sampler", "collate_fn", "dataset", "num_workers", "in_order"):
        if name in options:
            raise OptionError(
                f"{name}= is decided by ndzarr.torch.loader; use torch's DataLoader with CropDataset instead"
            )
    stream = CropStream(crops, batch_size, **{k: v for k, v in options.items() if k in ours})
    further = {k: v for k, v in options.items() if k not in ours}
    if workers:
        further.setdefault("multiprocessing_context", start_method)
        further.setdefault("persistent_workers", True)
    return Loader(stream, workers, **further)
