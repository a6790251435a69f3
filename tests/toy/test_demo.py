"""`ndzarr demo`, as a person runs it."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

import ndzarr
from ndzarr._viewer.server import Viewer
from ndzarr.cli import demo as demo_command
from ndzarr.cli import main
from ndzarr.cli.demo import run
from ndzarr.toydata.dataset import KINDS


def demo(*words, cwd):
    command = [sys.executable, "-m", "ndzarr", "demo", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.mark.slow
def test_the_tour_leaves_a_picture_and_datasets_to_play_with(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_command, "SIZE", (1440, 1400))  # `.ci/run` takes the tour as it is
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    monkeypatch.setattr(
        Viewer, "wait", lambda viewer: shown.append(urllib.request.urlopen(viewer.url + "items").read())
    )
    main(["demo", "--view"], standalone_mode=False)
    out = capsys.readouterr().out
    assert shown[0] in out
    assert b"harbour" in shown[1]
    for said in ("1. Writing", "4. Timing", "ms  load_sample", "Next, in a shell:"):
        assert said in out
    root = tmp_path / "ndzarr-demo"
    with Image.open(root / "samples.png") as picture:
        assert min(picture.size) > 800
    sampler = ndzarr.CocoSampler(root / "images.kwcoco.json", workdir=root / "pyramids")
    assert sampler.load_sample(aid=1, window_dims=(128, 128)).image.shape == (3, 128, 128)
    run(root, quiet=True)
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said[0] == ["Picture", str(root / "samples.png")]
    assert [line[0] for line in said] == ["Picture", "Datasets", str(root / "video.kwcoco.json"), "Pyramids"]


@pytest.mark.slow
def test_only_a_dataset_can_be_written(tmp_path):
    done = demo("--data", "video", "-n", "2", "--size", "64x80", "-o", "toys", cwd=tmp_path)
    path = Path(done.stdout.strip())
    assert path == tmp_path / "toys" / "video.kwcoco.json"
    assert ndzarr.CocoSampler(path, workdir=tmp_path).load_sample(vidid=1, channels="r").image.shape == (2, 1, 64, 80)


def test_every_kind_of_dataset_can_be_asked_for():
    assert tuple(KINDS) == demo_command.KINDS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "64x64"], "--size needs --data"),
        (["--data", "video", "--size", "64"], "expected height and width"),
        (["--data", "film"], "'film' is not one of"),
    ],
)
def test_wrong_options_are_named(tmp_path, words, said):
    done = demo(*words, cwd=tmp_path)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
