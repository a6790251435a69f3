"""Runs of the command line, in this process and in others, and things to run it on."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import ndzarr
from helpers.arrays import photo
from helpers.subprocesses import environment
from ndzarr.cli import main


@pytest.fixture
def run():
    """Runs `ndzarr ARGS` and returns its exit code, stdout and stderr; a defect is raised."""

    def call(*args, code=0):
        result = CliRunner().invoke(main, [str(arg) for arg in args], prog_name="ndzarr")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)

    return call


@pytest.fixture
def shell(tmp_path):
    """Starts `python -m ndzarr ARGS` in the test's directory."""

    def start(*args, **options):
        env = environment(tmp_path) | options.pop("env", {})
        command = [sys.executable, "-m", "ndzarr", *map(str, args)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path, **options}
        return subprocess.Popen(command, env=env, **pipes)

    return start


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def picture(folder):
    """Writes a photograph as an image file, and returns its pixels (y, x, 3)."""

    def write(name, seed=0, height=300, width=400):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = photo(height, width, seed)
        Image.fromarray(pixels).save(path)
        return pixels

    return write


@pytest.fixture
def store(folder):
    """Makes a store of an array, and returns its path."""

    def write(array, name="a.zarr", **options):
        return Path(ndzarr.transcode(np.asarray(array), folder / name, **options).path)

    return write
