"""`ndzarr info`: of pyramids, of images, of both at once."""

import json

import av
import numpy as np
import pytest
import tifffile

import ndzarr


def test_a_pyramid_says_what_it_holds_how_it_is_stored_and_where_it_came_from(run, folder, picture):
    picture("a.png")
    run("transcode", "a.png", "-o", "a.zarr")
    out = run("info", "a.zarr").out
    for words in (
        "Pyramid a.zarr",
        "c: 3, y: 300, x: 400  uint8",
        "r g b",
        "300 x 400, 150 x 200",
        "3 x 128 x 128",
        "blosc",
        "local files",
        "ratio",
        f"{folder}/a.png (unchanged)",
        "format      PNG",
    ):
        assert words in out, words


def test_an_image_says_what_each_preset_would_take(run, picture):
    picture("a.png")
    out = run("info", "--estimate", "a.png").out
    for preset in ("fast", "compact", "jpeg"):
        assert f"  {preset:<12}would take about" in out
    [facts] = json.loads(run("info", "--estimate", "--json", "a.png").out)
    assert facts["estimates"]["fast"]["bytes"] > facts["estimates"]["jpeg"]["bytes"] > 0


def test_json_has_all_of_it(run, folder, picture):
    picture("a.png")
    run("transcode", "a.png", "-o", "a.zarr", "--nodata", "3")
    pyramid, image = json.loads(run("info", "a.zarr", "a.png", "--json").out)
    assert pyramid["sizes"] == image["sizes"] == {"c": 3, "y": 300, "x": 400}
    assert pyramid["levels"] == image["levels"] == [[3, 300, 400], [3, 150, 200]]
    assert pyramid["channels"] == image["channels"] == ["r", "g", "b"]
    assert pyramid["raw_bytes"] == image["raw_bytes"] == 360_000
    assert pyramid["disk_bytes"] == sum(p.stat().st_size for p in (folder / "a.zarr").rglob("*") if p.is_file())
    assert pyramid["ratio"] == round(360_000 / pyramid["disk_bytes"], 3)
    assert pyramid["nodata"] == 3
    assert pyramid["source"]["state"] == "unchanged"
    assert image["disk_bytes"] == (folder / "a.png").stat().st_size
    assert image["source"]["format"] == "PNG"


