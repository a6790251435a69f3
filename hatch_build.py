"""
Build of the compiled core, beside its source: for editable installs as for wheels.

Where no compiler is, the package is installed without it and reads the Python way. `NDZARR_CORE=require` makes that an
error, for wheels that are published. `python hatch_build.py` builds the core in a clone.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "ndzarr/_store/_core.c"
MINIMUM = (3, 11)
"""The oldest Python whose stable ABI the core keeps to: one wheel per platform serves it and all later ones."""
_MATHS = ("-ffp-contract=off", "-fno-trapping-math")
"""Every operation is rounded, as numpy does it, and may be one of vectors."""


def build(root: str) -> str:
    """Compile the core and put it beside its source, at once; return its path below `root`."""
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    source = Path(root, SOURCE)
    name = SOURCE.removesuffix(".c").replace("/", ".")
    flags = ["/O2", "/std:c11"] if sys.platform == "win32" else ["-O3", "-std=gnu11", *_MATHS]
    macros = [("SOURCE_CRC", str(zlib.crc32(source.read_bytes()) & 0x7FFFFFFF))]  # by which an old build is known
    extension = Extension(name, [str(source)], define_macros=macros, extra_compile_args=flags, py_limited_api=True)
    command = build_ext(Distribution({"name": "ndzarr", "packages": [], "ext_modules": [extension]}))
    with tempfile.TemporaryDirectory(prefix=".core-", dir=source.parent) as work:
        command.build_lib = command.build_temp = work
        command.ensure_finalized()
        command.run()
        made = Path(command.get_ext_fullpath(name))
        os.replace(made, source.parent / made.name)  # another process may be using, or building, the one that is there
        return f"{Path(SOURCE).parent.as_posix()}/{made.name}"


class CustomBuildHook(BuildHookInterface[Any]):
    """Puts the core into wheels."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; `version` is 'editable' or 'standard'."""
        from setuptools import errors

        wanted = os.environ.get("NDZARR_CORE", "")
        if wanted == "0":
            return
        try:
            built = build(self.root)
        except (errors.BaseError, errors.CompileError, errors.LinkError) as error:
            if wanted == "require":
                raise
            self.app.display_warning(f"ndzarr is installed without its compiled core, and reads more slowly: {error}")
            return
        platform = self.build_config.builder.get_best_matching_tag().rpartition("-")[2]
        build_data["artifacts"].append(f"/{built}")
        build_data["pure_python"] = False
        build_data["tag"] = f"cp{MINIMUM[0]}{MINIMUM[1]}-abi3-{platform}"


if __name__ == "__main__":
    print(build(str(Path(__file__).parent)))
