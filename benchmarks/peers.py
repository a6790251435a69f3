"""How does ndzarr compare with the libraries that people use today, and does it reach its targets?

    python -m benchmarks.peers                            # everything; five to ten minutes with all peers
    python -m benchmarks.peers --quick                    # a small image, once: to see that it works
    python -m benchmarks.peers --only crops,many          # some of it
    python -m benchmarks.peers --dir data --out docs/benchmarks.md --json peers.json

It makes a photograph-like image, writes it in every format, checks that every reader gives the same pixels, lets them
take turns, and prints a table per item and one of all targets.  Peers that are not installed are left out by name.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from benchmarks import reading, starting, writing
from benchmarks.data import Data, version_of
from benchmarks.reading import Settings
from benchmarks.report import Report, Section, insert

ITEMS: dict[str, Callable[[Data, Settings], Section]] = {
    "crops": reading.crops,
    "labels": reading.labelled,
    "many": reading.many,
    "scale": reading.scale,
    "growth": reading.growth,
    "transcode": writing.transcode,
    "import": starting.starting,
}
IMAGES = Path(__file__).with_name("photographs.py")
"""What makes the image: --dir keeps the files of each version of it apart."""
QUICK = {"size": 2048, "crops": 40, "rounds": 1}
FULL = {"size": 8192, "crops": 300, "rounds": 3}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for; returns how many targets are missed."""
    args = _arguments(argv)
    settings = Settings(args.crops, args.rounds, args.seed)
    report = Report(f"{args.size} x {args.size} x 3 uint8, {args.crops} crops, {args.rounds} rounds, seed {args.seed}")
    with nullcontext(args.dir) if args.dir else tempfile.TemporaryDirectory(prefix="ndzarr-peers-") as folder:
        data = Data(Path(folder) / f"{args.size}-{version_of(IMAGES)}", args.size)
        for name in args.only:
            section = ITEMS[name](data, settings)
            report.sections.append(section)
            print(section, end="\n\n", flush=True)
    print(report.targets())
    if args.json:
        args.json.write_text(json.dumps(report.as_json(), indent=1))
    if args.out:
        insert(args.out, report.markdown())
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small image, few crops: numbers mean little")
    parser.add_argument("--size", type=int, help="edge of the image in pixels, a multiple of 2048 (8192)")
    parser.add_argument("--crops", type=int, help="windows per race (300)")
    parser.add_argument("--rounds", type=int, help="times that each is read (3)")
    parser.add_argument("--seed", type=int, default=0, help="of the windows (0)")
    parser.add_argument("--only", type=_items, default=list(ITEMS), help=f"of {','.join(ITEMS)}")
    parser.add_argument("--dir", type=Path, help="keep the data here, and use what is there")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--out", type=Path, help="put the tables between the markers of this page")
    args = parser.parse_args(argv)
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def _items(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in ITEMS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(ITEMS)}")
    return names


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of the peers: their deprecations say nothing about speed
    sys.exit(main())
