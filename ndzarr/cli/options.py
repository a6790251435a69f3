"""How are windows, names and lengths written on the command line?"""

from __future__ import annotations

from typing import Any

import click


class Lengths(click.ParamType):
    """`y=256,x=256` as a dictionary."""

    name = "axis=n,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, int]:
        if isinstance(value, dict):
            return value
        try:
            return {axis.strip(): int(n) for axis, n in (item.split("=") for item in value.split(","))}
        except ValueError:
            self.fail(f"{value!r}: expected lengths by axis, such as y=256,x=256", param, ctx)


class Names(click.ParamType):
    """`r,g,b` as a tuple of names."""

    name = "name,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = value if isinstance(value, tuple) else tuple(name.strip() for name in value.split(","))
        if not all(names):
            self.fail(f"{value!r}: expected names with commas between them, such as r,g,b", param, ctx)
        return names


class Interval(click.ParamType):
    """`0:512` as a slice; either end may be left out."""

    name = "start:stop"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> slice:
        if isinstance(value, slice):
            return value
        parts = value.split(":")
        try:
            start, stop = (int(part) if part.strip() else None for part in parts)
        except ValueError:
            self.fail(f"{value!r}: expected a half-open interval of pixels, such as 0:512", param, ctx)
        return slice(start, stop)


class Indices(click.ParamType):
    """`3` or `0,2,5` as a list of indices, `0:10` or `0:10:2` as a slice."""

    name = "index|start:stop"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> slice | list[int]:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        try:
            if ":" in value:
                return slice(*(int(part) if part.strip() else None for part in value.split(":")))
            return [int(part) for part in value.split(",")]
        except (ValueError, TypeError):
            self.fail(f"{value!r}: expected an index, several (0,2,5), or a half-open interval (0:10)", param, ctx)
