"""Which windows are there to choose from?

`sampler.targets` answers with pandas tables whose rows are targets: `load_sample(row)` loads one, `load_batch(table)`
many.  Every method delegates to the module of its name, and every random choice to its seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ndzarr.sampler.coco import CocoSampler


class Targets:
    """
    Tables of targets of a sampler.

    Parameters
    ----------
    sampler
        Whose images, videos and annotations are meant.
    """

    def __init__(self, sampler: CocoSampler) -> None:
        self.sampler = sampler
        """The `ndzarr.CocoSampler`."""

    def __repr__(self) -> str:
        return f"<targets of {self.sampler!r}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"sampler": self.sampler}  # indexes are built anew where they are needed
