"""`ndzarr transcode`: one image, many, good ones and bad ones, whole or not at all."""

import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.arrays import random_array
from helpers.subprocesses import environment, run_on_small_disk
from ndzarr.cli.sources import jobs


def stores(folder):
    """All stores below a directory, as paths relative to it."""
    return sorted(
        str(p.parent.relative_to(folder)) for p in Path(folder).rglob("zarr.json") if (p.parent / "0").is_dir()
    )


def left(folder):
    """Everything in a directory, hidden or not."""
    return sorted(os.listdir(folder))


def channels_first(picture):
    return np.moveaxis(picture, -1, 0)


# One


def test_one_image_becomes_the_store_that_was_named(run, folder, picture):
    pixels = picture("a.png")
    result = run("transcode", "a.png", "-o", "out.zarr")
    assert (result.out, result.err) == ("wrote out.zarr\n", "")
    assert np.array_equal(ndzarr.open("out.zarr").read(), channels_first(pixels))
    assert run("transcode", "a.png", "-o", "quiet.zarr", "--quiet").out == ""


def test_options_reach_the_store(run, folder, picture):
    picture("a.png")
    run(
        *("transcode", "a.png", "-o", "a.zarr", "--preset", "compact", "--kind", "labels", "--chunks", "y=64,x=32"),
        *("--channels", "red, green,nir", "--nodata", "7", "--workers", "1"),
    )
    pyramid = ndzarr.open("a.zarr")
    assert pyramid.channels == ("red", "green", "nir")
    assert pyramid.kind == "labels"
    assert pyramid.nodata == 7
    assert pyramid.levels[0].chunks == (3, 64, 32)
    assert pyramid.attrs["ndzarr"]["encoding"]["preset"] == "compact"


def test_it_is_told_who_reads_a_store_that_not_everyone_reads(run, folder, picture):
    picture("a.png")
    assert "zarr-python" in run("transcode", "a.png", "-o", "a.zarr", "--preset", "compact").err
    assert "imagecodecs" in run("transcode", "a.png", "-o", "b.zarr", "--preset", "jpeg").err
    assert "read by     ndzarr and zarr-python" in run("info", "a.zarr").out
    assert "readers  ndzarr and zarr-python" in repr(ndzarr.open("a.zarr"))
    assert "ndzarr and zarr-python" in ndzarr.open("a.zarr")._repr_html_()
    np.save("deep.npy", np.arange(900, dtype="u2").reshape(30, 30))
    assert run("transcode", "deep.npy", "-o", "c.zarr", "--preset", "compact").err == ""
    assert "every implementation" in run("info", "c.zarr").out
    assert "readers" not in repr(ndzarr.open("c.zarr"))


def test_many_images_become_the_frames_of_one_store(run, folder, picture):
    pixels = [channels_first(picture(f"frames/f{k}.png", seed=k, height=70, width=90)) for k in range(12)]
    for sources in (["frames"], ["frames/*.png"], [f"frames/f{k}.png" for k in range(12)]):
        run("transcode", *sources, "-o", "clip.zarr", "--stack", "t", "--access", "tubes", "--overwrite")
        pyramid = ndzarr.open("clip.zarr")
        assert pyramid.dims == ("t", "c", "y", "x")
        assert np.array_equal(pyramid.read(), pixels)
        assert pyramid.levels[0].chunks == (4, 3, 64, 64)


def test_planes_are_halved_where_that_is_asked_for(run, folder):
    np.save("volume.npy", np.zeros((6, 300, 300), "u1"))
    run("transcode", "volume.npy", "-o", "a.zarr", "--axes", "zyx", "--reduce", "zyx")
    assert [level.shape for level in ndzarr.open("a.zarr").levels] == [(1, 6, 300, 300), (1, 3, 150, 150)]


def test_axes_say_what_an_array_is(run, folder):
    array = np.random.default_rng(0).integers(0, 255, (3, 20, 30, 2), "u1")
    np.save("a.npy", array)
    run("transcode", "a.npy", "-o", "a.zarr", "--axes", "tyxc")
    assert np.array_equal(ndzarr.open("a.zarr").read(), np.moveaxis(array, -1, 1))


@pytest.mark.parametrize(
    ("option", "shape"), [("--orient", (3, 40, 30)), ("--no-orient", (3, 30, 40)), (None, (3, 40, 30))]
)
def test_photographs_are_turned_upright_unless_told_not_to(run, folder, option, shape):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save("a.jpg", exif=exif)
    run("transcode", "a.jpg", "-o", "a.zarr", *([option] if option else []))
    assert ndzarr.open("a.zarr").shape == shape


