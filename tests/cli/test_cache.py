"""`ndzarr cache`, and the wiring of `ndzarr demo`."""

import numpy as np
import pytest

from ndzarr._library.library import Library
from ndzarr._remote.cache import disk_cache
from ndzarr._remote.settings import Remote
from ndzarr._remote.stores import ObjectInfo, Range, open_url


@pytest.fixture
def library(folder, picture, monkeypatch):
    """A library, which is the default one, of three pictures: one as it was, one changed since, one gone."""
    monkeypatch.setenv("NDZARR_CACHE", str(folder / "library"))
    library = Library()
    for name in ("kept.png", "changed.png", "gone.png"):
        picture(name)
        library.pyramid(name)
    picture("changed.png", seed=1)
    (folder / "gone.png").unlink()
    return library


def test_list_tells_state_size_and_source(run, library, folder):
    *lines, total = run("cache", "list").out.splitlines()
    assert [(line.split()[0], line.split()[-1]) for line in lines] == [
        ("stale", f"{folder}/changed.png"),
        ("orphaned", f"{folder}/gone.png"),
        ("current", f"{folder}/kept.png"),
    ]
    assert all("KiB" in line for line in lines)
    assert total.startswith("3 pyramids, ")
    assert total.endswith(str(library.root))


def test_prune_removes_what_is_not_used_again_and_tells_beforehand_if_asked(run, library):
    said = run("cache", "prune", "--dry-run").out
    assert "would free" in said
    assert len(list(library.entries())) == 3
    done = run("cache", "prune").out
    assert done == said.replace("would free", "freed")
    assert [entry.state for entry in library.entries()] == ["current"]
    assert run("cache", "prune").out == f"freed 0 B in {library.root}\n"


def test_another_directory_can_be_named(run, library, folder):
    assert run("cache", "list", "--workdir", "elsewhere").out == f"0 pyramids, 0 B in {folder}/elsewhere\n"
    assert not (folder / "elsewhere").exists()


def test_path_prints_the_default_directory(run, library):
    assert run("cache", "path").out == f"{library.root}\n"


@pytest.mark.parametrize(("words", "expected"), [([], (None, False)), (["-o", "there", "--quiet"], ("there", True))])
def test_demo_runs_the_demo(run, folder, monkeypatch, words, expected):
    called = []
    tour = lambda directory, quiet: called.append((directory and str(directory), quiet))  # noqa: E731
    monkeypatch.setattr("ndzarr.cli.demo.run", tour)
    run("demo", *words)
    assert called == [expected]


def test_what_is_kept_of_remote_objects_is_listed_and_removed(run, library):
    store, path = open_url("https://example.org/a.bin", remote=Remote(cache_dir=library.root))
    cache = disk_cache(store.settings)
    cache.put(Range(store, path, 0, 1000, "tag"), np.zeros(1000, np.uint8), ObjectInfo(path, 5000, "tag"))
    assert "parts of 1 remote object, 1" in run("cache", "list").out
    assert "would free 1" in run("cache", "prune", "--remote", "0", "--dry-run").out.splitlines()[-1]
    assert cache.holds(Range(store, path, 0, 1000, "tag"))
    run("cache", "prune", "--remote", "0")
    assert cache.get(Range(store, path, 0, 1000, "tag")) is None
