"""
The Python in the documentation runs: fenced blocks after `<!-- example -->`, those of a page in one namespace; after
`<!-- example: needs PACKAGE -->` where that is installed.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = re.compile(r"^<!-- example(?:: needs (\w+))? -->\n+```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if EXAMPLE.search(page.read_text())
]
SLOW = {"balance.md", "bucket.md", "bulk.md", "cluster.md", "detection.md", "slides.md", "torch.md"}


@pytest.mark.filterwarnings("ignore")  # of the packages that draw the demo data
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.name, marks=[pytest.mark.slow] * (page.name in SLOW)) for page in PAGES],
)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    namespace = {"__name__": "__main__"}
    for number, found in enumerate(EXAMPLE.finditer(text)):
        if found.group(1) and find_spec(found.group(1)) is None:
            if not number:
                pytest.skip(f"{found.group(1)} is not installed")
            break  # what comes later may need it, and what came before has run
        line = text[: found.start(2)].count("\n")
        exec(compile("\n" * line + found.group(2), str(page), "exec"), namespace)  # numbered as in the page


def test_every_marked_example_is_found():
    for page in PAGES:
        assert len(EXAMPLE.findall(page.read_text())) == page.read_text().count("<!-- example"), page.name


@pytest.mark.parametrize("name", ["detection", "satellite", "slides", "volumes", "tracks", "bucket"])
def test_a_tutorial_takes_at_most_15_lines_besides_making_its_data(name):
    _, *blocks = EXAMPLE.findall((ROOT / "docs" / "tutorials" / f"{name}.md").read_text())
    lines = [line for _, code in blocks for line in code.splitlines() if line.strip(" #")]
    assert len(lines) <= 15, lines


def test_every_key_of_a_target_is_documented():
    from ndzarr._sampling.target import ALIASES, KEYS, NOTES

    text = (ROOT / "docs" / "targets.md").read_text()
    of_pyramids = {"key", "t", "z"}
    hidden = {"space_dims", "data_dims", "annot_idx", "verbose_ndsample"}
    words = set(re.findall(r"`([^`]*)`", text)) | {
        w for code in re.findall(r"`([^`]*)`", text) for w in re.split(r"\W+", code)
    }
    for key in {*KEYS, *ALIASES, *NOTES} - of_pyramids - hidden:
        assert key in words, key


def test_every_public_name_has_its_place_in_the_reference():
    import ndzarr

    pages = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    assert [name for name in ndzarr.__all__ if f"::: ndzarr.{name}\n" not in pages and name != "NdzarrError"] == []
