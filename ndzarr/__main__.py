"""`python -m ndzarr`: the command line."""

from __future__ import annotations

from ndzarr.cli import main

if __name__ == "__main__":
    main(prog_name="ndzarr")
