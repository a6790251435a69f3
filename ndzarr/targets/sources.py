"""Which windows slide over named sources, which have no annotations?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.targets.grid import lattice
from ndzarr.targets.options import several
from ndzarr.targets.spaces import Spaces, column_of_ids
from ndzarr.targets.tables import as_columns

if TYPE_CHECKING:
    import pandas

    from ndzarr.sampler.named import Sampler


class SourceTargets:
    """
    Tables of targets of an `ndzarr.Sampler`: `sampler.targets`.

    Parameters
    ----------
    sampler
        Whose sources are meant.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        """The `ndzarr.Sampler`."""

    def __repr__(self) -> str:
        return f"<targets of {repr(self.sampler).splitlines()[0]}>"

    def grid(
        self,
        window_dims: Any,
        overlap: Any = 0,
        *,
        keep_borders: bool | str = True,
        ids: Iterable[Any] | None = None,
    ) -> pandas.DataFrame:
        """
        Sliding windows in space; along other axes, such as t, each has the whole extent.

        Parameters
        ----------
        window_dims, overlap, keep_borders
            As for `CocoSampler.targets.grid`.
        ids
            Names of sources; all if left out.

        Returns
        -------
        One row per window, by source, then y and x: `key`, `cx cy width height`.

        Raises
        ------
        TargetError
            An option is not understood, or there is no such source.

        Examples
        --------
        >>> import ndzarr, numpy as np, tempfile
        >>> pyr = ndzarr.transcode(np.zeros((64, 96), "u1"), tempfile.mkdtemp() + "/a.zarr")
        >>> ndzarr.Sampler({"a": pyr}).targets.grid((64, 64))
          key    cx    cy  width  height
        0   a  32.0  32.0     64      64
        1   a  64.0  32.0     64      64
        """
        import pandas

        names = list(self.sampler.sources if ids is None else several(ids))
        sizes = [self.sampler.pyramid(name).sizes for name in names]
        height, width = (np.array([size[axis] for size in sizes], np.int64) for axis in ("y", "x"))
        spaces = Spaces("source", column_of_ids(names), height, width, ((None,),) * len(names))
        windows = lattice(spaces, window_dims, overlap, None, 0, keep_borders).windows()
        return pandas.DataFrame(as_columns(windows, spaces))
