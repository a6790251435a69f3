"""What does ``python -m benchmarks.layouts`` run, in which order?"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numcodecs.blosc

import benchmarks.layouts
from benchmarks.layouts.candidates import KINDS
from benchmarks.layouts.choice import recommend
from benchmarks.layouts.decoding import study_alignment, study_blocksizes, study_partial
from benchmarks.layouts.measurement import Settings
from benchmarks.layouts.report import Report, environment, write
from benchmarks.layouts.space_time import study_space_time
from benchmarks.layouts.studies import (
    study_codecs,
    study_edges,
    study_grouping,
    study_realism,
    study_shards,
    study_sizes,
)
from benchmarks.layouts.threads import study_threads


def run(settings: Settings) -> str:
    """Run all studies and return what they printed."""
    numcodecs.blosc.use_threads = False  # set here, not on import: asv imports this module, and times ndzarr
    report, began = Report(), time.perf_counter()
    environment(report)
    study_realism(report)
    chosen = {}
    for kind in KINDS:
        chosen[kind.name] = recommend(report, kind, study_codecs(report, kind, settings), settings)
    study_sizes(report, settings, chosen)
    study_grouping(report, settings)
    for kind in KINDS[:1] if settings.quick else KINDS:
        study_edges(report, kind, chosen[kind.name], settings)
    study_blocksizes(report, settings)
    study_partial(report, settings)
    study_alignment(report, settings)
    study_threads(report, settings)
    study_shards(report)
    study_space_time(report, settings)
    report.say(f"\nThe run took {time.perf_counter() - began:.0f} s.")
    return "\n".join(report.lines)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.layouts", description=benchmarks.layouts.__doc__.partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="a subset, on smaller images, in under a minute")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a Markdown page to put the tables into")
    arguments = parser.parse_args()
    text = run(Settings(arguments.quick))
    if arguments.out:
        write(arguments.out, text)


if __name__ == "__main__":
    main()