def test_an_image_with_more_pixels_than_allowed_is_refused(run, folder, picture):
    picture("a.png")
    assert (
        "a.png: the header says 400 x 300 pixels"
        in run("transcode", "a.png", "-o", "a.zarr", "--max-pixels", "1000", code=1).err
    )
    assert left(folder) == ["a.png"]


def test_a_store_that_exists_is_kept_unless_told_to_overwrite(run, folder, picture):
    picture("a.png", 0)
    pixels = picture("b.png", 1)
    run("transcode", "a.png", "-o", "out.zarr")
    result = run("transcode", "b.png", "-o", "out.zarr", code=1)
    assert result.err.startswith(f"Error: {folder}/out.zarr: exists already")
    assert "--overwrite" in result.err
    assert run("transcode", "b.png", "-o", "out.zarr", "--skip-existing").out == "left out.zarr as it was\n"
    run("transcode", "b.png", "-o", "out.zarr", "--overwrite")
    assert np.array_equal(ndzarr.open("out.zarr").read(), channels_first(pixels))
    assert left(folder) == ["a.png", "b.png", "out.zarr"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_store_is_never_overwritten(run, folder, picture, kind):
    picture("a.png")
    other = folder / "precious"
    if kind == "folder":
        other.mkdir()
        (other / "notes").write_text("keep me")
        run("transcode", "a.png", "-o", "precious", "--overwrite")  # a directory: the store goes into it
        assert stores(other) == ["a.zarr"]
        assert (other / "notes").read_text() == "keep me"
    else:
        other.write_text("keep me")
        assert "is not a Zarr store" in run("transcode", "a.png", "-o", "precious", "--overwrite", code=1).err
        assert other.read_text() == "keep me"


@pytest.mark.parametrize("dest", ["out/", "there", "./out/"])
def test_a_destination_that_is_a_directory_holds_the_store(run, folder, picture, dest):
    picture("a.png")
    (folder / "there").mkdir()
    run("transcode", "a.png", "-o", dest)
    assert stores(dest) == ["a.zarr"]


def test_the_directory_of_a_store_has_to_exist(run, folder, picture):
    picture("a.png")
    assert (
        f"the directory {folder}/nowhere does not exist"
        in run("transcode", "a.png", "-o", "nowhere/a.zarr", code=1).err
    )
    assert left(folder) == ["a.png"]


# Many


def test_many_images_become_stores_of_their_names(run, folder, picture):
    pixels = {name: picture(f"{name}.png", seed) for seed, name in enumerate("abc")}
    assert run("transcode", "a.png", "b.png", "c.png", "-o", "out").out == "wrote 3 of 3 stores\n"
    assert stores("out") == ["a.zarr", "b.zarr", "c.zarr"]
    for name, expected in pixels.items():
        assert np.array_equal(ndzarr.open(f"out/{name}.zarr").read(), channels_first(expected))


def test_of_a_directory_the_images_are_taken_and_its_subdirectories_if_told_to(run, folder, picture):
    for name in ("in/a.png", "in/B.JPG", "in/deep/er/c.tif", "in/.hidden/d.png", "in/.e.png"):
        picture(name)
    (folder / "in/notes.txt").write_text("hello")
    run("transcode", "in", "-o", "flat")
    assert stores("flat") == ["B.zarr", "a.zarr"]
    run("transcode", "in", "-o", "all", "--recursive")
    assert stores("all") == ["B.zarr", "a.zarr", "deep/er/c.zarr"]
    run("transcode", "in", "-o", "in", "--recursive")
    assert stores("in") == ["B.zarr", "a.zarr", "deep/er/c.zarr"]
    run("transcode", "in", "-o", "in", "--recursive", "--skip-existing")
    assert stores("in") == ["B.zarr", "a.zarr", "deep/er/c.zarr"]


def test_patterns_that_the_shell_left_are_matched(run, folder, picture):
    for name in ("a1.png", "a2.png", "b.png", "x/a3.png", "[odd].png"):
        picture(name)
    run("transcode", "a*.png", "-o", "out/")
    assert stores("out") == ["a1.zarr", "a2.zarr"]
    run("transcode", "**/a?.png", "-o", "deep/")
    assert stores("deep") == ["a1.zarr", "a2.zarr", "a3.zarr"]
    run("transcode", "[odd].png", "-o", "odd.zarr")
    assert ndzarr.open("odd.zarr").shape == (3, 300, 400)
    assert "no file matches this pattern" in run("transcode", "z*.png", "-o", "no/", code=1).err


def test_a_directory_without_images_says_where_to_look(run, folder, picture):
    picture("in/deep/a.png")
    assert "--recursive searches its subdirectories" in run("transcode", "in", "-o", "out", code=1).err
    assert left(folder) == ["in"]


def test_images_that_differ_in_their_suffix_keep_it(run, folder, picture):
    for name in ("a.png", "a.jpg", "b.png"):
        picture(name)
    run("transcode", ".", "-o", "out")
    assert stores("out") == ["a.jpg.zarr", "a.png.zarr", "b.zarr"]


def test_names_that_clash_are_reported_before_anything_is_written(run, folder, picture):
    for name in ("x/a.png", "y/a.png", "b.png"):
        picture(name)
    err = run("transcode", "b.png", "x/a.png", "y/a.png", "-o", "out", code=2).err
    assert "x/a.png and y/a.png would both become out/a.png.zarr" in err
    assert not (folder / "out").exists()


def test_names_that_differ_in_case_clash_since_some_disks_do_not_tell_them_apart(folder, picture):
    picture("a.png")
    picture("A.jpg")
    assert [str(job.dest) for job in jobs(["a.png", "A.jpg"], "out", False)] == ["out/a.png.zarr", "out/A.jpg.zarr"]


def test_a_file_that_is_named_twice_is_transcoded_once(run, folder, picture):
    picture("a.png")
    picture("b.png")
    assert run("transcode", "a.png", "*.png", "a.png", "-o", "out").out == "wrote 2 of 2 stores\n"


def test_several_images_need_a_directory(run, folder, picture):
    picture("a.png")
    picture("b.png")
    run("transcode", "a.png", "-o", "a.zarr")
    for dest in ("a.zarr", "b.png"):
        assert "is not a directory for several stores" in run("transcode", "a.png", "b.png", "-o", dest, code=2).err


def test_in_a_batch_the_good_ones_are_done_and_the_bad_ones_listed(run, folder, picture):
    for k in range(4):
        picture(f"in/{k}.png", k)
    (folder / "in/text.png").write_text("hello")
    (folder / "in/cut.png").write_bytes((folder / "in/0.png").read_bytes()[:2000])
    (folder / "in/empty.tif").touch()
    result = run("transcode", "in", "gone.png", "-o", "out", code=1)
    assert result.out == "wrote 4 of 8 stores\n"
    lines = result.err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["Error"] * 4
    for line, name in zip(lines, ("in/cut.png", "in/empty.tif", "in/text.png", "gone.png"), strict=True):
        assert f"{folder}/{name}: " in line
    assert stores("out") == ["0.zarr", "1.zarr", "2.zarr", "3.zarr"]
    assert left("out") == stores("out")
    again = run("transcode", "in", "-o", "out", "--skip-existing", code=1)
    assert again.out == "wrote 0 of 7 stores, left 4 as they were\n"
    exist = run("transcode", "in/0.png", "in/1.png", "-o", "out", code=1)
    assert exist.err.count("exists already") == 2


def test_a_batch_of_bad_ones_only_makes_no_directory(run, folder):
    (folder / "a.png").write_text("hello")
    (folder / "b.png").write_text("hello")
    run("transcode", "a.png", "b.png", "-o", "out", code=1)
    assert left(folder) == ["a.png", "b.png"]


# Whole or not at all


def test_a_damaged_image_leaves_nothing(run, folder, picture):
    picture("whole.png")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:3000])
    err = run("transcode", "cut.png", "-o", "a.zarr", code=1).err
    assert err.startswith(f"Error: {folder}/cut.png: ")
    assert left(folder) == ["cut.png", "whole.png"]


