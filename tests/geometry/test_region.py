"""A window at a scale: sizes, levels, padding and exact copies."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr._indexing.windows import level_count as count
from ndzarr._indexing.windows import level_shape as shape_at
from ndzarr._indexing.windows import output_length, region_at
from ndzarr.errors import WindowError

EPS = Fraction(1, 10**5)


def pyramid(height, width):
    """(shapes, factors) of the levels that ndzarr writes."""
    levels = range(count(height, width, 16))
    return [shape_at(k, "yx", (height, width)) for k in levels], [(2**k, 2**k) for k in levels]


def region(y, x, scale, shapes, factors, **options):
    """The region of half-open native intervals, at a scale along (x, y)."""
    n = output_length("y", y, scale[1]), output_length("x", x, scale[0])
    return region_at((y[0], x[0]), (y[1] - y[0], x[1] - x[0]), n, shapes, factors, **options)


def cut_of(y, x, scale, height, width):
    pair = scale if isinstance(scale, tuple) else (scale, scale)
    return region(y, x, pair, *pyramid(height, width))


intervals = st.tuples(st.integers(-300, 600), st.integers(1, 500)).map(lambda pair: (pair[0], pair[0] + pair[1]))
scales = st.one_of(st.sampled_from((1.0, 0.5, 0.25, 0.125, 2.0, 1 / 3, 0.1)), st.floats(0.01, 3))
cases = st.tuples(intervals, intervals, scales, scales, st.integers(1, 400), st.integers(1, 400))


def spans(case):
    y, x, sx, sy, height, width = case
    assume(round((y[1] - y[0]) * sy) and round((x[1] - x[0]) * sx))
    cut = region(y, x, (sx, sy), *pyramid(height, width))
    return cut, [(cut.y, y, sy, height, 0), (cut.x, x, sx, width, 1)]


@given(cases)
@examples(300)
def test_a_window_has_exactly_its_rounded_size(case):
    cut, both = spans(case)
    assert cut.shape == tuple(round((stop - start) * s) for _, (start, stop), s, _, _ in both)


@given(cases)
@examples(100)
def test_padding_is_what_lies_outside_and_nothing_else(case):
    _, both = spans(case)
    for span, (start, stop), _, length, _ in both:
        pitch = Fraction(stop - start, span.n)
        for j in range(span.n):
            low, high = start + j * pitch, start + (j + 1) * pitch
            inside = (min(high, length) - max(low, 0)) / pitch
            if span.target.start <= j < span.target.stop:
                assert inside > 0
            else:
                assert inside < EPS
        assert span.padded == (span.target != slice(0, span.n, 1))


@given(cases)
@examples(300)
def test_the_level_is_the_coarsest_whose_borders_agree_or_of_which_two_pixels_fit_an_output_pixel(case):
    cut, both = spans(case)
    _, factors = pyramid(case[4], case[5])
    axes = [(Fraction(start), Fraction(stop - start, span.n)) for span, (start, stop), *_ in both]
    exact = [k for k, (f, _) in enumerate(factors) if all(o % f == 0 and p % f == 0 for o, p in axes)]
    small = [k for k, (f, _) in enumerate(factors) if all(2 * f <= p for _, p in axes)]
    assert cut.level == max([0, *exact, *small])


@given(cases)
@examples(100)
def test_without_oversampling_the_level_is_the_coarsest_that_is_fine_enough(case):
    y, x, sx, sy, height, width = case
    assume(round((y[1] - y[0]) * sy) and round((x[1] - x[0]) * sx))
    shapes, factors = pyramid(height, width)
    cut = region(y, x, (sx, sy), shapes, factors, oversampling=1)
    pitches = Fraction(y[1] - y[0], cut.y.n), Fraction(x[1] - x[0], cut.x.n)
    assert cut.level == max([0, *(k for k, (f, _) in enumerate(factors) if f <= min(pitches))])


@given(cases)
@examples(300)
def test_what_is_read_is_what_the_output_covers_and_at_most_a_pixel_more(case):
    cut, both = spans(case)
    shapes, factors = pyramid(case[4], case[5])
    for span, (start, stop), _, _, axis in both:
        length, factor = shapes[cut.level][axis], factors[cut.level][axis]
        n = span.target.stop - span.target.start
        assert span.grid.n == n
        if not n:
            assert span.read.start >= span.read.stop
            continue
        assert 0 <= span.read.start < span.read.stop <= length
        pitch = Fraction(stop - start, span.n)
        low = max(0, (start + span.target.start * pitch) / factor)
        high = min(Fraction(length), (start + span.target.stop * pitch) / factor)
        assert span.read.start <= low + EPS
        assert span.read.stop >= high - EPS
        margin = 2 if pitch < factor else 1
        assert span.read.start > low - margin - EPS
        assert span.read.stop < high + margin + EPS
        # the grid says where the output lies in what is read
        assert abs(span.grid.start + span.read.start - (start + span.target.start * pitch) / factor) < EPS
        assert abs(span.grid.step - pitch / factor) < EPS


@pytest.mark.parametrize("k", range(5))
@pytest.mark.parametrize(("start", "n"), [(0, 1), (0, 4), (3, 5), (15, 1), (-2, 6), (13, 8), (-20, 3), (40, 2)])
def test_windows_aligned_to_a_power_of_two_copy_pixels_of_that_level(k, start, n):
    f = 2**k
    window = (start * f, (start + n) * f)
    cut = cut_of(window, window, 1 / f, 16 * f, 16 * f)
    assert cut.exact
    assert cut.shape == (n, n)
    inside = [i for i in range(start, start + n) if 0 <= i < 16]
    if inside:
        assert cut.level == min(k, count(16 * f, 16 * f, 16) - 1)
        assert cut.y.read == cut.x.read == slice(inside[0], inside[-1] + 1, 1)
        assert cut.y.target == slice(inside[0] - start, inside[-1] + 1 - start, 1)
    else:
        assert cut.y.target.start == cut.y.target.stop


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_odd_border_of_a_level_is_copied_too(k):
    f = 2**k
    side = 16 * f - f // 2  # the last pixel of the level covers half as much
    cut = cut_of((0, 16 * f), (0, 16 * f), 1 / f, side, side)
    assert (cut.exact, cut.level, cut.padded, cut.y.read) == (True, k, False, slice(0, 16, 1))


@pytest.mark.parametrize("window", [(-9, -1), (-4, 0), (100, 104), (500, 503)])
@pytest.mark.parametrize("scale", [0.3, 0.5, 1.0, 1.7, 4.0])
def test_a_window_wholly_outside_reads_nothing(window, scale):
    cut = cut_of(window, (0, 100), scale, 100, 100)
    assert cut.y.read.start >= cut.y.read.stop
    assert cut.y.target.start == cut.y.target.stop
    assert cut.padded


def test_scales_are_along_x_then_y():
    assert cut_of((0, 100), (0, 100), (0.5, 0.25), 100, 100).shape == (25, 50)


def test_levels_that_shrink_along_one_axis_only_are_used_along_that_axis():
    shapes, factors = [(64, 64), (64, 32), (64, 16)], [(1, 1), (1, 2), (1, 4)]
    cut = region((0, 64), (0, 64), (0.25, 1.0), shapes, factors)
    assert (cut.level, cut.exact) == (2, True)
    assert region((0, 64), (0, 64), (1.0, 0.25), shapes, factors).level == 0


@pytest.mark.parametrize("length", [50, 51])
def test_levels_of_other_writers_may_be_rounded_down(length):
    cut = region((0, 102), (0, 102), (0.5, 0.5), [(101, 101), (length, length)], [(1, 1), (2, 2)])
    assert cut.level == 1
    assert cut.y.read == slice(0, length, 1)
    assert cut.exact == (length == 51)
    assert cut.y.grid.n == 51


@pytest.mark.parametrize(("y", "scale"), [((5, 5), 1.0), ((7, 3), 1.0), ((0, 10), 0.04), ((0, 10), 0), ((0, 10), -1.0)])
def test_a_window_without_pixels_is_refused(y, scale):
    with pytest.raises(WindowError):
        cut_of(y, (0, 10), scale, 10, 10)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused(scale):
    with raises(WindowError, key="scale"):
        cut_of((0, 10), (0, 10), scale, 10, 10)


@given(st.floats(-50, 150), st.floats(0.3, 9), st.integers(1, 40))
@examples(200)
def test_origins_between_pixels_land_where_they_should(origin, pitch, n):
    cut = region_at((origin, origin), (n * pitch, n * pitch), (n, n), *pyramid(100, 100))
    factor = 2**cut.level
    for span in (cut.y, cut.x):
        for j in range(n):
            inside = min(origin + (j + 1) * pitch, 100) - max(origin + j * pitch, 0)
            assert (span.target.start <= j < span.target.stop) == (inside > 1e-4 * pitch) or abs(inside) < 1e-4 * pitch
        if span.grid.n:
            where = (span.read.start + span.grid.start) * factor
            assert abs(where - (origin + span.target.start * pitch)) < 1e-6
