"""Which chunk edge, channel grouping and codec let a small window be read fastest, at what size on disk?

This is the study that ndzarr's presets are chosen by. ``python -m benchmarks.layouts --out docs/layouts.md`` prints its
tables and puts them below the prose of that page; ``--quick`` runs a subset in under a minute.

1. Make four kinds of data (:mod:`benchmarks.photographs`): a photograph, multispectral reflectances, an elevation
   model, a class map.
2. Encode every chunk of an image under each *layout* (codec, grouping of channels, chunk edge) into one buffer with
   offsets, which is what a shard is (:mod:`~benchmarks.layouts.codecs`, :mod:`~benchmarks.layouts.chunks`).
3. Read random windows as ndzarr does: look each touched chunk up, check its crc32c, decode it into a scratch array,
   copy the part that the window wants. One thread, a plain Python loop.
4. Race the layouts on the same windows in turn, so that a noisy machine disturbs all of them alike, and take medians
   of the thread's processor time: everything is in memory, so on a quiet machine that is the time that passes
   (:mod:`~benchmarks.layouts.measurement`).
5. Name the candidates that nothing else beats in both latency and size, and apply the stated rules for the presets
   (:mod:`~benchmarks.layouts.choice`).

MB are 10^6 bytes of pixels, windows are square, and ``ratio`` is bytes of pixels over bytes stored.
"""
