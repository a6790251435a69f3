"""Are requests that cannot fit memory refused before anything is allocated, by every call that makes pixels?"""

import numpy as np
import pytest
from click.testing import CliRunner

import ndzarr
from helpers.errors import raises
from ndzarr.cli import main
from ndzarr.errors import TargetError, WindowError

ABSURD = [
    {"resolution": "0.5e-6 m"},
    {"scale": 1e6},
    {"output_dims": (10**7, 10**7)},
    {"space_slice": (slice(-(10**8), 10**8), slice(-(10**8), 10**8))},
    {"window_dims": (10**8, 10**8)},
]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return ndzarr.transcode(np.zeros((64, 64, 3), "u1"), tmp_path_factory.mktemp("sizes") / "a.zarr")


@pytest.fixture(scope="module")
def samplers(stored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    image = {"id": 1, "file_name": str(stored.path), "width": 64, "height": 64, "resolution": 0.25}
    frames = [{**image, "id": k, "video_id": 1, "frame_index": k} for k in range(1, 4)]
    videos = [{"id": 1, "name": "v", "width": 64, "height": 64, "resolution": 0.25}]
    return {
        "gid": ndzarr.CocoSampler({"images": [image]}, workdir=folder / "images"),
        "vidid": ndzarr.CocoSampler({"videos": videos, "images": frames}, workdir=folder / "videos"),
        "key": ndzarr.Sampler({1: stored}),
    }


@pytest.mark.parametrize("options", ABSURD, ids=lambda options: next(iter(options)))
@pytest.mark.parametrize("kind", ["gid", "vidid", "key"])
@pytest.mark.parametrize("call", ["load_sample", "load_batch", "lazy_batch", "plan"])
def test_a_target_that_cannot_fit_memory_says_how_large_it_would_be(samplers, kind, options, call):
    if kind == "key" and "resolution" in options:
        pytest.skip("the array has no resolution")
    target = {kind: 1, **({"cx": 0, "cy": 0} if "window_dims" in options else {}), **options}
    with raises(TargetError, hint="scale", match=r"would take [\d.e+]+ [TPE]iB, and this process may use \d"):
        getattr(samplers[kind], call)(target if call == "load_sample" else [target])


def test_a_batch_that_cannot_fit_memory_is_refused_though_its_samples_fit(samplers):
    targets = [{"gid": 1, "cx": 9, "cy": 9, "width": 20_000, "height": 20_000}] * 200
    with raises(TargetError, hint="lazy_batch", match="would take"):
        samplers["gid"].load_batch(targets)


def test_windows_of_a_pyramid_that_cannot_fit_memory_are_refused(stored):
    with raises(WindowError, path=str(stored.path), hint="smaller window or scale", match="would take"):
        stored.window(y=slice(0, 10**8), x=slice(0, 10**8))
    with raises(WindowError, path=str(stored.path), hint="smaller window or scale", match="would take"):
        stored.window(scale=1e6)


def test_the_command_line_refuses_them_in_one_line(stored, tmp_path):
    command = ["crop", str(stored.path), "--x", "0:50000000", "--y", "0:50000000", "-o", str(tmp_path / "a.png")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "would take" in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_intervals_far_beyond_an_axis_are_refused(samplers, tmp_path):
    volume = ndzarr.transcode(np.zeros((5, 8, 8), "u1"), tmp_path / "a.zarr", axes="tyx")
    with raises(TargetError, key="time_slice", match="asks for 10000000000 positions, of which 3 exist"):
        samplers["vidid"].load_sample({"vidid": 1, "time_slice": slice(0, 10**10)})
    with raises(WindowError, key="t", match="asks for 10000000000 positions, of which 5 exist"):
        ndzarr.Sampler({1: volume}).load_sample({"key": 1, "t": slice(0, 10**10)})
    with raises(WindowError, key="t", match="asks for 10000000000 positions, of which 5 exist"):
        volume.window(t=slice(0, 10**10))
