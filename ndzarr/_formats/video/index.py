"""Index of a video: which frames it has, when each is shown, and from which packet each can be decoded.

1. Look at all packets without decoding them.  Sorted by timestamp, those that are to be shown are the frames.
2. Decode the beginning and the end to check this: there, decoders leave out frames whose references are missing, and
   files are cut.
3. If the check fails (timestamps that are missing, doubled or wrong; fields in packets of their own; damage), decode
   everything once.  What comes out is the index.
4. If frames decoded from the first keys differ from those decoded from the beginning, keep only the keys that the
   decoder confirms.

A frame is decoded from the last key packet whose own frame is shown no later.  An index that took long to make is kept
in the cache directory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from ndzarr._files import cache_root, read_bytes, replacing, settle, signature
from ndzarr._formats.video.decode import (
    MISSING,
    Array,
    Decoder,
    Mark,
    NumberedFrame,
    ThreadsFailed,
    VideoDecoding,
    frame_times,
    is_reordered,
    mark_packet,
    seek_key,
    stated,
)
from ndzarr._progress import progress_bar
from ndzarr._remote.files import RemotePath

BEGINNING = 32
"""Number of frames at the beginning that are decoded to check the index, and within which keys are tried."""
KEYS_TRIED = 2
"""Number of keys that are tried: if all frames look alike to the container, one may be a key by chance."""
SCHEMA = 3
"""Version of the kept files; to be raised when the fields of `Index` change, or how it is made."""
SLOW = 0.1
"""Least number of seconds of work for which an index is kept, unless told otherwise."""
MOST_KEPT = 1000
"""Maximum number of indexes that are kept."""
_ARRAYS = ("ticks", "order", "keys", "marks")
"""The first fields of `Index`, in order."""


@dataclass(frozen=True)
class Index:
    """The packets and frames of a video."""

    ticks: Array
    """Timestamp of each packet's frame, `MISSING` where there is none; int64, shape (packets,)."""
    order: Array
    """Packet of each frame in display order; int64, shape (t,)."""
    keys: Array
    """Numbers of the packets at which decoding can begin; int64, shape (keys,)."""
    marks: Array
    """What tells each key from other packets, see `Mark`; int64, shape (keys, 4)."""
    base: Fraction
    """Seconds per tick."""
    rate: Fraction | None
    """Frames per second, if known."""
    end: int
    """Tick at which the last packet's frame is shown no more."""
    mapped: bool = True
    """False if it is unknown which packet becomes which frame; `order` is then 0, 1, 2, ..."""
    notes: tuple[str, ...] = ()
    """What is wrong with the file."""

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.order)

    @cached_property
    def _times(self) -> tuple[Array, str | None]:
        ticks = self.ticks[self.order] if self.mapped else np.full(len(self), MISSING)
        return frame_times(ticks, self.base, self.rate)

    @property
    def times(self) -> Array:
        """Seconds at which each frame is shown, shape (t,)."""
        return self._times[0]

    @property
    def time_notes(self) -> tuple[str, ...]:
        """What is wrong with the timestamps."""
        return () if self._times[1] is None else (self._times[1],)

    @cached_property
    def frame_of(self) -> Array:
        """Frame that each packet becomes, -1 if none; shape (packets,)."""
        out = np.full(len(self.ticks), -1, np.int64)
        if self.mapped:
            out[self.order] = np.arange(len(self.order))
        return out

    @cached_property
    def starts(self) -> tuple[Array, Array]:
        """(frame, position in `keys`) of each key whose frame is shown, sorted by frame."""
        frames = self.frame_of[self.keys]
        shown = np.flatnonzero(frames >= 0)
        by_frame = shown[np.argsort(frames[shown], kind="stable")]
        return frames[by_frame], by_frame

    def start_of(self, frame: int) -> int:
        """Return the position in `starts` of the key to decode a frame from, -1 for the beginning of the file."""
        return int(np.searchsorted(self.starts[0], frame, side="right")) - 1


