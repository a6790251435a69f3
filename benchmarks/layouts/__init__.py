"""The study that ndzarr's presets are chosen by: chunk edge, grouping of channels and codec, in latency and size.

`python -m benchmarks.layouts --out docs/layouts.md` prints its tables and puts them below the prose of that page;
`--quick` runs a subset.
"""
