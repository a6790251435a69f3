from collections.abc import Sequence

from typing_extensions import Buffer

def bind(addresses: Sequence[int], /) -> None: ...
def decode(
    axes: int, formats: Buffer, steps: Buffer, outputs: list[Buffer], chunks: Buffer, parts: Buffer, threads: int, /
) -> list[int]: ...