def test_where_and_when_is_told(run, folder):
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
    tags = [(33550, 12, 3, (10, 10, 0)), (33922, 12, 6, (0, 0, 0, 500000, 4600000, 0)), (34735, 3, len(keys), keys)]
    tifffile.imwrite("a.tif", np.zeros((30, 40), "u1"), extratags=tags, metadata=None)
    ndzarr.transcode("a.tif", "a.zarr", nodata=0)
    for path in ("a.tif", "a.zarr"):
        assert "place       EPSG:32633, x 500000 to 500400, y 4599700 to 4600000" in run("info", path).out
    assert "nodata      0\n" in run("info", "a.zarr").out
    [facts] = json.loads(run("info", "a.zarr", "--json").out)
    assert facts["place"]["bounds"] == [500000, 4599700, 500400, 4600000]
    with av.open("a.mp4", "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(11):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), "u1"), "rgb24")))
        out.mux(stream.encode())
    told = run("info", "a.mp4").out
    assert "times       0 to 1 s\n" in told
    assert "rate        10 frames/s\n" in told


def test_a_source_that_was_changed_or_is_gone_is_told(run, folder, picture):
    picture("a.png")
    run("transcode", "a.png", "-o", "a.zarr")
    picture("a.png", seed=1)
    assert "a.png (changed since)" in run("info", "a.zarr").out
    (folder / "a.png").unlink()
    assert "a.png (gone)" in run("info", "a.zarr").out


@pytest.mark.parametrize("nodata", [np.nan, -1.5])
def test_nodata_is_told_even_if_it_is_not_a_number(run, store, nodata):
    store(np.zeros((9, 9), "f4"), nodata=nodata)
    [facts] = json.loads(run("info", "a.zarr", "--json").out)
    assert facts["nodata"] == ("NaN" if np.isnan(nodata) else nodata)
    assert "nodata" in run("info", "a.zarr").out


def test_stores_that_others_made_are_understood(run, folder):
    import zarr

    zarr.create_array(folder / "two.zarr", data=np.zeros((20, 30), "u2"), chunks=(10, 10), zarr_format=2)
    zarr.create_array(folder / "three.zarr", data=np.zeros((20, 30), "u2"), chunks=(10, 10), zarr_format=3)
    facts = json.loads(run("info", "two.zarr", "three.zarr", "--json").out)
    assert [f["sizes"] for f in facts] == [{"y": 20, "x": 30}] * 2
    assert [f["engine"] for f in facts] == ["local files"] * 2
    assert "Pyramid two.zarr" in run("info", "two.zarr").out


def test_images_of_a_group_are_listed_and_one_is_chosen_by_each_command(run, folder):
    import zarr

    group = zarr.open_group(folder / "a.zarr", mode="w")
    for name in ("r10/red", "r10/nir", "r20/red"):
        group.create_array(name, data=np.full((20, 30), len(name), "u2"), dimension_names=("y", "x"))
    group.create_array("four", shape=(2, 3, 4, 5), dtype="u1")
    out = run("info", "a.zarr").out
    assert [line.strip() for line in out.splitlines()[1:]] == [
        f"'{path}' (y: 20, x: 30) uint16" for path in ("r10/nir", "r10/red", "r20/red")
    ]
    [facts] = json.loads(run("info", "a.zarr", "--json").out)
    assert [image["path"] for image in facts["images"]] == ["r10/nir", "r10/red", "r20/red"]
    assert facts["images"][0]["shape"] == [20, 30]
    assert "y: 20, x: 30" in run("info", "a.zarr", "--variable", "nir").out
    assert "t: 2, z: 3, y: 4, x: 5" in run("info", "a.zarr/four", "--axes", "tzyx").out
    run("transcode", "a.zarr", "--variable", "r20/red", "-o", "b.zarr", "-q")
    run("crop", "a.zarr", "--variable", "r20/red", "--x", "3:8", "-o", "c.npy")
    assert (np.load("c.npy") == 7).all()
    assert "variable" in run("transcode", "a.zarr", "-o", "d.zarr", code=1).err


def test_bad_paths_are_listed_and_the_others_told(run, folder, store):
    store(np.zeros((9, 9), "u1"))
    (folder / "text").write_text("hello")
    (folder / "empty").mkdir()
    result = run("info", "gone", "a.zarr", "text", "empty", code=1)
    assert result.out.startswith("Pyramid a.zarr")
    assert [
        str(folder / n) in line for n, line in zip(("gone", "text", "empty"), result.err.splitlines(), strict=True)
    ] == [True] * 3
    assert len(json.loads(run("info", "gone", "a.zarr", "--json", code=1).out)) == 1


def test_the_whole_is_not_decoded_to_say_what_an_image_holds(run, folder):
    array = np.lib.format.open_memmap(folder / "a.npy", "w+", "u1", (100_000, 100_000))
    del array
    [facts] = json.loads(run("info", "a.npy", "--json").out)
    assert facts["raw_bytes"] == 10**10
    assert len(facts["levels"]) == 10
    assert ndzarr.__doc__


def test_the_size_of_a_pixel_and_notes_about_it_are_told(run, folder):
    about = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 0}
    tifffile.imwrite(folder / "a.ome.tif", np.zeros((99, 88), "u1"), ome=True, tile=(32, 32), metadata=about)
    run("transcode", "a.ome.tif", "-o", "a.zarr")
    for path in ("a.ome.tif", "a.zarr"):
        out = run("info", path).out
        assert "pixel size  0.5 µm (OME-XML)" in out
        assert out.count("PhysicalSizeZ is 0") == 1
        [facts] = json.loads(run("info", path, "--json").out)
        assert facts["pixel_size"]["x"] == {"size": 0.5, "unit": "micrometer"}
        assert "PhysicalSizeZ" in facts["notes"][0]
    assert "pixel    0.5 µm (OME-XML)" in repr(ndzarr.open(folder / "a.zarr"))
    assert "0.5 µm (OME-XML)" in ndzarr.open(folder / "a.ome.tif")._repr_html_()