class IndexRecorder:
    """Builds an index from the packets and frames of a video as they come."""

    def __init__(self) -> None:
        self._ticks: list[int] = []
        self._keys: list[int] = []
        self._marks: list[Mark] = []
        self._hidden: list[int] = []
        self._shown: list[int | None] = []
        self._confirmed: set[int | None] = set()
        self._end = MISSING
        self._doubtful = False

    def add_packet(self, number: int, packet: Any, is_key: bool | None = None) -> None:
        """
        Record a packet before it is decoded; a packet that comes again is ignored.

        `is_key` says if decoding can begin at it; the packet does if that is None.
        """
        if number < len(self._ticks):
            return
        self._ticks.append(stated(packet.pts))
        if self._ticks[-1] != MISSING:
            self._end = max(self._end, self._ticks[-1] + int(packet.duration or 0))
        self._doubtful = self._doubtful or packet.is_corrupt
        if packet.is_keyframe if is_key is None else is_key:
            self._keys.append(number)
            self._marks.append(mark_packet(packet))
        if packet.is_discard:
            self._hidden.append(number)

    def add_frame(self, number: int | None, frame: Any) -> None:
        """Record a frame and the number of its packet, in display order."""
        self._shown.append(number)
        if frame.key_frame or int(frame.pict_type) == 1:  # the decoder says that it needs no other frame
            self._confirmed.add(number)

    def index_from_packets(self, decoder: Decoder) -> Index | None:
        """Return the index that follows from timestamps; None if they do not give the frames and their order."""
        shown = np.ones(len(self._ticks), bool)
        shown[self._hidden] = False
        numbers = np.flatnonzero(shown)
        ticks = np.array(self._ticks, np.int64)[numbers]
        if self._doubtful or not len(ticks) or (ticks == MISSING).any() or not is_reordered(ticks):
            return None
        return self._index(decoder, numbers[np.argsort(ticks)], True)

    def index_from_frames(self, decoder: Decoder, trust_keys: bool = True) -> Index:
        """Return the index that follows from the decoded frames; without trust, with confirmed keys only."""
        if not trust_keys:
            held = [k for k, number in enumerate(self._keys) if number in self._confirmed]
            self._keys, self._marks = [self._keys[k] for k in held], [self._marks[k] for k in held]
        mapped = None not in self._shown and len(set(self._shown)) == len(self._shown)
        return self._index(decoder, np.array(self._shown if mapped else range(len(self._shown)), np.int64), mapped)

    def _index(self, decoder: Decoder, order: Array, mapped: bool) -> Index:
        return Index(
            ticks=np.array(self._ticks, np.int64),
            order=order,
            keys=np.array(self._keys, np.int64),
            marks=np.array(self._marks, np.int64).reshape(-1, 4),
            base=decoder.base,
            rate=decoder.rate,
            end=self._end,
            mapped=mapped,
            notes=tuple(decoder.trouble),
        )


def video_index(path: str, slow: float = SLOW) -> Index:
    """Return the index of a video, from the cache directory or made now; it is kept if that took `slow` seconds."""
    file = _kept_file(path)
    with suppress(OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):  # missing, or cut by a full disk
        index = _load(file)
        os.utime(file)
        return index
    if not isinstance(path, RemotePath):
        settle(os.stat(path).st_mtime_ns)
    begun = time.perf_counter()
    index = _make_index(path)
    if time.perf_counter() - begun > slow and _kept_file(path) == file:
        with suppress(OSError):  # cannot be written: it will be made again
            _save(file, index)
    return index


def _make_index(path: str) -> Index:
    index, decoded = _scan(path), None
    if index is None or not _beginning_agrees(path, index) or not _end_agrees(path, index):
        decoded = _decode_all(path)
        index = decoded[0].index_from_frames(decoded[1])
    if _keys_hold(path, index):
        return index
    recorder, decoder = decoded or _decode_all(path)
    return recorder.index_from_frames(decoder, trust_keys=False)


def _indexing(path: str, unit: str) -> AbstractContextManager[Callable[..., None]]:
    """Return a progress bar for a look at the whole file, which nobody asked for: on terminals only."""
    return progress_bar(None, f"indexing {os.path.basename(path)}", unit, sys.stderr.isatty())


def _scan(path: str) -> Index | None:
    if isinstance(path, RemotePath) and (index := _scan_header(path)) is not None:
        return index
    recorder = IndexRecorder()
    with Decoder(path) as decoder, _indexing(path, "packet") as advance:
        for number, packet in enumerate(decoder.packets()):
            recorder.add_packet(number, packet)
            advance()
        return recorder.index_from_packets(decoder)


def _scan_header(path: RemotePath) -> Index | None:
    """
    Look at the packets of an MP4 without fetching them: its index tells all but their bytes; None for other files.

    FFmpeg reads zeros in place of what was not fetched, and takes keys from the index.
    """
    recorder = IndexRecorder()
    with Decoder(path) as decoder:
        if not decoder.container.format.name.startswith("mov,mp4"):
            return None
        # Not in PyAV 16; then all packets are fetched.  Those of fragments come with the packets.
        entries = getattr(decoder.stream, "index_entries", None)
        if not entries or (len(entries) != decoder.stream.frames and not path.mapped):
            return None
        number = -1
        path.blocks.hollow = True
        try:
            for number, packet in enumerate(decoder.packets()):
                if number >= len(entries) or (packet.pos, packet.size) != (entries[number].pos, entries[number].size):
                    return None
                recorder.add_packet(number, packet, bool(entries[number].is_keyframe))
        finally:
            path.blocks.hollow = False
        return recorder.index_from_packets(decoder) if number + 1 == len(entries) else None