@pytest.mark.slow
@pytest.mark.parametrize("dest", ["disk/a.zarr", "disk/"])
def test_a_full_disk_leaves_nothing(folder, dest):
    np.save("a.npy", np.random.default_rng(0).integers(0, 255, (3000, 1000), "u1"))
    command = f"{sys.executable} -m ndzarr transcode a.npy -o {dest} || echo $? && ls -A disk"
    done = run_on_small_disk(folder / "disk", "sh", "-c", command)
    assert done.stdout == "1\n"
    assert "the disk is full; nothing was kept" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_leaves_nothing(shell, folder):
    np.save("a.npy", np.random.default_rng(0).integers(0, 255, (3000, 1000), "u1"))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    process = shell("transcode", "a.npy", "-o", "a.zarr", preexec_fn=limit)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "allows no file of this size" in err
    assert "Traceback" not in err
    assert left(folder) == ["a.npy"]


def wait_until_it_writes(folder, process):
    """Until shards lie in a hidden directory."""
    end = time.monotonic() + 60
    while not any(
        path.is_file() for hidden in Path(folder).rglob(".*.partial") for path in hidden.rglob("image/c/**/*")
    ):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


SLOW = """
import time
from ndzarr._formats.base import Source
real = Source.read
def read(self, window):
    time.sleep(0.5)
    return real(self, window)
Source.read = read
"""


