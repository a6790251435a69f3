"""A plan paints every wanted pixel once, and decodes every chunk at most once."""

import dataclasses
from dataclasses import dataclass, field
from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.hypothesis_settings import examples
from ndzarr._indexing.plan import plan_reads
from ndzarr._indexing.selection import lengths, select


@dataclass(eq=False)
class Chunks:
    """An array that only says how it is cut; `sizes` are those of its stored chunks, others are missing."""

    shape: tuple
    chunks: tuple
    dtype: np.dtype = field(default_factory=lambda: np.dtype("u2"))
    sizes: dict = field(default_factory=dict)
    engine: str = "fake"
    name: str = "fake"

    def encoded_size(self, chunk):
        return None if self.sizes is None else self.sizes.get(chunk, 0)

    def values(self):
        return np.arange(prod(self.shape)).reshape(self.shape)

    def grid(self):
        return product(*(range(-(-n // c)) for n, c in zip(self.shape, self.chunks, strict=True)))


@st.composite
def arrays(draw):
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)))
    chunks = tuple(draw(st.integers(1, n + 1)) for n in shape)
    made = Chunks(shape, chunks, np.dtype(draw(st.sampled_from(("u1", "u2", "f8")))))
    made.sizes = {c: draw(st.integers(1, 99)) for c in made.grid() if draw(st.booleans())}
    return made


@st.composite
def axis(draw, n):
    if draw(st.integers(0, 3)) == 0:
        return draw(st.lists(st.integers(0, n - 1), max_size=4))
    start = draw(st.integers(0, n))
    return slice(start, draw(st.integers(start, n + 2)), draw(st.integers(1, 3)))


@st.composite
def requests(draw):
    pool = draw(st.lists(arrays(), min_size=1, max_size=3))
    out = []
    for array in draw(st.lists(st.sampled_from(pool), max_size=6)):
        dims = [f"d{i}" for i in range(len(array.shape))]
        window = {d: draw(axis(n)) for d, n in zip(dims, array.shape, strict=True)}
        out.append((array, select(dims, array.shape, window)))
    return out


def pixels(array, selection):
    """The oracle: indices of the pixels that a selection wants."""
    picks = [range(s.start, s.stop, s.step) if isinstance(s, slice) else s for s in selection]
    return array.values()[np.ix_(*[np.asarray(p, int) for p in picks])]


def chunks_wanted(array, selection):
    """The oracle: chunks that hold a wanted pixel, found pixel by pixel."""
    picks = [range(s.start, s.stop, s.step) if isinstance(s, slice) else s for s in selection]
    return {tuple(i // c for i, c in zip(pixel, array.chunks, strict=True)) for pixel in product(*picks)}


@given(requests())
@examples(120)
def test_every_wanted_pixel_lands_exactly_once_in_its_place(wanted):
    plan = plan_reads(wanted)
    assert plan.shapes == tuple(lengths(selection) for _, selection in wanted)
    painted = [np.zeros(shape, int) for shape in plan.shapes]
    landed = [np.full(shape, -1) for shape in plan.shapes]
    for read in plan.reads:
        number, chunk, parts = read
        array = plan.arrays[number]
        whole = np.full(tuple(-(-n // c) * c for n, c in zip(array.shape, array.chunks, strict=True)), -2)
        whole[tuple(map(slice, array.shape))] = array.values()
        decoded = whole[tuple(slice(k * c, (k + 1) * c) for k, c in zip(chunk, array.chunks, strict=True))]
        assert decoded.shape == array.chunks
        assert parts
        for window, source, target in parts:
            painted[window][target] += 1
            landed[window][target] = decoded[source]
    for (array, selection), count, found in zip(wanted, painted, landed, strict=True):
        assert (count == 1).all()
        assert np.array_equal(found, pixels(array, selection))


@given(requests())
@examples(120)
def test_a_plan_reads_the_wanted_chunks_and_each_once(wanted):
    plan = plan_reads(wanted)
    found = [(id(plan.arrays[a]), chunk) for a, chunk, _ in plan.reads]
    assert len(found) == len(set(found))
    assert set(found) == {(id(a), chunk) for a, selection in wanted for chunk in chunks_wanted(a, selection)}
    assert len({id(a) for a in plan.arrays}) == len(plan.arrays)
    assert [id(plan.arrays[a]) for a, _ in plan.windows] == [id(array) for array, _ in wanted]


@given(requests())
@examples(100)
def test_explain_counts_what_a_brute_force_counts(wanted):
    cost = plan_reads(wanted).explain()
    users = {}
    for window, (array, selection) in enumerate(wanted):
        for chunk in chunks_wanted(array, selection):
            users.setdefault((id(array), chunk), (array, set()))[1].add(window)
    sizes = {key: array.sizes.get(key[1], 0) for key, (array, _) in users.items()}
    decoded = sum(prod(array.chunks) * array.dtype.itemsize for key, (array, _) in users.items() if sizes[key])
    pixels_wanted = sum(pixels(a, s).size * a.dtype.itemsize for a, s in wanted)
    assert cost.windows == len(wanted)
    assert cost.chunks == len(users)
    assert cost.missing == sum(size == 0 for size in sizes.values())
    assert cost.shared == sum(len(windows) > 1 for _, windows in users.values())
    assert cost.encoded_bytes == sum(sizes.values())
    assert cost.decoded_bytes == decoded
    assert cost.wanted_bytes == pixels_wanted
    assert cost.amplification == (decoded / pixels_wanted if pixels_wanted else 0)
    assert sum(n for _, n in cost.engines) == len(users)


def test_reads_of_many_windows_walk_each_array_forwards():
    array = Chunks((64, 64), (8, 8))
    windows = [(array, select("yx", array.shape, {"y": slice(y, y + 9), "x": slice(56 - y, 64)})) for y in (40, 0, 24)]
    order = [(a, chunk) for a, chunk, _ in plan_reads(windows).reads]
    assert order == sorted(order)


def test_a_plan_cannot_be_changed_and_says_how_large_it_is():
    array = Chunks((8, 8), (4, 4))
    plan = plan_reads([(array, select("yx", array.shape, {"y": slice(0, 5)}))])
    assert repr(plan) == "<ReadPlan: 1 window, 4 chunk reads, 1 array>"
    assert len(plan) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.reads = ()


def test_an_empty_plan_costs_nothing():
    cost = plan_reads([]).explain()
    assert (cost.windows, cost.chunks, cost.encoded_bytes, cost.decoded_bytes, cost.amplification) == (0, 0, 0, 0, 0)
    assert "windows" in str(cost)


def test_bytes_that_an_engine_cannot_tell_are_unknown_not_zero():
    known, unknown = Chunks((8,), (4,), sizes={(0,): 10}), Chunks((8,), (4,), sizes=None, engine="other")
    cost = plan_reads([(a, (slice(0, 8, 1),)) for a in (known, unknown)]).explain()
    assert cost.encoded_bytes is None
    assert cost.missing == 1
    assert cost.decoded_bytes == (1 + 2) * 4 * 2
    assert dict(cost.engines) == {"fake": 2, "other": 2}
    assert "unknown encoded" in str(cost)
    assert "other: 2 chunks" in str(cost)
