"""`ndzarr view`: what it takes, what it prints, and how it ends."""

import json
import re
import signal
import urllib.request

import numpy as np
import pytest
import tifffile

import ndzarr
from helpers import video_clips
from helpers.arrays import photo
from ndzarr._viewer.server import Viewer

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/[\w-]{32}/")


@pytest.fixture
def served(run, monkeypatch):
    """Runs the command, and returns what it lists and describes before it would wait for Ctrl-C."""

    def call(*args):
        found = {}

        def ask(viewer):
            def get(path):
                with urllib.request.urlopen(viewer.url + path) as response:
                    return json.load(response)

            found.update(get("items"))
            found["about"] = [get(f"item/{item['number']}") for item in found["items"]]
            if found["targets"]:
                found["windows"] = get("targets/0?window=0,9999,0,9999")["kinds"]
            raise KeyboardInterrupt

        monkeypatch.setattr(Viewer, "wait", ask)
        result = run("view", *args, "--no-browser")
        assert ADDRESS.fullmatch(result.out.strip())
        assert "Stopped." in result.err
        return found

    return call


def test_stores_images_in_place_and_transcoded_ones_and_videos_are_shown_together(served, folder, picture):
    picture("a.png")
    tifffile.imwrite("b.tif", photo(200, 100), tile=(64, 64), photometric="rgb")
    video_clips.encode("c.mp4", n=3)
    ndzarr.transcode(np.zeros((50, 60), "u2"), "d.zarr")
    ndzarr.transcode(photo(150, 200), "heat.zarr")
    found = served("a.png", "b.tif", "c.mp4", "d.zarr", "--beside", "heat.zarr", "--workdir", "w")
    assert [item["name"] for item in found["items"]] == ["a.png", "b.tif", "c.mp4", "d.zarr", "heat.zarr"]
    assert [(a["height"], a["width"]) for a in found["about"]] == [
        (300, 400),
        (200, 100),
        (64, 160),
        (50, 60),
        (150, 200),
    ]
    assert len(found["about"][2]["times"]) == 3
    assert found["beside"] == 4
    assert [path.name[:2] for path in (folder / "w").glob("*.zarr")] == ["a-"]


def test_a_dataset_is_shown_with_the_windows_of_a_table_or_a_grid(served, folder, picture):
    picture("a.png")
    image = {"id": 1, "file_name": "a.png", "width": 400, "height": 300}
    (folder / "d.json").write_text(json.dumps({"images": [image], "annotations": [], "categories": []}))
    (folder / "t.csv").write_text("gid,cx,cy,width,height,kind\n1,50,50,20,20,positive\n1,90,90,20,20,negative\n")
    assert served("d.json", "--targets", "t.csv", "--workdir", "w")["windows"] == {"positive": 1, "negative": 1}
    assert served("d.json", "--targets", "grid:100", "--workdir", "w")["windows"] == {"negative": 12}


def test_a_table_in_parquet_knows_its_dataset(served, folder, picture, monkeypatch):
    picture("a.png")
    image = {"id": 1, "file_name": "a.png", "width": 400, "height": 300}
    (folder / "data.kwcoco.json").write_text(json.dumps({"images": [image], "annotations": [], "categories": []}))
    table = ndzarr.CocoSampler("data.kwcoco.json", "w").targets.grid((100, 100))
    table[table.cx < 200].to_parquet("t.parquet")
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    found = served("../t.parquet", "--workdir", "../w")
    assert [item["name"] for item in found["items"]] == ["a.png"]
    assert found["windows"] == {"negative": 6}
    in_memory = ndzarr.CocoSampler({"images": [image]}, image_root="..")  # as if it were in ./data.kwcoco.json
    monkeypatch.chdir("..")
    assert not in_memory.targets.grid((100, 100)).attrs


def test_what_cannot_be_shown_together_is_an_error(run, folder, picture):
    picture("a.png")
    assert "--targets" in run("view", "a.png", "--targets", "grid:10", code=1).err
    (folder / "t.csv").write_text("gid,cx,cy,width,height\n1,50,50,20,20\n")
    assert "ndzarr view DATASET --targets t.csv" in run("view", "t.csv", code=1).err
    assert "Show one dataset or table" in run("view", "a.png", "t.parquet", code=1).err
    assert "no such table" in run("view", "t.parquet", code=1).err
    assert "Show one dataset or table" in run("view", "a.png", "d.json", code=1).err
    assert "missing.zarr" in run("view", "missing.zarr", code=1).err


@pytest.mark.slow
def test_ctrl_c_ends_it_in_order(shell, tmp_path):
    ndzarr.transcode(photo(20, 20), tmp_path / "a.zarr")
    process = shell("view", "a.zarr", "--no-browser")
    url = process.stdout.readline().strip()
    assert ADDRESS.fullmatch(url)
    assert b"ndzarr" in urllib.request.urlopen(url).read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("", 0)
    assert err.splitlines() == ["Press Ctrl-C to stop.", "Stopped."]