@pytest.fixture
def slow_shell(shell, tmp_path_factory):
    """Starts a command that takes half a second to read anything of an image."""
    place = tmp_path_factory.mktemp("slow")
    (place / "sitecustomize.py").write_text(SLOW)
    return lambda *args, **options: shell(*args, env=environment(place), **options)


def save_series(path, n):
    """Write a series of so many images, which are read one by one."""
    tifffile.imwrite(path, random_array((n, 16, 16), "u1"), metadata={"axes": "TYX"})


@pytest.fixture
def large(folder):
    """A directory `in` of two series that take `slow_shell` minutes."""
    (folder / "in").mkdir()
    for name in ("a.tif", "b.tif"):
        save_series(folder / "in" / name, 300)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(signal.SIGINT, 130, "Interrupted; what was not complete was removed.\n"), (signal.SIGTERM, 143, "")],
    ids=["SIGINT", "SIGTERM"],
)
@pytest.mark.parametrize("sources", [["in/a.tif"], ["in"]], ids=["one", "batch"])
def test_an_interrupt_is_one_line_and_leaves_nothing(slow_shell, large, number, code, words, sources):
    dest = "a.zarr" if sources == ["in/a.tif"] else "out/"
    process = slow_shell("transcode", *sources, "-o", dest)
    wait_until_it_writes(large, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", words)
    assert left(large) == (["in"] if len(dest) > 5 else ["in", "out"])
    assert not (large / "out").exists() or left(large / "out") == []


@pytest.mark.slow
def test_a_killed_process_leaves_only_what_prune_removes(run, slow_shell, large):
    process = slow_shell("transcode", "in/a.tif", "-o", "a.zarr")
    wait_until_it_writes(large, process)
    process.kill()
    process.communicate()
    assert {"in", ".a.zarr.0.partial"} <= set(left(large))
    assert "partial" in run("cache", "prune", "--workdir", ".").out
    assert left(large) == ["in"]


@pytest.mark.slow
def test_progress_is_shown_on_a_terminal_and_nowhere_else(slow_shell, folder):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    save_series("a.tif", 5)  # two seconds: what takes less than one has no bar
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))  # a terminal without columns has no room for a bar
    process = slow_shell("transcode", "a.tif", "-o", "a.zarr", stderr=slave)
    piped = slow_shell("transcode", "a.tif", "-o", "b.zarr")
    os.close(slave)
    shown = b""
    while True:
        try:
            read = os.read(master, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not read:
            break
        shown += read
    os.close(master)
    assert process.communicate(timeout=60)[0] == "wrote a.zarr\n"
    assert process.returncode == 0
    assert b"a.tif" in shown
    assert piped.communicate(timeout=60) == ("wrote b.zarr\n", "")


def test_several_images_are_not_put_into_a_directory_that_looks_like_a_store(run, folder, picture):
    picture("a.png")
    picture("b.png")
    assert "pyramids/ (--stack makes one store" in run("transcode", "a.png", "b.png", "-o", "o.zarr", code=2).err
    assert left(folder) == ["a.png", "b.png"]
    run("transcode", "a.png", "b.png", "-o", "o.zarr/")
    run("transcode", "a.png", "b.png", "-o", "s.zarr", "--stack", "t")
    assert stores(folder) == ["o.zarr/a.zarr", "o.zarr/b.zarr", "s.zarr"]


def test_a_web_server_is_no_destination(run, folder, picture):
    picture("a.png")
    assert "this is a web server" in run("transcode", "a.png", "-o", "http://example.org/a.zarr", code=1).err
    assert left(folder) == ["a.png"]
