"""
The codec by which zarr-python reads a store of the preset 'jpeg'.

zarr-python finds it by its entry point wherever ndzarr is installed. Name, configuration and bytes are those of
`imagecodecs.zarr.Jpeg` (imagecodecs >= 2026.10): where ndzarr is not installed, `imagecodecs.zarr.register_codecs()`
does the same. ndzarr's own reads go through `codecs.ChunkCodec` instead.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import PIL.Image
from zarr.abc.codec import ArrayBytesCodec

from ndzarr._store.codecs import JPEG

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer


@dataclass(frozen=True)
class Jpeg(ArrayBytesCodec):
    """A chunk (..., y, x) or (..., y, x, 3) of uint8, all other axes of length 1, as a JPEG."""

    is_fixed_size = False
    level: int = 90
    """Quality from 1 to 100."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the codec that its metadata describe."""
        return cls(**(data.get("configuration") or {}))

    def to_dict(self) -> dict[str, Any]:
        """Return its metadata."""
        return {"name": JPEG, "configuration": {"level": self.level}}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Raise: the size is not known before encoding."""
        raise NotImplementedError

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        import imagecodecs

        raw = chunk_bytes.to_bytes()
        with PIL.Image.open(io.BytesIO(raw)) as header:
            if header.width * header.height > prod(chunk_spec.shape):
                raise ValueError(f"a JPEG of {header.width} x {header.height} in a chunk of {chunk_spec.shape}")
        pixels = imagecodecs.jpeg8_decode(raw)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(pixels.reshape(chunk_spec.shape))

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        import imagecodecs

        pixels = np.squeeze(np.ascontiguousarray(chunk_array.as_numpy_array()))
        return chunk_spec.prototype.buffer.from_bytes(imagecodecs.jpeg8_encode(pixels, level=self.level))

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)
