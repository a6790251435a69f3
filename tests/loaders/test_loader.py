"""Epochs over workers and ranks: everything once, the same whoever reads, and taken up again."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import socket
from itertools import chain

import pytest
from kwcoco import CocoDataset

torch = pytest.importorskip("torch")

import ndzarr  # noqa: E402
from helpers.errors import raises  # noqa: E402
from helpers.torch_processes import train  # noqa: E402
from ndzarr._executors import WorkerError  # noqa: E402
from ndzarr.errors import OptionError  # noqa: E402
from ndzarr.torch import Blend, CropDataset, CropStream, collate, loader  # noqa: E402


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


def test_workers_that_do_not_fork_give_the_same_batches(crops):
    expected = {b["index"][0].item(): b for b in loader(crops, 32, seed=2)}
    for batch in loader(crops, 32, seed=2, workers=1, start_method="forkserver"):
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
        assert len(resumed) == 13  # as for Lightning, which counts the batches before
        assert indices(resumed) == rest
    assert seen + rest == indices(loader(crops, 8, seed=1))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_was_left_is_followed_by_the_next_whole_one(crops, workers):
    alone = loader(crops, 8, seed=5)
    epochs = [indices(alone) for _ in range(3)]
    batches = loader(crops, 8, seed=5, workers=workers)
    for number, batch in enumerate(batches):
        assert len(batches) == 13
        assert batch["index"].tolist() == epochs[0][number]
        if number == 2:
            break
    assert batches.state_dict()["crop"] == 24  # the rest of the epoch is there for who asks for it
    assert len(batches) == 13
    assert indices(batches) == epochs[1]  # nothing that was prefetched comes late
    next(iter(batches))
    batches.set_epoch(0)
    assert batches.state_dict()["crop"] == 0
    assert indices(batches) == epochs[0]
    state = batches.state_dict()
    assert (state["epoch"], state["crop"]) == (1, 0)


def test_an_epoch_that_is_chosen_meanwhile_comes_next(crops):
    batches = loader(crops, 30, seed=5)
    first = []
    for batch in batches:
        first.append(batch["index"].tolist())
        batches.set_epoch(7)
        assert batches.state_dict()["epoch"] in (0, 1)  # that of the pass that is under way
    assert batches.state_dict()["epoch"] == 7
    batches.set_epoch(0)
    assert indices(batches) == first


@pytest.mark.parametrize("workers", [0, 2])
def test_two_passes_at_once_over_one_loader_are_refused(crops, workers):
    batches = loader(crops, 8, seed=5, workers=workers)
    first, second = iter(batches), iter(batches)
    next(first), next(second)
    with raises(OptionError, hint="Make a loader for each"):
        next(first)
    assert len(indices(second)) == 12


@pytest.mark.parametrize("workers", [0, 2])
def test_the_last_batch_can_be_resumed(crops, workers):
    batches = loader(crops, 8, seed=5)
    whole = indices(batches)
    resumed = loader(crops, 8, seed=5, workers=workers)
    resumed.load_state_dict(loader(crops, 8, seed=5).state_dict() | {"crop": 96})
    assert indices(resumed) == whole[12:]


def test_a_pickled_loader_is_a_loader(crops):
    batches = loader(crops, 30, seed=5, workers=1)
    expected = [indices(batches), indices(batches)]
    copy = pickle.loads(pickle.dumps(loader(crops, 30, seed=5, workers=1)))
    assert [indices(copy), indices(copy)] == expected  # its workers live on, and see the new epoch


def test_no_targets_are_no_batches(crops, table):
    empty = CropDataset(crops.sampler, table.iloc[:0])
    for workers in (0, 1):
        batches = loader(empty, 8, workers=workers)
        assert len(batches) == 0
        assert list(batches) == list(batches) == []


def test_more_ranks_than_batches_are_refused(crops):
    assert len(loader(crops, 50, rank=2, world=3)) == 1
    with raises(OptionError, key="batch_size", hint="Make batches smaller", match="4 ranks"):
        loader(crops, 50, rank=0, world=4)


def test_a_pass_that_failed_in_a_worker_can_be_begun_again(sampler, table):
    picky = CropDataset(sampler, table, transform=_fails_once)
    batches = loader(picky, 8, seed=5, workers=2)
    _fails_once.at = 40
    with pytest.raises(ValueError, match="crop 40"):
        list(batches)
    assert batches.state_dict()["epoch"] == 0
    state = batches.state_dict()
    _fails_once.at = None
    again = loader(picky, 8, seed=5, workers=2)
    again.load_state_dict(state)
    rest = indices(again)
    assert rest == indices(loader(picky, 8, seed=5))[state["crop"] // 8 :]
    assert sorted(chain(*indices(again))) == list(range(101))


def _fails_once(sample):
    if sample["index"] == _fails_once.at:
        raise ValueError(f"crop {int(sample['index'])}")
    return sample


_fails_once.at = None


@pytest.mark.slow
def test_processes_of_torch_distributed_get_batches_of_their_own(sampler, table, crops, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Spawned: torch's own arithmetic does not survive a fork of a process that has used it.
    torch.multiprocessing.spawn(train, (2, sampler, table, port, str(tmp_path)), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    whole = indices(loader(crops, 8, seed=5))
    assert [batch for pair in zip(*parts, strict=True) for batch in pair] == whole[:12]


def test_images_that_were_never_touched_are_transcoded_by_forked_workers(tmp_path):
    dset = CocoDataset.demo("vidshapes2-frames3", verbose=0)
    fresh = ndzarr.CocoSampler(dset, workdir=tmp_path)
    fresh.load_sample(gid=1)  # so that whatever holds threads has been used before the fork
    crops = CropDataset(fresh, [{"gid": gid} for gid in (*range(1, 7), *range(1, 7))])
    assert len(indices(loader(crops, 2, workers=2, start_method="fork"))) == 6


def test_a_state_of_another_order_is_refused(crops, table):
    state = loader(crops, 8, seed=1).state_dict()
    others = CropDataset(crops.sampler, table.iloc[::-1])
    for key, other, options in (
        ("buffer", crops, {"buffer": 5}),
        ("shuffle", crops, {"shuffle": False}),
        ("groups", others, {}),
    ):
        with raises(OptionError, key=key):
            loader(other, 8, **{"seed": 1, **options}).load_state_dict(state)
    with raises(OptionError, key="crop"):
        loader(crops, 8, seed=1).load_state_dict({"epoch": 3})


def test_the_seed_and_the_length_of_epochs_of_a_state_count(crops):
    state = loader(crops, 8, seed=1).state_dict()
    with raises(OptionError, key="seed", match="seed=1"):
        loader(crops, 8, seed=2).load_state_dict(state)
    with raises(OptionError, key="epoch_size", match="epoch_size=101"):
        loader(crops, 8, seed=1, epoch_size=50).load_state_dict(state)


@pytest.mark.parametrize(("world", "size", "workers"), [(1, 12, 0), (1, 24, 2), (3, 4, 0), (4, 5, 1)])
def test_an_epoch_goes_on_with_other_ranks_workers_and_batch_sizes(crops, world, size, workers):
    order = list(chain(*indices(loader(crops, 101, seed=1))))
    pair = [loader(crops, 6, seed=1, rank=r, world=2) for r in (0, 1)]
    running = [iter(one) for one in pair]
    for _ in range(3):
        for one in running:
            next(one)
    state = pair[0].state_dict()
    assert state == pair[1].state_dict()
    assert state["crop"] == 36
    rest = [loader(crops, size, seed=1, rank=r, world=world, workers=workers) for r in range(world)]
    for one in rest:
        one.load_state_dict(state)
    parts = [indices(one) for one in rest]
    found = list(chain(*(batch for row in zip(*parts, strict=True) for batch in row)))
    assert found == order[36 : 36 + len(found)]
    assert len(found) > 65 - world * size
    assert [len(one) for one in rest] == [len(loader(crops, size, rank=0, world=world))] * world  # then whole epochs


def test_epochs_have_the_length_that_is_asked_for(crops):
    short = loader(crops, 8, seed=1, epoch_size=40)
    seen = [list(chain(*indices(short))) for _ in range(5)]
    assert [len(epoch) for epoch in seen] == [40] * 5
    whole = loader(crops, 101, seed=1)
    passes = [list(chain(*indices(whole))) for _ in range(2)]
    assert list(chain(*seen)) == list(chain(*passes))[:200]  # nothing twice before all others once
    long = loader(crops, 50, seed=1, epoch_size=150, workers=1)
    assert list(chain(*indices(long))) == list(chain(*passes))[:150]
    kept = loader(crops, 50, shuffle=False, epoch_size=60)
    assert indices(kept) == [[*range(50)], [*range(50, 60)]]
    assert indices(kept) == [[*range(60, 101), *range(9)], [*range(9, 19)]]
    with raises(OptionError, key="epoch_size"):
        loader(crops, 8, epoch_size=0)


def test_datasets_are_blended_by_weight(crops, sampler):
    few = CropDataset(sampler, [{"gid": 1, "cx": 90, "cy": y, "width": 48, "height": 32} for y in range(50, 60)])
    blend = Blend([crops, few], weights=[3, 1])
    assert len(blend) == 111
    assert torch.equal(blend[105]["image"], few[4]["image"])
    assert torch.equal(blend[-1]["image"], few[9]["image"])
    batches = loader(blend, 20, seed=3, epoch_size=80)
    for epoch in range(3):
        found = [(s, i) for b in batches for s, i in zip(b["source"].tolist(), b["index"].tolist(), strict=True)]
        mine = [i for s, i in found if s == 1]
        assert len(found) == 80
        assert sorted(mine) == sorted([*range(10)] * 2)  # 20 of 10 crops: each twice
        assert 12 < sum(1 for s, _ in found[:40] if s == 0) / 40 * 20 < 18  # mixed all along
        if not epoch:
            first = found
    again = loader(blend, 20, seed=3, epoch_size=80, workers=2)
    assert [(s, i) for b in again for s, i in zip(b["source"].tolist(), b["index"].tolist(), strict=True)] == first
    batch = next(iter(torch.utils.data.DataLoader(blend, 6, sampler=[0, 110, 1, 109, 5, 101], collate_fn=collate)))
    assert batch["source"].tolist() == [0, 1, 0, 1, 0, 1]
    assert batch["index"].tolist() == [0, 9, 1, 8, 5, 0]
    assert torch.equal(batch["image"][3], few[8]["image"])
    with raises(OptionError, key="weights"):
        loader(Blend([crops, few]), 20, seed=3, epoch_size=80).load_state_dict(again.state_dict())
    for key, wrong in (("parts", ([],)), ("weights", ([crops], [1, 2])), ("weights", ([crops], [0]))):
        with raises(OptionError, key=key):
            Blend(*wrong)
    with pytest.raises(IndexError):
        blend[111]


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
    with raises(OptionError, key="rank"):
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
    with raises(OptionError, key="collate_fn"):
        loader(crops, 8, collate_fn=list)
    with raises(OptionError, key="num_workers", match=" workers="):
        loader(crops, 8, num_workers=2)
    with raises(OptionError, key="batch_size"):
        loader(crops, 0)
    with raises(OptionError, key="batch_size"):
        loader(crops, 8.5)
    with raises(OptionError, key="suffle", match="did you mean 'shuffle'"):
        loader(crops, 8, suffle=False)
    with raises(OptionError, key="start_method", match="fork, spawn, forkserver"):
        loader(crops, 8, workers=1, start_method="thread")
    for name, wrong in (
        ("workers", -1),
        ("workers", 2.5),
        ("together", 0),
        ("buffer", -1),
        ("seed", None),
        ("seed", -1),
    ):
        with raises(OptionError, key=name):
            loader(crops, 8, **{name: wrong})
    for wrong in (-1, 0.5, None):
        with raises(OptionError, key="epoch"):
            loader(crops, 8).set_epoch(wrong)
    state = loader(crops, 8).state_dict()
    for wrong, fact in ((-1, "crop=-1"), (102, "crop 102, but an epoch has 101")):
        with raises(OptionError, key="crop", match=fact):
            loader(crops, 8).load_state_dict({**state, "crop": wrong})


def test_an_error_in_a_worker_names_what_was_wrong(sampler):
    crops = CropDataset(sampler, [{"gid": 999}])
    with pytest.raises(Exception, match="999"):
        list(loader(crops, 1, workers=1))


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux' own record of memory")
def test_six_epochs_of_ten_thousand_crops_run_at_constant_memory(sampler):
    targets = [
        {"gid": 1 + k % 6, "cx": 20 + k % 500, "cy": 20 + k % 470, "width": 16, "height": 16} for k in range(10_000)
    ]
    crops = CropDataset(sampler, targets, annotations=False)
    epochs = loader(crops, 500, workers=2)
    held, files = [], []
    for _ in range(6):
        assert sum(len(batch["index"]) for batch in epochs) == 10_000
        gc.collect()
        held.append(_resident())
        files.append(len(os.listdir("/proc/self/fd")))
    assert max(held[3:]) - held[2] < 20 << 20
    assert len(set(files[1:])) == 1


def test_a_killed_worker_is_an_error_that_says_what_to_do(crops):
    batches = iter(loader(crops, 4, workers=1, prefetch_factor=1))
    next(batches)
    [worker] = multiprocessing.active_children()
    worker.kill()
    with raises(WorkerError, hint="fewer workers"):
        list(batches)
