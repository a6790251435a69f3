"""What is made when the site is built, so that it is true: the help of the commands, tutorials as notebooks."""

from __future__ import annotations

import json
import re
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Put the help of all commands in place of `<!-- commands -->`, and a link to the notebook on top of a tutorial."""
    if page.file.src_uri in config["tutorials"]:
        name = page.file.src_uri.removeprefix("tutorials/").removesuffix(".md") + ".ipynb"
        title, _, rest = markdown.partition("\n")
        return f"{title}\n\n<small>[This page as a notebook]({name})</small>\n{rest}"
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


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add each tutorial as a notebook."""
    pages = [file for file in files if re.fullmatch(r"tutorials/(?!index)\w+\.md", file.src_uri)]
    config["tutorials"] = {page.src_uri for page in pages}
    for page in pages:
        name = page.src_uri.removesuffix(".md") + ".ipynb"
        files.append(File.generated(config, name, content=json.dumps(notebook(page.content_string), indent=1)))
    return files


def notebook(markdown: str) -> dict[str, Any]:
    """Return a page as a notebook: its Python is cells, and so is what stands between."""
    cells: list[dict[str, Any]] = []
    for k, text in enumerate(re.split(r"^```python\n(.*?)^```$", markdown, flags=re.MULTILINE | re.DOTALL)):
        source = re.sub(r"<!--.*?-->\n?", "", text).strip()
        if source and k % 2:
            cells.append(
                {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
            )
        elif source:
            cells.append({"cell_type": "markdown", "metadata": {}, "source": source})
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
