"""Docstrings for the site: what a function returns is a sentence here, which griffe would take for a type."""

from __future__ import annotations

import re
from typing import Any

import griffe


class ReturnedSentences(griffe.Extension):
    """Describes the types of sections `Returns` and `Yields`."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Put the annotation of what a function returns above the sentence."""
        if func.docstring is not None and func.returns is not None:
            kind = str(func.returns)

            def described(found: re.Match[str]) -> str:
                return f"{found[1]}{kind}\n" + "".join(f"    {line}\n" for line in found[2].splitlines())

            pattern = r"^((?:Returns|Yields)\n-+\n)((?:.+\n?)+)"
            func.docstring.value = re.sub(pattern, described, func.docstring.value, flags=re.MULTILINE)
