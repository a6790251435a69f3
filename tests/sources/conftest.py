"""What the tests of sources read: pixels like a photograph's, and a fake colour profile."""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ndzarr._formats.registry import open_source


@pytest.fixture(scope="session")
def bundled() -> Callable[[str], Path]:
    """Find photographs that scikit-image brings along, without importing it, which takes long."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        pytest.skip("scikit-image is not installed")

    def find(name: str) -> Path:
        path = Path(str(spec.origin)).parent / "data" / name
        if not path.exists():
            pytest.skip(f"this scikit-image has no {name}")
        return path

    return find


@pytest.fixture(scope="session")
def photo(bundled: Callable[[str], Path]) -> np.ndarray:
    """An RGB photograph, (y, x, c) uint8, of odd size."""
    with Image.open(bundled("astronaut.png")) as image:
        return np.ascontiguousarray(np.asarray(image)[100:277, 120:321])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def read_all() -> Callable[..., np.ndarray]:
    def read(source: Any, **options: Any) -> np.ndarray:
        with open_source(source, **options) as opened:
            pixels = opened.read({})
            assert pixels.shape == opened.shape
            assert pixels.dtype == opened.dtype
            assert len(opened.dims) == len(opened.shape)
            assert len(opened.channels) == len(set(opened.channels)) == opened.shape[opened.dims.index("c")]
            return pixels.copy()

    return read


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.fixture(scope="session")
def cmyk_profile() -> bytes:
    """A CMYK profile whose table has two points per ink, put together after ICC.1:2001."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    table = bytearray()
    for i in range(16):
        c, m, y, k = i >> 3 & 1, i >> 2 & 1, i >> 1 & 1, i & 1
        light = max(0, 100 - 30 * c - 25 * m - 8 * y - 70 * k)
        a, b = (-30 * c + 60 * m - 5 * y) * (1 - 0.8 * k), (-35 * c - 5 * m + 70 * y) * (1 - 0.8 * k)
        table += bytes([round(light * 2.55), round(a + 128), round(b + 128)])
    white = fixed(0.9642) + fixed(1) + fixed(0.8249)
    ramp, unit = bytes(range(256)), b"".join(fixed(v) for v in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 10) + b"test inks\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + white,
        b"A2B0": b"mft1\0\0\0\0\x04\x03\x02\0" + unit + ramp * 4 + bytes(table) + ramp * 3,
    }
    index, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        index += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", 128 + len(index) + len(body), b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white + bytes(48)
    return head + index + body
