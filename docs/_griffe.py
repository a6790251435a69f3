"""Docstrings for the site: what a function returns is a sentence here, which griffe would take for a type."""

from __future__ import annotations

import re
from typing import Any

import griffe


class ReturnedSentences(griffe.Extension):
    """Makes a paragraph of each section `Returns`, and of `Yields`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is not None:
            pattern = r"^(Returns|Yields)\n-+\n((?:.+\n?)+)"
            obj.docstring.value = re.sub(pattern, r"**\1:** \2", obj.docstring.value, flags=re.MULTILINE)
