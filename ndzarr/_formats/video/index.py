"""Which frames does a video have, and from where can each be decoded, without decoding all of them?

1. All packets are looked at, none decoded.  Sorted by their timestamps, those that are to be shown are the frames.
2. The beginning and the end are decoded, to see whether that is true: there decoders leave out frames that lack their
   references, and files are cut.
3. Where it is not (timestamps missing, doubled or untrue; fields in packets of their own; damage), everything is
   decoded once, and what came out is the index.
4. Keys that are none (`keys`) are left out: then those count that the decoder confirms.

A frame is decoded from the last packet marked as key whose own frame is shown no later.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ndzarr._files import settle, signature
from ndzarr._formats.video.decode import (
    MISSING,
    Decoder,
    Decoding,
    Mark,
    Numbered,
    ThreadsFailed,
    go,
    mark_of,
    seconds,
    ticks_of,
)

# --- Can a video be decoded from the packets that its container calls keys?


NEAR = 32
"""Frames from the beginning within which keys are tried."""
TRIED = 2
"""Keys that are: of a video of frames that all look alike to the container, one may be a key by chance."""


def confirmed(frame: Any) -> bool:
    """True where the decoder says that a frame needs no other."""
    return bool(frame.key_frame) or int(frame.pict_type) == 1


def keys_hold(path: str, index: Index) -> bool:
    """True unless a frame that is decoded from a key is another than the one decoded from the beginning."""
    frames, positions = index.starts
    near = positions[(frames > 0) & (frames < NEAR)][-TRIED:]
    if not len(near):
        return True
    try:
        found = dict(first for k in near if (first := _first_from(path, index, int(k))) is not None)
        return found.items() <= _from_beginning(path, set(found)).items()
    except ThreadsFailed:  # something that is no key gives the decoder nothing to begin with
        return False


def _first_from(path: str, index: Index, k: int) -> tuple[int, int] | None:
    """(packet, digest) of the first frame that is decoded from a key and shown no earlier; None if none comes soon."""
    begins = index.frame_of[index.keys[k]]
    with Decoder(path) as decoder:
        for number, frame in decoder.frames(go(decoder, index.keys, index.marks, k)):
            if number is not None and begins <= index.frame_of[number]:
                return (number, _digest(frame)) if index.frame_of[number] < 2 * NEAR else None
    return None


def _from_beginning(path: str, wanted: set[int]) -> dict[int, int]:
    """Digests of the frames of some packets."""
    found: dict[int, int] = {}
    with Decoder(path) as decoder:
        for number, frame in decoder.frames(enumerate(decoder.packets())):
            if number in wanted:
                found[number] = _digest(frame)
                if len(found) == len(wanted):
                    break
    return found


def _digest(frame: Any) -> int:
    """Of the bytes of each plane that are pixels for sure; what fills up its rows may be anything."""
    found = 0
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        found = zlib.crc32(rows.tobytes(), found)
    return found


BEGINNING = 32
"""Frames that are decoded to see whether the beginning is as expected."""

Numbers: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Index:
    """The packets and frames of a video."""

    ticks: Numbers
    """When each packet's frame is shown, int64, shape (packets,)."""
    order: Numbers
    """The packet of each frame, in the order in which they are shown, int64, shape (t,)."""
    keys: Numbers
    """Numbers of the packets that decoding can begin at, int64, shape (keys,)."""
    marks: Numbers
    """What tells each of them from other packets, int64, shape (keys, 4); see `Mark`."""
    base: Fraction
    """Seconds per tick."""
    rate: Fraction | None
    """Frames per second, as far as that is known."""
    end: int
    """When the last packet's frame is shown no more, in ticks."""
    mapped: bool = True
    """False where it is not known which packet a frame is made of: `order` then only counts."""
    notes: tuple[str, ...] = ()
    """What is wrong with the file."""

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.order)

    @cached_property
    def _times(self) -> tuple[Numbers, str | None]:
        ticks = self.ticks[self.order] if self.mapped else np.full(len(self), MISSING)
        return seconds(ticks, self.base, self.rate)

    @property
    def times(self) -> Numbers:
        """Seconds, shape (t,)."""
        return self._times[0]

    @cached_property
    def said(self) -> tuple[str, ...]:
        """All notes, also those on timestamps."""
        return self.notes if self._times[1] is None else (*self.notes, self._times[1])

    @cached_property
    def frame_of(self) -> Numbers:
        """The frame that each packet becomes, -1 if none."""
        out = np.full(len(self.ticks), -1, np.int64)
        if self.mapped:
            out[self.order] = np.arange(len(self.order))
        return out

    @cached_property
    def starts(self) -> tuple[Numbers, Numbers]:
        """(first frame that can be decoded from it, position in `keys`) of each key that is shown, by frame."""
        frames = self.frame_of[self.keys]
        shown = np.flatnonzero(frames >= 0)
        by_frame = shown[np.argsort(frames[shown], kind="stable")]
        return frames[by_frame], by_frame

    def start_of(self, frame: int) -> int:
        """Position in `starts` of the last key that a frame can be decoded from, -1 for the beginning of the file."""
        return int(np.searchsorted(self.starts[0], frame, side="right")) - 1


