"""The stores of tests/openness/foreign.py whose writers are installed: each is right, or refused with what works."""

import warnings

import pytest

from openness.foreign import ROWS, check


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}, {row.writer}")
def test_a_store_of_others_is_right_or_refused_with_an_advice_that_works(row, tmp_path):
    if row.missing:
        pytest.skip(f"needs {' '.join(row.missing)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what the writers write
        assert check(row.write(tmp_path), tmp_path).startswith("yes")
