"""
The command line `ndzarr`.

A command is imported when it is run or explained, from the module of its name, so that `ndzarr --help` is quick. An
`NdzarrError`, or the error of a full or forbidden disk, is one line on stderr and exit code 1; wrong usage is 2, an
interrupt 130. Any other exception is a defect and shows its traceback.
"""

from __future__ import annotations

import errno
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import click

from ndzarr.errors import NdzarrError, did_you_mean

_COMMANDS = {
    "transcode": "Write images as pyramids.",
    "info": "Describe pyramids and image files.",
    "view": "Show images, annotations and targets in the browser.",
    "crop": "Write a window of a pyramid as an image file.",
    "dataset": "Turn labels of any common form into a kwcoco dataset.",
    "extract": "Write many windows of a dataset to one store.",
    "predict": "Run a model over an image.",
    "export": "Write windows as image files with labels, for other trainers.",
    "cog": "Write pyramids as cloud optimized GeoTIFFs, or check such files.",
    "push": "Copy a store to a bucket.",
    "verify": "Check every byte of pyramids.",
    "cache": "List or prune the pyramids that samplers made.",
    "doctor": "Report what ndzarr runs on, and how fast it reads here.",
    "demo": "Show what ndzarr does, on generated data.",
}

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE)
"""Errors of disks and permissions, which are not defects wherever they happen."""


class _Commands(click.Group):
    """The commands of `_COMMANDS`, each in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"ndzarr.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            ctx.fail(f"there is no command {args[0]!r}{did_you_mean(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.params["verbose"]:
            with _terminable():
                return super().invoke(ctx)
        try:
            with _terminable():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted; what was not complete was removed.", err=True)
            ctx.exit(130)
        except NdzarrError as error:
            raise click.ClickException(_in_options(" ".join(str(error).split()), self, ctx)) from error
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            where = "" if error.filename is None else f"{error.filename}: "
            raise click.ClickException(f"{where}{error.strerror}") from error


def _in_options(message: str, group: click.Group, ctx: click.Context) -> str:
    """Say arguments of Python as options of the command, where it has them: `overwrite=True` is `--overwrite`."""
    command = group.get_command(ctx, ctx.invoked_subcommand or "")
    known = {option.name: option for option in (command.params if command else ()) if isinstance(option, click.Option)}

    def spoken(found: re.Match[str]) -> str:
        option = known.get(found[1])
        if option is None:
            return found[0]
        value = found[2].strip("'\"")
        return option.opts[-1] + ("" if option.is_flag or not value else f" {value}")

    return re.sub(r"\b([a-z_]+)=('[^']*'|\"[^\"]*\"|[\w.:/-]*)", spoken, message)


@contextmanager
def _terminable() -> Iterator[None]:
    """Exit in order on SIGTERM, such as at the time limit of a batch queue: remove what is not complete."""

    def end(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  ndzarr transcode huge.tif -o huge.zarr
  ndzarr info huge.zarr
  ndzarr crop huge.zarr --x 4000:4512 --y 1000:1512 -o crop.png
""",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error, for a report of a fault.")
@click.version_option(package_name="ndzarr", message="%(prog)s %(version)s")
def main(verbose: bool) -> None:
    """Fast random access to small windows of large images and videos."""
