"""Parts of pages that are made when the site is built, so that they are true: the help of the commands."""

from __future__ import annotations

from typing import Any

import click


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the help of all commands in place of `<!-- commands -->`."""
    return markdown.replace("<!-- commands -->", _commands()) if "<!-- commands -->" in markdown else markdown


def _commands() -> str:
    from ndzarr.cli import main

    top = click.Context(main, info_name="ndzarr", max_content_width=100)
    pages = []
    for name in main.list_commands(top):
        command = main.get_command(top, name)
        assert command is not None
        pages += _pages(command, click.Context(command, top, info_name=name, max_content_width=100))
    return "\n\n".join(pages)


def _pages(command: click.Command, context: click.Context) -> list[str]:
    found = [f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            part = command.get_command(context, name)
            assert part is not None
            found += _pages(part, click.Context(part, context, info_name=name, max_content_width=100))
    return found
