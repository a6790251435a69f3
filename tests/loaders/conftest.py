"""A small dataset to load from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from kwcoco import CocoDataset

import ndzarr

pytest.importorskip("torch")


@pytest.fixture(scope="session")
def sampler(tmp_path_factory):
    """Two videos of three frames with boxes, segmentations and tracks; transcoded."""
    made = ndzarr.CocoSampler(
        CocoDataset.demo("vidshapes2-frames3", verbose=0), workdir=tmp_path_factory.mktemp("pyramids")
    )
    made.prepare()
    return made


@pytest.fixture(scope="session")
def table():
    """101 windows at random, some of them partly outside."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "gid": rng.integers(1, 7, 101),
            "cx": rng.integers(0, 600, 101),
            "cy": rng.integers(0, 600, 101),
            "width": 48,
            "height": 32,
        }
    )