def make_index(path: str) -> Index:
    """
    Look at all packets of a video, and decode what has to be.

    Raises
    ------
    SourceError
        It has no video.
    """
    index, recorder, decoder = _scan(path), None, None
    if index is None or not _begins_so(path, index) or not _ends_so(path, index):
        recorder, decoder = _decode(path)
        index = recorder.index(decoder)
    if keys_hold(path, index):
        return index
    if recorder is None or decoder is None:
        recorder, decoder = _decode(path)
    return recorder.index(decoder, believed=False)


class Recorder:
    """Notes what packets say, and which frames come."""

    def __init__(self) -> None:
        self._ticks: list[int] = []
        self._keys: list[int] = []
        self._marks: list[Mark] = []
        self._hidden: list[int] = []
        self._shown: list[int | None] = []
        self._confirmed: set[int | None] = set()
        self._end = MISSING
        self._doubtful = False

    def __call__(self, number: int, packet: Any) -> None:
        """Take note of a packet before it is decoded; of one that is known, do not."""
        if number < len(self._ticks):
            return
        self._ticks.append(ticks_of(packet))
        if self._ticks[-1] != MISSING:
            self._end = max(self._end, self._ticks[-1] + int(packet.duration or 0))
        self._doubtful = self._doubtful or packet.is_corrupt
        if packet.is_keyframe:
            self._keys.append(number)
            self._marks.append(mark_of(packet))
        if packet.is_discard:
            self._hidden.append(number)

    def shown(self, number: int | None, frame: Any) -> None:
        """Take note of a frame, and of the number of its packet; in the order in which frames are shown."""
        self._shown.append(number)
        if confirmed(frame):
            self._confirmed.add(number)

    def guessed(self, decoder: Decoder) -> Index | None:
        """The index as timestamps have it; None where they do not tell the frames and their order."""
        shown = np.ones(len(self._ticks), bool)
        shown[self._hidden] = False
        numbers = np.flatnonzero(shown)
        ticks = np.array(self._ticks, np.int64)[numbers]
        if self._doubtful or not len(ticks) or (ticks == MISSING).any() or len(np.unique(ticks)) < len(ticks):
            return None
        return self._index(decoder, numbers[np.argsort(ticks)], True)

    def index(self, decoder: Decoder, believed: bool = True) -> Index:
        """
        The index as the frames that came have it.

        Parameters
        ----------
        believed
            Decoding can begin at whatever the container calls a key, not only where the decoder says so, too.
        """
        if not believed:
            held = [k for k, number in enumerate(self._keys) if number in self._confirmed]
            self._keys, self._marks = [self._keys[k] for k in held], [self._marks[k] for k in held]
        mapped = None not in self._shown and len(set(self._shown)) == len(self._shown)
        return self._index(decoder, np.array(self._shown if mapped else range(len(self._shown)), np.int64), mapped)

    def _index(self, decoder: Decoder, order: Numbers, mapped: bool) -> Index:
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


