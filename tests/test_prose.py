"""The rules of language that a pattern can check; CONTRIBUTING.md has the rest."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted((ROOT / "ndzarr").rglob("*.py"))

QUESTIONS = {"ndzarr/_indexing/plan.py", "ndzarr/_store/codecs.py", "ndzarr/_store/read.py"}
"""Modules whose docstring may open with a question, because the question teaches."""

RULES = {
    "a sentence that begins with 'Of'": r"(?:^|[.!?:]\s+)Of (?!course)\w+",
    "'is no X' for 'is not an X'": r"(?<![Tt]here )\b(?:is|are|was|were) no (?!longer|more|less|better|worse|fewer)\w+",
    "'It is none'": r"\b[Ii]t is none\b|\bthey are none\b",
    "'where it lies' for 'in place'": r"\bwhere (?:it|they|the file|the files) lies?\b",
    "'what ..., that ...'": r"\b[Ww]hat \w[^.,;:?]{2,60}, (?:that|this|is|are)\b",
    "'such as do'": r"\b(?:[Tt]hose|[Ss]uch) as (?:are|have|do)\b",
    "'so that' with a result": r", so that (?:it|they|there) (?:is|are|was|were)\b",
    "'of which' in front": r"\b(?:[Oo]ne|some|all|none|many) of which\b",
    "'None but'": r"\b[Nn]one but\b",
    "a private word": r"\b(?:of_coco|of_named|landing|tallies|lattices?|stabs?|rowbar)\b",
}
"""What not to write, and the pattern that finds it."""


def docstrings(path):
    """(line, text) of each docstring of a module, attribute docstrings included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def messages(path):
    """(line, text) of each error message of a module, values left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and node.exc is not None:
            strings = [n.value for n in ast.walk(node.exc) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            yield node.lineno, " x ".join(strings)


def lines_of_prose(path):
    """(line, text) of each line of a page; code, tables and what a benchmark wrote are empty."""
    fenced = generated = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("<!-- benchmarks."):
            generated = line.endswith(": begin -->")
        if line.lstrip().startswith("```"):
            fenced = not fenced
        yield number, "" if fenced or generated or line.lstrip().startswith(("|", "```")) else line


def paragraphs(path):
    """(line, text) of each paragraph of a page."""
    begun, gathered = 0, []
    for number, line in [*lines_of_prose(path), (0, "")]:
        if line.strip():
            begun = begun or number
            gathered.append(line.strip())
        elif gathered:
            yield begun, " ".join(gathered)
            begun, gathered = 0, []


def broken_rules(path, texts):
    return [
        f"{path.relative_to(ROOT)}:{number}: {rule}: {found.group()!r}"
        for number, text in texts
        for rule, pattern in RULES.items()
        for found in re.finditer(pattern, re.sub(r"\s+", " ", re.sub(r"`[^`]*`|\"[^\"]*\"", "x", text)))
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_keep_the_rules_of_language(path):
    assert broken_rules(path, paragraphs(path)) == []


def test_docstrings_keep_the_rules_of_language():
    assert [line for path in MODULES for line in broken_rules(path, docstrings(path))] == []


def test_error_messages_keep_the_rules_of_language():
    assert [line for path in MODULES for line in broken_rules(path, messages(path))] == []


def test_a_module_docstring_opens_with_a_statement():
    opening = {
        str(p.relative_to(ROOT)): (ast.get_docstring(ast.parse(p.read_text())) or "").split("\n")[0] for p in MODULES
    }
    assert [name for name, line in opening.items() if not line] == []
    assert [name for name, line in opening.items() if line.endswith("?") and name not in QUESTIONS] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_lines_of_pages_wrap_at_100(path):
    long = [
        number for number, line in lines_of_prose(path) if len(line) > 100 and "](" not in line and "://" not in line
    ]
    assert long == [], "wrap these lines"