def _decode_all(path: str) -> tuple[IndexRecorder, Decoder]:
    recorder = IndexRecorder()
    decoding = VideoDecoding(path, recorder.add_packet)
    with _indexing(path, "frame") as advance:
        for number, frame in decoding:
            recorder.add_frame(number, frame)
            advance()
    assert decoding.decoder is not None
    return recorder, decoding.decoder


def _beginning_agrees(path: str, index: Index) -> bool:
    with Decoder(path) as decoder:
        return _agree(islice(decoder.frames(enumerate(decoder.packets())), BEGINNING), index.order[:BEGINNING])


def _end_agrees(path: str, index: Index) -> bool:
    frames, positions = index.starts
    if not len(frames):
        return False
    first = int(frames[-1])
    with Decoder(path) as decoder:
        packets = seek_key(decoder, index.keys, index.marks, int(positions[-1]))
        decoded = decoder.frames(packets)
        # Leave out frames that are shown before the key: their references are missing.
        return _agree((i for i in decoded if i[0] is None or index.frame_of[i[0]] >= first), index.order[first:])


def _agree(decoded: Iterator[NumberedFrame], expected: Array) -> bool:
    try:
        return bool([number for number, _ in decoded] == expected.tolist())
    except ThreadsFailed:
        return False


def _keys_hold(path: str, index: Index) -> bool:
    """Return False if a frame decoded from a key differs from the same frame decoded from the beginning."""
    frames, positions = index.starts
    near = positions[(frames > 0) & (frames < BEGINNING)][-KEYS_TRIED:]
    if not len(near):
        return True
    try:
        found = dict(first for k in near if (first := _first_from_key(path, index, int(k))) is not None)
        return found.items() <= _from_beginning(path, set(found)).items()
    except ThreadsFailed:  # the false key gives the decoder nothing to begin with
        return False


def _first_from_key(path: str, index: Index, k: int) -> tuple[int, int] | None:
    """Return (packet, digest) of the first frame decoded from a key and shown no earlier; None if none comes soon."""
    begins = index.frame_of[index.keys[k]]
    with Decoder(path) as decoder:
        for number, frame in decoder.frames(seek_key(decoder, index.keys, index.marks, k)):
            if number is not None and begins <= index.frame_of[number]:
                return (number, _digest(frame)) if index.frame_of[number] < 2 * BEGINNING else None
    return None


def _from_beginning(path: str, wanted: set[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    with Decoder(path) as decoder:
        for number, frame in decoder.frames(enumerate(decoder.packets())):
            if number in wanted:
                found[number] = _digest(frame)
                if len(found) == len(wanted):
                    break
    return found


def _digest(frame: Any) -> int:
    """Return a checksum of the pixels of all planes, without the padding of their rows."""
    found = 0
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        found = zlib.crc32(rows.tobytes(), found)
    return found


def _kept_file(path: str) -> Path:
    state: Any = path.signature if isinstance(path, RemotePath) else signature(path)
    name = str(path) if isinstance(path, RemotePath) else os.path.realpath(path)
    key = [SCHEMA, name, state, av.library_versions["libavcodec"]]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    return cache_root() / "video-indexes" / f"{digest}.npz"


def _load(file: Path) -> Index:
    with np.load(io.BytesIO(read_bytes(file)), allow_pickle=False) as data:
        facts = json.loads(str(data["facts"]))
        base, rate, notes = Fraction(facts["base"]), facts["rate"], tuple(facts["notes"])
        ticks, order, keys, marks = (data[name] for name in _ARRAYS)
        rate = None if rate is None else Fraction(rate)
        return Index(ticks, order, keys, marks, base, rate, facts["end"], facts["mapped"], notes)


def _save(file: Path, index: Index) -> None:
    rate = None if index.rate is None else str(index.rate)
    facts = json.dumps(
        {"base": str(index.base), "rate": rate, "end": index.end, "mapped": index.mapped, "notes": index.notes}
    )
    arrays = {name: getattr(index, name) for name in _ARRAYS}
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part, open(part, "wb") as out:
        np.savez_compressed(out, facts=facts, **arrays)
    kept = sorted(file.parent.glob("*.npz"), key=os.path.getmtime)
    for old in kept[: max(0, len(kept) - MOST_KEPT)]:
        old.unlink(missing_ok=True)