def _scan(path: str) -> Index | None:
    """The index as packets have it; None where that cannot be."""
    recorder = Recorder()
    with Decoder(path) as decoder:
        for number, packet in enumerate(decoder.packets()):
            recorder(number, packet)
        return recorder.guessed(decoder)


def _begins_so(path: str, index: Index) -> bool:
    with Decoder(path) as decoder:
        return _agree(islice(decoder.frames(enumerate(decoder.packets())), BEGINNING), index.order[:BEGINNING])


def _ends_so(path: str, index: Index) -> bool:
    frames, positions = index.starts
    if not len(frames):
        return False
    with Decoder(path) as decoder:
        packets = go(decoder, index.keys, index.marks, int(positions[-1]))
        from_there = (item for item in decoder.frames(packets) if _is_from(item, index, int(frames[-1])))
        return _agree(from_there, index.order[int(frames[-1]) :])


def _is_from(item: Numbered, index: Index, first: int) -> bool:
    """False for frames shown before the key frame that decoding began at, whose references are missing."""
    number = item[0]
    return number is None or bool(index.frame_of[number] >= first)


def _agree(decoded: Iterator[Numbered], expected: Numbers) -> bool:
    """True where the frames that come are those expected."""
    try:
        return bool([number for number, _ in decoded] == expected.tolist())
    except ThreadsFailed:
        return False


def _decode(path: str) -> tuple[Recorder, Decoder]:
    """What decoding everything tells."""
    recorder = Recorder()
    decoding = Decoding(path, recorder)
    for number, frame in decoding:
        recorder.shown(number, frame)
    assert decoding.decoder is not None
    return recorder, decoding.decoder


# --- Which videos have been looked at before, by this person on this machine?


SCHEMA = 3
"""Changes with the fields of `Index`, and with how it is made."""
SLOW = 0.1
"""Seconds that making an index has to take for it to be kept."""
MOST = 1000
"""Indexes that are kept."""


def index_of(path: str) -> Index:
    """
    The index of a video, made now if it is not known.

    Raises
    ------
    SourceError
        It has no video.
    """
    file = _file(path)
    with suppress(OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):  # not there, or cut by a full disk
        index = _load(file)
        os.utime(file)
        return index
    settle(os.stat(path).st_mtime_ns)
    begun = time.perf_counter()
    index = make_index(path)
    if time.perf_counter() - begun > SLOW and _file(path) == file:
        with suppress(OSError):  # no place for it: it will be made again
            _save(file, index)
    return index


def _file(path: str) -> Path:
    import av

    from ndzarr._files import default_root

    told = [SCHEMA, os.path.realpath(path), signature(path), av.library_versions["libavcodec"]]
    key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]
    return default_root() / "video-indexes" / f"{key}.npz"


def _load(file: Path) -> Index:
    with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as data:
        facts = json.loads(str(data["facts"]))
        return Index(
            ticks=data["ticks"],
            order=data["order"],
            keys=data["keys"],
            marks=data["marks"],
            base=Fraction(facts["base"]),
            rate=None if facts["rate"] is None else Fraction(facts["rate"]),
            end=facts["end"],
            mapped=facts["mapped"],
            notes=tuple(facts["notes"]),
        )


def _save(file: Path, index: Index) -> None:
    rate = None if index.rate is None else str(index.rate)
    facts = json.dumps(
        {"base": str(index.base), "rate": rate, "end": index.end, "mapped": index.mapped, "notes": index.notes}
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}-{time.monotonic_ns()}")
    try:
        with open(part, "wb") as out:
            np.savez_compressed(
                out, facts=facts, ticks=index.ticks, order=index.order, keys=index.keys, marks=index.marks
            )
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    kept = sorted(file.parent.glob("*.npz"), key=os.path.getmtime)
    for old in kept[: max(0, len(kept) - MOST)]:
        old.unlink(missing_ok=True)
