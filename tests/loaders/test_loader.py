"""Epochs over workers and ranks: everything once, the same whoever reads, and taken up again."""

from __future__ import annotations

import gc
import os
from itertools import chain

import pytest

torch = pytest.importorskip("torch")

from ndzarr.errors import OptionError  # noqa: E402
from ndzarr.torch import CropDataset, CropStream, loader  # noqa: E402


def indices(batches):
    return [batch["index"].tolist() for batch in batches]


@pytest.fixture(scope="module")
def crops(sampler, table):
    return CropDataset(sampler, table)


def test_an_epoch_is_the_same_with_any_number_of_workers_and_the_next_is_another(crops):
    alone = loader(crops, 8, seed=5)
    first, second = indices(alone), indices(alone)
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(101))
    assert first != second
    with_workers = loader(crops, 8, seed=5, workers=2)
    assert len(with_workers) == 13
    assert indices(with_workers) == first
    assert indices(with_workers) == second  # workers that live on see the new epoch


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_do_not_fork_give_the_same_batches(crops, method):
    expected = {b["index"][0].item(): b for b in loader(crops, 32, seed=2)}
    for batch in loader(crops, 32, seed=2, workers=2, start_method=method):
        wanted = expected[batch["index"][0].item()]
        assert torch.equal(batch["image"], wanted["image"])
        assert all(torch.equal(a, b) for a, b in zip(batch["boxes"], wanted["boxes"], strict=True))


def test_a_loader_goes_on_where_another_stopped(crops):
    interrupted = loader(crops, 8, seed=1, workers=2)
    running = iter(interrupted)
    seen = [next(running)["index"].tolist() for _ in range(5)]
    state = interrupted.state_dict()
    rest = indices(running)
    for workers in (0, 1, 2):
        resumed = loader(crops, 8, seed=1, workers=workers)
        resumed.load_state_dict(state)
        assert len(resumed) == 8
        assert indices(resumed) == rest
        assert len(resumed) == 13  # the next epoch is whole
    assert seen + rest == indices(loader(crops, 8, seed=1))


def test_a_state_of_another_order_is_refused(crops):
    state = loader(crops, 8, seed=1).state_dict()
    with pytest.raises(OptionError, match="seed=1"):
        loader(crops, 8, seed=2).load_state_dict(state)
    with pytest.raises(OptionError, match="batch_size=8"):
        loader(crops, 9, seed=1).load_state_dict(state)


def test_the_end_of_an_epoch_resumes_with_the_next(crops):
    first = loader(crops, 8, seed=1)
    running = iter(first)
    for _ in range(13):
        next(running)
    resumed = loader(crops, 8, seed=1)
    resumed.load_state_dict(first.state_dict())
    indices(running)
    assert indices(resumed) == indices(first)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_an_epoch_in_equal_parts(crops, world):
    whole = indices(loader(crops, 8, seed=1))
    parts = [indices(loader(crops, 8, seed=1, rank=r, world=world)) for r in range(world)]
    assert {len(part) for part in parts} == {13 // world}
    assert [batch for row in zip(*parts, strict=True) for batch in row] == whole[: 13 // world * world]
    with pytest.raises(OptionError, match="does not exist"):
        loader(crops, 8, rank=world, world=world)


def test_order_may_be_kept_and_the_last_batch_dropped(crops):
    assert indices(loader(crops, 50, shuffle=False)) == [[*range(50)], [*range(50, 100)], [100]]
    assert indices(loader(crops, 50, shuffle=False, drop_last=True)) == [[*range(50)], [*range(50, 100)]]


def test_a_stream_is_an_iterable_dataset_of_torchs(crops):
    stream = CropStream(crops, 30, seed=3)
    loaded = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2)
    assert len(loaded) == 4
    assert sorted(chain(*indices(loaded))) == list(range(101))


def test_options_that_would_break_the_order_are_refused(crops):
    with pytest.raises(OptionError, match="collate_fn= is decided"):
        loader(crops, 8, collate_fn=list)
    with pytest.raises(OptionError, match="at least 1"):
        loader(crops, 0)


def test_an_error_in_a_worker_names_what_was_wrong(sampler):
    crops = CropDataset(sampler, [{"gid": 999}])
    with pytest.raises(Exception, match="999"):
        list(loader(crops, 1, workers=1))


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux' own record of memory")
def test_ten_epochs_of_ten_thousand_crops_run_at_constant_memory(sampler):
    targets = [
        {"gid": 1 + k % 6, "cx": 20 + k % 500, "cy": 20 + k % 470, "width": 16, "height": 16} for k in range(10_000)
    ]
    crops = CropDataset(sampler, targets, annotations=False)
    epochs = loader(crops, 500, workers=2)
    held, files = [], []
    for _ in range(10):
        assert sum(len(batch["index"]) for batch in epochs) == 10_000
        gc.collect()
        held.append(_resident())
        files.append(len(os.listdir("/proc/self/fd")))
    assert max(held[3:]) - held[2] < 20 << 20
    assert len(set(files[1:])) == 1
