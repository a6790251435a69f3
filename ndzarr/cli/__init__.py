"""What can be done from a shell, and how do errors get there?

Commands are imported when they are run or explained, each from the module of its name, so that `ndzarr --help` is
quick.  An `NdzarrError`, and what a full or forbidden disk raises, is one line on stderr and exit code 1, wrong usage
2, an interrupt 130; any other exception is a defect and shows its traceback.
"""

from __future__ import annotations

import errno
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
    "info": "Say what a pyramid or an image file holds.",
    "crop": "Write a window of a pyramid as an image file.",
    "extract": "Write many windows of a dataset to one store.",
    "cog": "Write pyramids as cloud optimized GeoTIFFs, or check such files.",
    "verify": "Check every byte of pyramids.",
    "cache": "List or tidy up the pyramids that samplers have made.",
    "demo": "Show what ndzarr does, on data made for it.",
}


_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE)
"""What a disk or a permission does is no defect, wherever it happens."""


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
        try:
            with _terminable():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted; what was not complete has been removed.", err=True)
            ctx.exit(130)
        except NdzarrError as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except OSError as error:
            if error.errno not in _OF_THE_MACHINE:
                raise
            where = "" if error.filename is None else f"{error.filename}: "
            raise click.ClickException(f"{where}{error.strerror}") from error


@contextmanager
def _terminable() -> Iterator[None]:
    """End as in order when the system asks to (a batch queue's time limit): what was not complete is removed."""

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
@click.version_option(package_name="ndzarr", message="%(prog)s %(version)s")
def main() -> None:
    """Fast random access to small windows of large images and videos."""
