"""Help, versions, wrong usage and errors, in this process and from a shell."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ndzarr._concurrency import available_cpus
from ndzarr._store import core
from ndzarr.cli import _COMMANDS
from ndzarr.errors import ExistsError

HEAVY = ("xarray", "dask", "zarr", "kwcoco", "cv2", "pandas", "tifffile", "tqdm")


def test_help_lists_every_command_and_shows_an_example(run):
    out = run("--help").out
    for name, summary in _COMMANDS.items():
        assert name in out
        assert summary in out
    assert "ndzarr transcode huge.tif -o huge.zarr" in out
    assert run("-h").out == out


@pytest.mark.parametrize(
    "words", [[name] for name in _COMMANDS] + [["cache", c] for c in ("list", "prune", "path")], ids=" ".join
)
def test_each_command_explains_itself_with_a_worked_example(run, words):
    out = run(*words, "--help").out
    assert out.startswith(f"Usage: ndzarr {' '.join(words)}")
    assert "Example" in out
    assert f"ndzarr {words[0]}" in out.partition("Example")[2]


@pytest.mark.slow
def test_help_is_quick_since_it_imports_nothing_heavy():
    script = f"""
import sys, runpy
sys.argv = ["x", "--help"]
try:
    runpy.run_module("ndzarr", run_name="__main__")
except SystemExit as end:
    assert end.code == 0
print([m for m in {HEAVY} if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert "Usage: ndzarr [OPTIONS] COMMAND" in done.stdout


def test_an_unknown_command_is_wrong_usage_and_suggests_the_nearest(run):
    assert "there is no command 'trnascode'; did you mean 'transcode'?" in run("trnascode", code=2).err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["transcode"], "Missing argument 'SRC...'"),
        (["transcode", "a.png"], "Missing option '-o'"),
        (["transcode", "a.png", "-o", "a.zarr", "--preset", "quick"], "'quick' is not one of"),
        (["transcode", "a.png", "-o", "a.zarr", "--chunks", "256"], "such as y=256,x=256"),
        (["transcode", "a.png", "-o", "a.zarr", "--channels", "r,,b"], "such as r,g,b"),
        (["transcode", "a.png", "-o", "a.zarr", "--presett", "fast"], "No such option"),
        (["crop", "a.zarr", "--x", "5"], "such as 0:512"),
        (["crop", "a.zarr", "--t", "1:2:3:4"], "an index, several (0,2,5), or a half-open interval"),
        (["crop", "a.zarr"], "-o FILE"),
        (["crop", "a.zarr", "-o", "a.png", "--scale", "1", "--level", "1"], "one of --scale and --level"),
        (["verify"], "Missing argument"),
        (["info"], "Missing argument"),
    ],
    ids=" ".join,
)
def test_wrong_usage_says_what_was_expected_and_exits_with_2(run, folder, words, message):
    assert message in run(*words, code=2).err
    assert list(folder.iterdir()) == []


def test_errors_are_one_line_on_stderr(run, folder):
    for words in (
        ["info", "gone.zarr"],
        ["crop", "gone.zarr", "-o", "a.png"],
        ["verify", "gone"],
        ["transcode", "gone", "-o", "a"],
    ):
        result = run(*words, code=1)
        assert result.out == ""
        assert result.err.startswith("Error: ")
        assert result.err.count("\n") == 1
        assert str(folder / "gone") in result.err


@pytest.mark.slow
def test_a_defect_shows_its_traceback(shell, folder):
    (folder / "sitecustomize.py").write_text(
        "import ndzarr.cli.info as info\ninfo.command.callback = lambda **_: 1 / 0\n"
    )
    process = shell("info", "a.zarr")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" in err
    assert "ZeroDivisionError" in err


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(shell, folder, store):
    store(np.zeros((8, 8), "u1"))
    process = shell("info", *["a.zarr"] * 3000, "--json")
    assert process.stdout.readline() == "[\n"
    process.stdout.close()
    assert process.wait(timeout=120) in (0, 1)
    assert process.stderr.read() == ""
    process.stderr.close()


def test_the_version_is_that_of_the_package(run):
    from importlib.metadata import PackageNotFoundError, version

    try:
        expected = version("ndzarr")
    except PackageNotFoundError:
        pytest.skip("ndzarr is not installed")
    assert run("--version").out == f"ndzarr {expected}\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_the_disk_refuses_anywhere_is_one_line(run, folder, monkeypatch, number):
    def refuse(*args, **options):
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr("ndzarr.cli.demo.run", refuse)
    assert run("demo", code=1).err == f"Error: some/file: {os.strerror(number)}\n"


def test_other_errors_of_the_system_are_defects(run, folder, monkeypatch):
    def fail(*args, **options):
        raise OSError(errno.EBADF, "bad")

    monkeypatch.setattr("ndzarr.cli.demo.run", fail)
    with pytest.raises(OSError, match="bad"):
        run("demo")


def test_the_states_of_the_cache_are_listed_one_a_line(run):
    assert "\n    stale       the file has changed since\n" in run("cache", "list", "--help").out


def test_doctor_reports_the_machine_and_never_the_value_of_a_credential(run, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    found = json.loads(run("doctor", "--json").out)
    assert found["machine"]["CPUs"].startswith(str(available_cpus()))
    assert found["compiled core"]["status"] == core.status()
    assert found["packages"]["numpy"] == np.__version__
    assert "crops/s" in found["speed"]["together"]
    assert "AWS_SECRET_ACCESS_KEY" in found["remote"]["environment"]
    text = run("doctor", "--no-measure").out
    assert all(title in text for title in found if title != "speed")
    assert "hush" not in text + json.dumps(found)


def test_what_reports_also_reports_json(run, picture):
    picture("a.png")
    run("transcode", "a.png", "-o", "a.zarr", "-j", 1)
    run("cog", "a.zarr", "-o", "a.tif")
    [verified] = json.loads(run("verify", "a.zarr", "--json").out)
    assert verified["ok"]
    assert verified["levels"] == 2
    [checked] = json.loads(run("cog", "--validate", "a.tif", "--json").out)
    assert checked["ok"]
    assert checked["errors"] == []
    plan = json.loads(run("crop", "a.zarr", "--x", "0:10", "--explain", "--json").out)
    assert plan["chunks"] == 3
    assert json.loads(run("cache", "list", "--workdir", ".", "--json").out) is not None
    assert json.loads(run("cache", "prune", "--workdir", "empty", "--json").out) == {"pyramids": [], "remote_bytes": 0}
    [missing] = json.loads(run("verify", "b.zarr", "--json", code=1).out)
    assert not missing["ok"]
    assert "b.zarr" in missing["error"]


def test_errors_advise_options_of_the_command(run, picture):
    picture("a.png")
    run("transcode", "a.png", "-o", "a.zarr")
    assert "pass --overwrite" in run("transcode", "a.png", "-o", "a.zarr", code=1).err
    with pytest.raises(ExistsError):  # the traceback of an error, if asked for
        run("-v", "transcode", "a.png", "-o", "a.zarr", code=1)


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell, shell_name):
    def complete(words, last):
        env = {"_NDZARR_COMPLETE": f"{shell_name}_complete", "COMP_WORDS": f"{words}{last}", "COMP_CWORD": "1"}
        if words.count(" ") > 1:
            env["COMP_CWORD"] = "2"
        if shell_name == "fish":
            env["COMP_CWORD"] = last
        process = shell(env=env)
        return process.communicate()[0]

    assert "transcode" in complete("ndzarr ", "tr")
    assert "--overwrite" in complete("ndzarr transcode ", "--over")
